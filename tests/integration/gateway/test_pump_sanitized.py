"""The pump's tests once more, with the compiler watching memory, arithmetic and threads."""

import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
SOURCE = "src/trunkline/gateway/_pump.c"


@pytest.mark.long
@pytest.mark.timeout(900)
@pytest.mark.parametrize(
    ("flags", "libraries", "options"),
    [
        pytest.param(
            ["-fsanitize=address,undefined", "-fno-sanitize-recover=undefined"],
            ["libasan.so", "libubsan.so"],
            {"ASAN_OPTIONS": "detect_leaks=0", "PYTHONMALLOC": "malloc"},
            id="memory",
        ),
        pytest.param(
            ["-fsanitize=thread"],
            ["libtsan.so"],
            {"TSAN_OPTIONS": "report_thread_leaks=0:exitcode=66"},
            id="threads",
        ),
    ],
)
def test_the_pump_is_clean(
    tmp_path: Path, flags: list[str], libraries: list[str], options: dict[str, str]
) -> None:
    for name in ("src", "tests"):
        shutil.copytree(
            ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__", "*.so")
        )
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    subprocess.run(
        [
            "gcc", "-std=c11", "-O1", "-g", "-fPIC", "-shared", "-pthread", *flags,
            "-DPy_LIMITED_API=0x030B0000", f"-I{sysconfig.get_paths()['include']}",
            str(tmp_path / SOURCE), "-o", str(tmp_path / "src/trunkline/gateway/_pump.abi3.so"),
        ],
        check=True,
    )  # fmt: skip
    preloaded = [
        subprocess.run(
            ["gcc", f"-print-file-name={library}"], check=True, capture_output=True, text=True
        ).stdout.strip()
        for library in libraries
    ]
    done = subprocess.run(
        [
            sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider",
            "tests/integration/gateway/test_pump.py", "tests/integration/gateway/test_moving.py",
        ],
        cwd=tmp_path, check=False, capture_output=True, text=True,
        env={**os.environ, **options, "LD_PRELOAD": " ".join(preloaded),
             "PYTHONPATH": f"{tmp_path / 'src'}:{tmp_path}"},
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Sanitizer" not in done.stdout + done.stderr
