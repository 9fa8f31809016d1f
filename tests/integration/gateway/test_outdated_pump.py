"""A compiled pump that was left by another version isn't used, and somebody is told."""

import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

from trunkline.gateway import _pump

SOURCE = Path(_pump.__file__).with_name("_pump.c")
NUMBER = f"INTERFACE = {_pump.INTERFACE} "
NAMED = "PyModule_AddIntMacro(module, INTERFACE)"
#: What a platform does with it, as far as its log.
GATEWAY = """
import asyncio
from trunkline.gateway.carrier import IS_BUILT, Carrier, Given
from trunkline.gateway.settings import GatewaySettings
from trunkline.platform.doctor import check_relay
from trunkline.telemetry.logs import set_up_logging

set_up_logging()
carrier = Carrier(GatewaySettings())
plain = Given(0, 0, 0, 0)
assert carrier.carry(plain, plain, print) is None
Carrier(GatewaySettings(compiled_relay=False))
print(IS_BUILT, check_relay().is_ok, check_relay().text)
"""


@pytest.mark.parametrize(
    ("old", "new", "number"),
    [
        pytest.param(NUMBER, "INTERFACE = 77 ", 77, id="another"),
        pytest.param(NAMED, "0", 0, id="none"),
    ],
)
def test_the_event_loop_relays_and_the_log_says_what_to_do(
    tmp_path: Path, old: str, new: str, number: int
) -> None:
    package = SOURCE.parents[1]
    shutil.copytree(
        package, tmp_path / "trunkline", ignore=shutil.ignore_patterns("__pycache__", "*.so")
    )
    folder = tmp_path / "trunkline" / "gateway"
    source = SOURCE.read_text()
    assert source.count(old) == 1
    (folder / SOURCE.name).write_text(source.replace(old, new))
    subprocess.run(
        [
            "gcc", "-std=c11", "-fPIC", "-shared", "-pthread", "-DPy_LIMITED_API=0x030B0000",
            f"-I{sysconfig.get_paths()['include']}",
            str(folder / SOURCE.name), "-o", str(folder / "_pump.abi3.so"),
        ],
        check=True,
    )  # fmt: skip
    done = subprocess.run(
        [sys.executable, "-c", GATEWAY],
        check=False, capture_output=True, text=True, env={"PYTHONPATH": str(tmp_path)},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    said = f"the compiled relay is of another version (interface {number}, not {_pump.INTERFACE})"
    assert done.stdout.startswith(f"False False {said}")
    assert done.stderr.count(said) == 1
    assert "`make setup`" in done.stderr
