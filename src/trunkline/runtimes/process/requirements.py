"""What an agent's folder says it requires.

Only as much is read as decides what an environment is built from and whether one can be shared:
names, nested files, and references to the folder itself. The rest is uv's to judge.
"""

import re
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from packaging.markers import Marker
from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name

from trunkline.runtimes.interface import BuildFailedError

_COMMENT = re.compile(r"(?:^|\s)#.*$")
_CONTINUED = re.compile(r"\\\r?\n")
_HASH_OPTION = re.compile(r"\s--(?:hash|config-settings?|global-option)\b.*$")
_OPTION = re.compile(r"(--?[A-Za-z][\w-]*?)(?:\s*=\s*|\s+|(?<=^-[rcefi])(?=\S)|$)(.*)")
_NAME = re.compile(r"([A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?)(.*)", re.DOTALL)
_EGG = re.compile(r"#egg=([A-Za-z0-9._-]+)")
_NESTED = {"-r", "--requirement", "-c", "--constraint"}
_CONSTRAINTS = {"-c", "--constraint"}
_EDITABLE = {"-e", "--editable"}
_FIND_LINKS = {"-f", "--find-links", "-i", "--index-url", "--extra-index-url"}
_PATH_SUFFIXES = (".whl", ".tar.gz", ".zip")

FOREIGN_HOSTS = re.compile(r"azure-ai-agentserver-.+")


@dataclass(slots=True)
class Requirements:
    """What one folder requires."""

    main: Path | None = None
    """The file uv installs from, if there is one."""
    files: dict[str, bytes] = field(default_factory=dict)
    """All files that decide, by their path in the folder."""
    names: list[tuple[str, Marker | None]] = field(default_factory=list)
    is_local: bool = False
    """Whether something is installed from the folder itself, or from a path."""
    requires_hashes: bool = False

    def names_for(self, python_version: str) -> frozenset[str]:
        """Return the normalised names required on that version of Python, such as ``3.13``."""
        environment = {"python_version": python_version, "extra": ""}
        return frozenset(
            name for name, marker in self.names if marker is None or marker.evaluate(environment)
        )


def read_requirements(code_dir: Path) -> Requirements:
    """Read ``requirements.txt``, or else the dependencies in ``pyproject.toml``.

    Raises:
        BuildFailedError: If a file is missing, unreadable, or outside the folder.
    """
    found = Requirements()
    if (path := code_dir / "requirements.txt").is_file():
        found.main = path
        _read_file(found, path, code_dir.resolve())
    elif (path := code_dir / "pyproject.toml").is_file():
        _read_pyproject(found, path)
    return found


def _read_file(found: Requirements, path: Path, root: Path, *, is_constraint: bool = False) -> None:
    # Resolved: a link must not make us hash, or uv print, a file of the platform's.
    resolved = path.resolve()
    if not resolved.is_relative_to(root):
        msg = f"{path.name} is outside the agent's folder: requirement files must be in it"
        raise BuildFailedError(msg)
    name = resolved.relative_to(root).as_posix()
    if name in found.files:
        return
    try:
        data = resolved.read_bytes()
    except OSError as error:
        msg = f"{name}, which the requirements name, couldn't be read: {error.strerror}"
        raise BuildFailedError(msg) from error
    found.files[name] = data
    for line in logical_lines(data):
        if not line.startswith("-"):
            if not is_constraint:
                _add_requirement(found, line)
            continue
        option, value = _split_option(line)
        if option in _NESTED and "://" not in value:
            nested = resolved.parent / value
            _read_file(found, nested, root, is_constraint=is_constraint or option in _CONSTRAINTS)
        elif option in _EDITABLE:
            found.is_local = True
            _add_requirement(found, value)
        elif option in _FIND_LINKS and _is_path(value):
            found.is_local = True
        elif option == "--require-hashes":
            found.requires_hashes = True


def logical_lines(data: bytes) -> Iterator[str]:
    """Yield a requirement file's lines: joined where continued, without comments and blanks."""
    text = _CONTINUED.sub(" ", data.decode("utf-8-sig", errors="replace"))
    for raw in text.splitlines():
        if line := _COMMENT.sub("", raw).strip():
            yield line


def _split_option(line: str) -> tuple[str, str]:
    match = _OPTION.match(line)
    if match is None:
        return line, ""
    return match[1], match[2].strip().strip("\"'")


def _add_requirement(found: Requirements, text: str) -> None:
    line = _HASH_OPTION.sub("", text).strip()
    if _is_path(line):
        found.is_local = True
    try:
        requirement = Requirement(line)
    except InvalidRequirement:
        _add_by_guess(found, line)
        return
    if requirement.url is not None and _is_path(requirement.url):
        found.is_local = True
    found.names.append((canonicalize_name(requirement.name), requirement.marker))


def _add_by_guess(found: Requirements, line: str) -> None:
    """Take the name out of a line that isn't in the standard's form; uv will have its say."""
    match = _EGG.search(line)
    if match is None and "://" not in line and not _is_path(line):
        match = _NAME.match(line)
    if match is not None:
        found.names.append((canonicalize_name(match[1]), None))


def _is_path(text: str) -> bool:
    before_name_ends = re.split(r"[\s;@\[<>=!~]", text, maxsplit=1)[0]
    return (
        text.startswith((".", "/", "~", "file:"))
        or ("://" not in text and "/" in before_name_ends)
        or ("://" not in text and before_name_ends.endswith(_PATH_SUFFIXES))
    )


def _read_pyproject(found: Requirements, path: Path) -> None:
    data = path.read_bytes()
    try:
        document: dict[str, Any] = tomllib.loads(data.decode("utf-8"))
    except (UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        msg = f"pyproject.toml isn't valid TOML: {error}"
        raise BuildFailedError(msg) from error
    project = document.get("project")
    if not isinstance(project, dict):
        return
    found.main = path
    found.files["pyproject.toml"] = data
    dependencies = project.get("dependencies", [])
    for line in dependencies if isinstance(dependencies, list) else []:
        if isinstance(line, str):
            _add_requirement(found, line)
    tool = document.get("tool")
    uv_table = tool.get("uv") if isinstance(tool, dict) else None
    has_sources = isinstance(uv_table, dict) and "sources" in uv_table
    # Both are read from other files of the folder.
    found.is_local = found.is_local or has_sources or bool(project.get("dynamic"))
