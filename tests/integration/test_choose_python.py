"""Which Python `make` sets up with, where there are several and nobody names one."""

import os
import platform
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = ROOT / "requirements" / "choose_python.py"
#: Goes before what it is asked, and has this Python answer as another one would.
ANOTHER = """
    import importlib.util, platform, sys, sysconfig
    version, options, has_ensurepip, include, executable = sys.argv[1:6]
    platform.python_version = lambda: version
    sysconfig.get_config_vars()["CONFIG_ARGS"] = options
    sysconfig.get_scheme_names = lambda: ["deb_system"] * ("Debian" in options)
    sysconfig.get_paths = lambda: {"include": include}
    if not has_ensurepip:
        sys.modules["ensurepip"] = sys.modules["venv"] = None
        find = importlib.util.find_spec
        importlib.util.find_spec = lambda name: None if name == "ensurepip" else find(name)
    sys.executable = executable
    assert sys.argv[6:8] == ["-I", "-c"]
    exec(sys.argv[8])
"""


class Machine:
    """Folders on PATH with interpreters of other builds than this one's."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._another = root / "another.py"
        self._another.write_text(textwrap.dedent(ANOTHER))
        (root / "headers").mkdir()
        (root / "headers" / "Python.h").touch()
        self._folders: list[str] = []
        self.put("tools/cc", "exit 1")

    def put(self, name: str, program: str) -> Path:
        path = self._root / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(f"#!/bin/sh\n{program}\n")
        path.chmod(0o755)
        if str(path.parent) not in self._folders:
            self._folders.append(str(path.parent))
        return path

    def has(
        self,
        name: str,
        version: str,
        options: str = "",
        *,
        has_ensurepip: bool = True,
        has_headers: bool = True,
    ) -> str:
        path = self._root / name
        include = self._root / ("headers" if has_headers else "none")
        pip = "yes" if has_ensurepip else ""
        self.put(
            name,
            f"exec {sys.executable} -I {self._another} "
            f"{version} '{options}' '{pip}' {include} '{path}' \"$@\"",
        )
        return str(path)

    @property
    def environment(self) -> dict[str, str]:
        return {"PATH": os.pathsep.join(self._folders), "CC": "cc"}

    def choose(self) -> tuple[str, str]:
        """Return what is printed for the shell, and what is said of it."""
        done = subprocess.run(
            [sys.executable, SCRIPT],
            env=self.environment, capture_output=True, text=True, timeout=30, check=True,
        )  # fmt: skip
        assert done.stdout.count("\n") == 1
        return done.stdout.strip(), done.stderr.strip()


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


def test_python3_is_taken_where_nothing_is_wrong_with_it(machine: Machine) -> None:
    first = machine.has("a/python3", "3.11.7", "--prefix=/x --enable-optimizations")
    machine.has("a/python3.13", "3.13.0", "--enable-optimizations")
    assert machine.choose() == (first, f"Python 3.11.7, {first}: python3 on PATH")


@pytest.mark.parametrize("options", ["--enable-optimizations --with-lto", "Debian"])
def test_one_built_with_a_profile_goes_before_python3_without(
    machine: Machine, options: str
) -> None:
    machine.has("shims/python3", "3.11.7", "--enable-shared")
    machine.has("shims/python3.11", "3.11.7", "--enable-shared")
    machine.put("shims/python3.13", "echo pyenv: python3.13: command not found >&2; exit 127")
    machine.put("shims/python3.12", "echo no answer")
    better = machine.has("bin/python3.11", "3.11.2", options)
    machine.has("bin/python3", "3.11.2", options)
    assert machine.choose() == (
        better,
        f"Python 3.11.2, {better}: python3 on PATH was built without --enable-optimizations",
    )


@pytest.mark.parametrize(
    ("version", "options", "has_ensurepip", "has_headers"),
    [
        ("3.10.4", "Debian", True, True),
        ("3.14.0", "Debian", True, True),
        ("3.12.1", "Debian", False, True),
        ("3.12.1", "Debian", True, False),
        ("3.12.1", "", True, True),
    ],
)
def test_one_that_lacks_more_is_not_better(
    machine: Machine, version: str, options: str, has_ensurepip: bool, has_headers: bool
) -> None:
    first = machine.has("shims/python3", "3.11.7")
    other = {"has_ensurepip": has_ensurepip, "has_headers": has_headers}
    machine.has("bin/python3.12", version, options, **other)
    machine.has("bin/python3", version, options, **other)
    assert machine.choose() == (
        first,
        f"Python 3.11.7, {first}: python3 on PATH; "
        "it was built without --enable-optimizations, and no other is better",
    )


@pytest.mark.parametrize(
    ("version", "has_ensurepip", "has_headers", "reason"),
    [
        ("3.9.2", True, True, "is 3.9.2, not one of 3.13, 3.12, 3.11"),
        ("3.11.2", False, True, "can't make environments: it has no ensurepip"),
        ("3.11.2", True, False, "can't compile the relay: it has no Python.h or no compiler"),
    ],
)
def test_what_python3_lacks_is_found_in_another_and_said(
    machine: Machine, version: str, has_ensurepip: bool, has_headers: bool, reason: str
) -> None:
    machine.has(
        "bin/python3", version, "Debian", has_ensurepip=has_ensurepip, has_headers=has_headers
    )
    other = machine.has("built here/python3.12", "3.12.1")
    assert machine.choose() == (f"'{other}'", f"Python 3.12.1, {other}: python3 on PATH {reason}")


def test_without_a_compiler_the_profile_alone_counts(machine: Machine) -> None:
    machine.put("tools/cc", "").unlink()
    machine.has("shims/python3", "3.11.7")
    better = machine.has("bin/python3.12", "3.12.1", "Debian", has_headers=False)
    assert machine.choose() == (
        better,
        f"Python 3.12.1, {better}: python3 on PATH was built without --enable-optimizations",
    )


def test_a_python3_that_does_not_run_is_no_reason_to_stop(machine: Machine) -> None:
    machine.put("shims/python3", "exit 127")
    other = machine.has("bin/python3.11", "3.11.2", "Debian")
    assert machine.choose() == (
        other, f"Python 3.11.2, {other}: there is no python3 on PATH that runs"
    )  # fmt: skip


def test_where_none_can_be_used_it_is_python3_and_what_fails_says_why(machine: Machine) -> None:
    machine.has("bin/python3", "3.9.2", "Debian")
    machine.has("bin/python3.11", "3.11.2", "Debian", has_ensurepip=False)
    assert machine.choose() == ("python3", "")


def test_this_python_is_one_that_can_be_chosen(machine: Machine, tmp_path: Path) -> None:
    machine.put("bin/python3", "").unlink()
    link = tmp_path / "bin" / "python3"
    link.symlink_to(sys._base_executable)  # type: ignore[attr-defined]
    path, said = machine.choose()
    assert path == str(link)
    assert said.startswith(f"Python {platform.python_version()}, {link}: python3 on PATH")


@pytest.mark.parametrize("named", [None, "/somewhere/python3.12"])
def test_make_asks_once_and_only_where_nobody_names_one(
    machine: Machine, named: str | None, tmp_path: Path
) -> None:
    machine.has("shims/python3", "3.11.7")
    # It runs the script, as well.
    machine.put(
        "shims/python3",
        f'case $1 in requirements/*) exec {sys.executable} "$@";; esac\n'
        + (tmp_path / "shims/python3").read_text(),
    )
    better = machine.has("bin/python3.12", "3.12.1", "Debian")
    make = shutil.which("make")
    assert make is not None
    done = subprocess.run(
        [make, "--always-make", "--dry-run", "setup"],
        cwd=ROOT,
        env=machine.environment | ({"PYTHON": named} if named else {}),
        capture_output=True, text=True, timeout=30, check=True,
    )  # fmt: skip
    python = named or better
    assert f"{python} -m venv .cache/bootstrap\n" in done.stdout
    assert f" --python {python} .venv\n" in done.stdout
    assert done.stderr.count(f"Python 3.12.1, {better}: ") == (0 if named else 1)
