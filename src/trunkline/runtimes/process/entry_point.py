"""Turns what an author calls the entry point into a command."""

import re
from dataclasses import dataclass
from pathlib import Path

from trunkline.runtimes.interface import BuildFailedError

DEFAULT_FILE = "main.py"

_PYTHON = re.compile(r"python(?:3(?:\.\d+)?)?")
_OPTIONS_WITH_VALUE = {"-X", "-W", "--check-hash-based-pycs"}


@dataclass(frozen=True, slots=True)
class EntryPoint:
    """What to run in an environment, once there is one."""

    program: str | None
    """A script of the environment's; None: its interpreter."""
    arguments: tuple[str, ...]
    file: str | None
    """The Python file in the agent's folder it starts with, if it is one."""

    def command(self, environment: Path) -> tuple[str, ...]:
        """Return the command, for an environment in that folder.

        Raises:
            BuildFailedError: If the environment has no such script.
        """
        program = environment / "bin" / (self.program or "python")
        if self.program is not None and not program.exists():
            msg = (
                f"the entry point's command {self.program!r} isn't in the environment: name a "
                "Python file, or a package that brings the command in requirements.txt"
            )
            raise BuildFailedError(msg)
        return (str(program), *self.arguments)


def parse_entry_point(words: tuple[str, ...], code_dir: Path) -> EntryPoint:
    """Read the words of an entry point.

    Raises:
        BuildFailedError: If the file it names isn't in the folder.
    """
    first, *others = words or (DEFAULT_FILE,)
    if _PYTHON.fullmatch(first):
        rest = tuple(others) or (DEFAULT_FILE,)
        return EntryPoint(None, rest, _checked(_file_of(rest), code_dir))
    if first.endswith(".py"):
        return EntryPoint(None, (first, *others), _checked(first, code_dir))
    if "/" in first:
        msg = f"the entry point {first!r} isn't a Python file"
        raise BuildFailedError(msg)
    return EntryPoint(first, tuple(others), None)


def _file_of(arguments: tuple[str, ...]) -> str | None:
    at = file_at(arguments)
    return None if at is None else arguments[at]


def file_at(arguments: tuple[str, ...]) -> int | None:
    """Return where among an interpreter's arguments the file is that it would run."""
    words = iter(enumerate(arguments))
    for at, word in words:
        if word in {"-m", "-c"}:
            return None
        if word in _OPTIONS_WITH_VALUE:
            next(words, None)
        elif not word.startswith("-"):
            return at
    return None


def _checked(name: str | None, code_dir: Path) -> str | None:
    if name is None:
        return None
    root = code_dir.resolve()
    path = (root / name).resolve()
    if not path.is_relative_to(root):
        msg = f"the entry point {name!r} is outside the agent's folder"
        raise BuildFailedError(msg)
    if not path.exists():
        msg = f"the entry point {name!r} isn't in the agent's folder"
        raise BuildFailedError(msg)
    return name
