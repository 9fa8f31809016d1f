"""What tools print, and which Python they find."""

import json
import sys
from pathlib import Path

import pytest

from trunkline.runtimes.process.commands import Tools
from trunkline.runtimes.process.interpreter import choose_interpreter, own_interpreter


class Log:
    def __init__(self) -> None:
        self.text = ""

    def write(self, text: str) -> None:
        self.text += text


async def run(code: str, tmp_path: Path, log: Log | None) -> tuple[str, ...]:
    result = await Tools({}).run((sys.executable, "-I", "-c", code), cwd=tmp_path, log=log)
    assert result.returncode == 0
    return result.lines


async def test_lines_are_kept_and_logged(tmp_path: Path) -> None:
    log = Log()
    lines = await run("print('one\\r\\ntwo\\n\\nunfinished', end='')", tmp_path, log)
    assert lines == ("one", "two", "", "unfinished")
    assert log.text == "one\ntwo\n\nunfinished\n"


async def test_only_the_last_lines_are_kept(tmp_path: Path) -> None:
    lines = await run("for n in range(1000): print(n)", tmp_path, None)
    assert lines[-1] == "999"
    assert len(lines) == 200


async def test_endless_line_is_cut_up_and_whole(tmp_path: Path) -> None:
    lines = await run("print('x' * 1_000_000)", tmp_path, None)
    assert len(lines) > 1
    assert "".join(lines) == "x" * 1_000_000


async def test_stderr_is_dropped_without_a_log(tmp_path: Path) -> None:
    code = "import sys; print('warning', file=sys.stderr); print('{}')"
    assert await run(code, tmp_path, None) == ("{}",)
    assert "warning" in await run(code, tmp_path, Log())


def fake_uv(tmp_path: Path, minors: list[int]) -> str:
    rows = [
        {
            "path": f"/usr/bin/python3.{minor}",
            "implementation": "cpython",
            "variant": "default",
            "version_parts": {"major": 3, "minor": minor, "patch": 1},
        }
        for minor in minors
    ]
    script = tmp_path / "uv"
    script.write_text(f"#!/bin/sh\ncat <<'END'\n{json.dumps(rows)}\nEND\n")
    script.chmod(0o755)
    return str(script)


@pytest.mark.parametrize(
    ("runtime", "minor", "is_told"),
    [("python_3_50", 50, False), ("python_3_52", 51, True), ("python_3_49", 50, True)],
)
async def test_wanted_python_or_the_nearest(
    tmp_path: Path, runtime: str, minor: int, is_told: bool
) -> None:
    uv = fake_uv(tmp_path, [50, 51])
    found, note = await choose_interpreter(runtime, uv=uv, tools=Tools({}), cwd=tmp_path)
    assert found.path == f"/usr/bin/python3.{minor}"
    expected = f"{runtime} is not on this machine; using Python 3.{minor}.1"
    assert note == (expected if is_told else None)


async def test_own_python_will_do_if_none_is_found(tmp_path: Path) -> None:
    found, note = await choose_interpreter(
        "python_3_50", uv="/bin/false", tools=Tools({}), cwd=tmp_path
    )
    assert found == own_interpreter()
    assert note is not None
