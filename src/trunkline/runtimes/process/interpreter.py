"""Picks the Python an agent's version runs on, out of those this machine has."""

import json
import platform
import re
import sys
from dataclasses import dataclass
from pathlib import Path

from trunkline.runtimes.interface import BuildFailedError
from trunkline.runtimes.process.commands import Tools

_RUNTIME = re.compile(r"python(?:[_:\- ]?3(?:[._](\d+))?)?", re.IGNORECASE)
#: The oldest one the agent host runs on.
OLDEST_MINOR = 11


@dataclass(frozen=True, slots=True, order=True)
class Interpreter:
    """One CPython on this machine."""

    version: tuple[int, int, int]
    path: str

    @property
    def minor(self) -> int:
        return self.version[1]

    @property
    def major_minor(self) -> str:
        return f"{self.version[0]}.{self.version[1]}"

    def __str__(self) -> str:
        return f"Python {'.'.join(map(str, self.version))}"


def own_interpreter() -> Interpreter:
    """Return the one the platform runs on."""
    info = sys.version_info
    return Interpreter((info.major, info.minor, info.micro), sys.executable)


def wanted_minor(runtime: str | None) -> int | None:
    """Return the minor version of Python 3 an author asks for; None: any.

    Raises:
        BuildFailedError: If it isn't a Python.
    """
    if not runtime:
        return None
    match = _RUNTIME.fullmatch(runtime.strip())
    if match is None:
        msg = f"the runtime {runtime!r} can't be run: only Python can, such as 'python_3_13'"
        raise BuildFailedError(msg)
    return int(match[1]) if match[1] else None


def nearest(candidates: list[Interpreter], minor: int) -> Interpreter:
    """Return the first whose minor version is nearest; the newer one of two as near."""
    return min(candidates, key=lambda one: (abs(one.minor - minor), -one.minor))


def parse_list(text: str) -> list[Interpreter]:
    """Read what ``uv python list --output-format json`` prints, without what we can't use."""
    try:
        rows = json.loads(text)
    except json.JSONDecodeError:
        return []
    return [
        Interpreter((parts["major"], parts["minor"], parts["patch"]), row["path"])
        for row in rows
        if row.get("path")
        and row.get("implementation") == "cpython"
        and row.get("variant", "default") == "default"
        and (parts := row["version_parts"])["major"] == 3
        and parts["minor"] >= OLDEST_MINOR
    ]


async def choose_interpreter(
    runtime: str | None, *, uv: str, tools: Tools, cwd: Path
) -> tuple[Interpreter, str | None]:
    """Return the Python to use, and what to tell the author if it isn't the one asked for.

    Raises:
        BuildFailedError: If the runtime isn't a Python.
    """
    own = own_interpreter()
    minor = wanted_minor(runtime)
    if minor is None or (minor == own.minor and platform.python_implementation() == "CPython"):
        return own, None
    # Interpreters that don't start, such as shims, make uv print warnings and go on.
    command = (uv, "python", "list", "--only-installed", "--no-python-downloads", "--offline")
    result = await tools.run((*command, "--output-format", "json"), cwd=cwd, log=None)
    found = parse_list("".join(result.lines)) if result.returncode == 0 else []
    best = nearest([own, *found], minor)
    if best.minor == minor:
        return best, None
    return best, f"{runtime} is not on this machine; using {best}"
