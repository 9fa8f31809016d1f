"""Compiles the relay's pump into the wheel, where that is possible.

It is optional: without a C compiler, Python's headers or Linux the wheel is pure Python, and the
event loop relays what the pump would have. ``TRUNKLINE_PURE=1`` leaves it out on purpose, for a
wheel that is to be installed on any machine.
"""

import os
import shlex
import subprocess
import sys
import sysconfig
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

_SOURCE = "src/trunkline/gateway/_pump.c"
#: Of the oldest Python we run on: one compiled file does for all later ones.
_STABLE_ABI = "0x030B0000"
_FLAGS = (
    "-std=c11", "-O2", "-g", "-fPIC", "-shared", "-pthread", "-fvisibility=hidden",
    "-Wall", "-Wextra", "-Wno-missing-field-initializers", "-Wno-cast-function-type",
    f"-DPy_LIMITED_API={_STABLE_ABI}",
)  # fmt: skip


class PumpBuildHook(BuildHookInterface):  # type: ignore[type-arg]
    """Runs before a wheel is made, an editable one too."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Compile, and mark the wheel as one of this platform if that worked."""
        target = Path(self.root, _SOURCE).with_name("_pump.abi3.so")
        reason = self._compile(target)
        if reason:
            self.app.display_warning(f"without the compiled relay: {reason}")
            return
        build_data["artifacts"].append(f"/{target.relative_to(self.root).as_posix()}")
        build_data["pure_python"] = False
        build_data["tag"] = f"cp311-abi3-{_platform_tag()}"

    def _compile(self, target: Path) -> str:
        """Return what is in the way, or nothing."""
        if os.environ.get("TRUNKLINE_PURE") == "1":
            return "TRUNKLINE_PURE=1"
        if sys.platform != "linux":
            return "it is for Linux"
        compiler = shlex.split(os.environ.get("CC") or sysconfig.get_config_var("CC") or "cc")
        # Under another name first: a running process may have the old one mapped.
        made = target.with_suffix(f".{os.getpid()}")
        include = f"-I{sysconfig.get_paths()['include']}"
        source = str(Path(self.root, _SOURCE))
        command = [*compiler, *_FLAGS, include, source, "-o", str(made)]
        try:
            done = subprocess.run(command, check=False, capture_output=True, text=True)
        except OSError as error:
            return f"{compiler[0]}: {error.strerror}"
        if done.returncode:
            made.unlink(missing_ok=True)
            # What an earlier build left there may not fit what calls it.
            target.unlink(missing_ok=True)
            return done.stderr.strip().splitlines()[0] if done.stderr.strip() else "cc failed"
        made.replace(target)
        return ""


def _platform_tag() -> str:
    return sysconfig.get_platform().replace("-", "_").replace(".", "_")
