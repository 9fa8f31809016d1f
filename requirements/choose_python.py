"""Prints the Python that ``make`` sets up with where its caller names none, and says why.

That is ``python3``, unless another on PATH is better: it can make environments, it can compile the
relay, or it was built with a profile of what it runs (``--enable-optimizations``), without which
all that trunkline does takes 1.25 to 1.4 times the processor time. It runs with Python 3.8.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Iterator, NamedTuple  # noqa: UP035 - of Python 3.8

PYPROJECT = Path(__file__).resolve().parent.parent / "pyproject.toml"
#: Each is asked this. Debian and Ubuntu build ``python3`` with a profile; what they
#: record are the options of the shared library beside it. They are known by their install scheme.
PROBE = """
import importlib.util, json, os, platform, shlex, shutil, sys, sysconfig
paths = sysconfig.get_paths()
options = sysconfig.get_config_var("CONFIG_ARGS") or ""
compiler = shlex.split(os.environ.get("CC") or sysconfig.get_config_var("CC") or "cc")[0]
print(json.dumps({
    "path": sys.executable,
    "version": platform.python_version(),
    "has_ensurepip": all(map(importlib.util.find_spec, ("ensurepip", "venv"))),
    "compiles": bool(shutil.which(compiler)) and os.path.exists(paths["include"] + "/Python.h"),
    "is_optimised": "--enable-optimizations" in options
        or "deb_system" in sysconfig.get_scheme_names(),
}))
"""
PROBE_TIMEOUT_S = 20


class Python(NamedTuple):
    """An interpreter, with what it has of what is wanted of one."""

    path: str
    version: str
    has_ensurepip: bool
    compiles: bool
    is_optimised: bool

    def lacks(self, versions: list[str]) -> list[str]:
        """Return what is wrong with it, the gravest first; "" for what isn't."""
        is_supported = self.version.rpartition(".")[0] in versions
        return [
            "" if is_supported else f"is {self.version}, not one of {', '.join(versions)}",
            "" if self.has_ensurepip else "can't make environments: it has no ensurepip",
            "" if self.compiles else "can't compile the relay: it has no Python.h or no compiler",
            "" if self.is_optimised else "was built without --enable-optimizations",
        ]


def supported(pyproject: str) -> list[str]:
    """Return the versions that the package says it runs with, the newest first."""
    found = re.findall(r'"Programming Language :: Python :: (3\.\d+)"', pyproject)
    return sorted(found, key=lambda version: int(version[2:]), reverse=True)


def named(versions: list[str]) -> Iterator[str]:
    """Yield the programs on PATH that may be a Python, what ``python3`` runs first."""
    default = shutil.which("python3")
    if default is not None:
        yield default
    for name in [*(f"python{version}" for version in versions), "python3"]:
        for folder in os.get_exec_path():
            program = os.path.join(folder, name)
            if program != default and shutil.which(program) is not None:
                yield program


def ask(program: str) -> Python | None:
    """Return what a program says of itself, or None if it is no Python that runs."""
    try:
        said = subprocess.run(
            [program, "-I", "-c", PROBE],
            check=True, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL, timeout=PROBE_TIMEOUT_S,
        ).stdout  # fmt: skip
        return Python(**json.loads(said))
    except (OSError, subprocess.SubprocessError, ValueError, TypeError):
        return None


def choose(versions: list[str]) -> tuple[Python, str] | None:
    """Return the best Python on PATH and why it is that, or None if none can be used."""
    default = shutil.which("python3")
    first: Python | None = None
    best: Python | None = None
    for program in named(versions):
        python = ask(program)
        if program == default:
            first = python
        if python is None:
            continue
        if best is None or is_better(python, best, versions):
            best = python
        if not any(best.lacks(versions)):
            break
    if best is None or any(best.lacks(versions)[:2]):
        return None
    if first is None:
        return best, "there is no python3 on PATH that runs"
    if best is first:
        lack = next(filter(None, first.lacks(versions)), "")
        return best, "python3 on PATH" + (f"; it {lack}, and no other is better" if lack else "")
    both = zip(first.lacks(versions), best.lacks(versions))  # noqa: B905 - of Python 3.8
    return best, "python3 on PATH " + next(lack for lack, of_best in both if lack and not of_best)


def is_better(python: Python, than: Python, versions: list[str]) -> bool:
    """Say whether the gravest thing that only one of them lacks is the other's."""
    return [*map(bool, python.lacks(versions))] < [*map(bool, than.lacks(versions))]


def main() -> None:
    """Print the choice, for the shell, and say it to whoever reads."""
    chosen = choose(supported(PYPROJECT.read_text(encoding="utf-8")))
    if chosen is None:
        # What is wrong with it is said by what fails then.
        print("python3")
        return
    python, reason = chosen
    print(f"Python {python.version}, {python.path}: {reason}", file=sys.stderr)
    print(shlex.quote(python.path))


if __name__ == "__main__":
    main()
