"""A project's environments: named sets of values for the placeholders in its ``agent.yaml``.

Each is a ``.env`` file in ``<project root>/.trunkline/<name>/``; which one is chosen stands
in ``.trunkline/config.json``. They hold secrets: the files are readable by their owner
alone, and git is told to leave the folder out.
"""

import json
import os
import re
import secrets
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from trunkline.manifest.errors import ManifestError
from trunkline.manifest.vocabulary import key_fault, variable_value_fault
from trunkline.protocol.errors import InvalidRequestError

STATE_FOLDER: Final = ".trunkline"
DEFAULT_ENVIRONMENT: Final = "dev"
MAX_ENV_FILE_BYTES: Final = 1024 * 1024

_ROOT_FILES: Final = ("azure.yaml", "agent.yaml", "agent.yml")
_ENVIRONMENT_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")
_KEY = re.compile(r"[ \t]*(?:export[ \t]+)?([^\s=#]+)[ \t]*=[ \t]*")
_NO_ENTRY = re.compile(r"[ \t]*(?:#[^\n]*)?(?:\r?\n|\Z)")
_DOUBLE = re.compile(r'"((?:[^"\\]|\\.)*)"', re.DOTALL)
_SINGLE = re.compile(r"'([^']*)'")
_BARE = re.compile(r"[^\n]*")
_REST = re.compile(r"[ \t]*(?:#[^\n]*)?(?:\r?\n|\r?\Z)")
# What a shell would expand within double quotes is escaped, too, so that the file and the
# output of "env get-values" can be sourced.
_ESCAPED: Final = {"\\": "\\\\", '"': '\\"', "$": "\\$", "`": "\\`", "\n": "\\n", "\r": "\\r"}
_UNESCAPED: Final = {escaped[1]: char for char, escaped in _ESCAPED.items()} | {"t": "\t"}


@dataclass(frozen=True, slots=True)
class _Entry:
    key: str
    value: str
    start: int
    end: int


def find_project_root(start: Path) -> Path:
    """Return the nearest folder from ``start`` upwards that is a project's.

    That is one with ``.trunkline/``, ``azure.yaml`` or an agent file in it; ``start`` itself
    if there is none.
    """
    start = start.absolute()
    for folder in (start, *start.parents):
        if (folder / STATE_FOLDER).is_dir() or any((folder / f).is_file() for f in _ROOT_FILES):
            return folder
    return start


def parse_assignment(text: str) -> tuple[str, str]:
    """Split ``KEY=VALUE`` as given on a command line; the value is taken as it is.

    Raises:
        InvalidRequestError: If it has no ``=``, or the key is no variable's name.
    """
    key, equals, value = text.partition("=")
    if not equals:
        raise InvalidRequestError(f'"{text}" has no "="; write KEY=VALUE')
    check_value(key, value)
    return key, value


def check_value(key: str, value: str) -> None:
    """Refuse a key or value that an environment can't hold.

    Raises:
        InvalidRequestError: With what is wrong. It doesn't quote the value.
    """
    if fault := key_fault(key):
        raise InvalidRequestError(fault, param=key)
    if fault := variable_value_fault(value):
        raise InvalidRequestError(f"the value of {key} {fault}", param=key)


def format_line(key: str, value: str) -> str:
    """Return the line of a ``.env`` file that says ``key`` is ``value``."""
    return f'{key}="{"".join(_ESCAPED.get(char, char) for char in value)}"'


def parse_env(text: str, file: object = ".env") -> dict[str, str]:
    """Read the text of a ``.env`` file. Of a key given twice, the last counts.

    Comments, ``export``, bare, single-quoted and double-quoted values are understood. Only
    double-quoted ones have escapes, and nothing is expanded.

    Raises:
        ManifestError: At the first line that can't be read.
    """
    return {entry.key: entry.value for entry in _entries(text, file)}


class Environments:
    """The environments of one project."""

    def __init__(self, root: Path) -> None:
        self._folder = root / STATE_FOLDER

    @property
    def selected(self) -> str:
        """The chosen environment's name.

        Raises:
            ManifestError: If the choice can't be read.
        """
        path = self._folder / "config.json"
        if not path.exists():
            return DEFAULT_ENVIRONMENT
        name = self._config(path).get("environment", DEFAULT_ENVIRONMENT)
        if not isinstance(name, str) or not _ENVIRONMENT_NAME.fullmatch(name):
            raise ManifestError.of_file(path, '"environment" is not an environment\'s name')
        return name

    def select(self, name: str) -> None:
        """Choose the environment that commands use from then on."""
        _check_environment(name)
        path = self._folder / "config.json"
        config = self._config(path) if path.exists() else {}
        config["environment"] = name
        self._write(path, json.dumps(config, indent=2) + "\n")

    def names(self) -> tuple[str, ...]:
        """Return the environments there are, the chosen one among them even if still empty."""
        found = {path.parent.name for path in self._folder.glob("*/.env")}
        return tuple(sorted(found | {self.selected}))

    def file(self, name: str | None = None) -> Path:
        """Return where an environment's values are kept."""
        name = self.selected if name is None else name
        _check_environment(name)
        return self._folder / name / ".env"

    def values(self, name: str | None = None) -> dict[str, str]:
        """Return an environment's values in the file's order; none if it isn't there.

        Raises:
            ManifestError: If the file can't be read.
        """
        path = self.file(name)
        return parse_env(_read(path), path)

    def lines(self, name: str | None = None) -> tuple[str, ...]:
        """Return an environment's values as ``KEY="value"`` lines."""
        return tuple(format_line(key, value) for key, value in self.values(name).items())

    def set(self, values: Mapping[str, str], name: str | None = None) -> None:
        """Set values, and leave the others, their order, and the comments as they are.

        The file is replaced in one step: whoever reads it sees all of it or none.
        """
        for key, value in values.items():
            check_value(key, value)
        path = self.file(name)
        text = _read(path)
        # The last of two equal keys counts, so it is the one to change.
        places = {entry.key: entry for entry in _entries(text, path)}
        known = [place for key, place in places.items() if key in values]
        for place in sorted(known, key=lambda entry: entry.start, reverse=True):
            line = format_line(place.key, values[place.key]) + "\n"
            text = text[: place.start] + line + text[place.end :]
        if text and not text.endswith("\n"):
            text += "\n"
        new = [key for key in values if key not in places]
        self._write(path, text + "".join(format_line(key, values[key]) + "\n" for key in new))

    def unset(self, keys: Iterable[str], name: str | None = None) -> None:
        """Remove values. Those that aren't there are gone already."""
        path = self.file(name)
        text = _read(path)
        gone = set(keys)
        for entry in reversed(_entries(text, path)):
            if entry.key in gone:
                text = text[: entry.start] + text[entry.end :]
        if path.exists():
            self._write(path, text)

    def _config(self, path: Path) -> dict[str, object]:
        try:
            config = json.loads(_read(path))
        except (ValueError, RecursionError) as exc:
            raise ManifestError.of_file(path, f"is not JSON: {exc}") from exc
        if not isinstance(config, dict):
            raise ManifestError.of_file(path, 'must be an object such as {"environment": "dev"}')
        return config

    def _write(self, path: Path, text: str) -> None:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        ignore = self._folder / ".gitignore"
        if not ignore.exists():
            _replace(ignore, "*\n")
        _replace(path, text)


def _check_environment(name: str) -> None:
    if not _ENVIRONMENT_NAME.fullmatch(name):
        raise InvalidRequestError(
            f'"{name[:80]}" is not an environment\'s name: 1 to 64 letters, digits, '
            '"_", "." and "-", starting with a letter or digit; for example "dev"'
        )


def _read(path: Path) -> str:
    try:
        with path.open("rb") as file:
            data = file.read(MAX_ENV_FILE_BYTES + 1)
    except FileNotFoundError:
        return ""
    except OSError as exc:
        raise ManifestError.of_file(path, f"can't be read: {exc.strerror}") from exc
    if len(data) > MAX_ENV_FILE_BYTES:
        raise ManifestError.of_file(path, "is larger than 1 MiB")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as exc:
        raise ManifestError.of_file(path, "is not UTF-8; save it as UTF-8") from exc


def _replace(path: Path, text: str) -> None:
    temporary = path.with_name(f"{path.name}.{secrets.token_hex(8)}")
    try:
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(text.encode())
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        with suppress(FileNotFoundError):
            temporary.unlink()
        raise


def _entries(text: str, file: object) -> list[_Entry]:
    found: list[_Entry] = []
    position = 0
    while position < len(text):
        blank = _NO_ENTRY.match(text, position)
        if blank:
            position = blank.end()
            continue
        entry = _entry(text, position, file)
        found.append(entry)
        position = entry.end
    return found


def _entry(text: str, start: int, file: object) -> _Entry:
    line = text.count("\n", 0, start) + 1
    key = _KEY.match(text, start)
    if key is None:
        raise ManifestError.of_file(file, "is not KEY=VALUE; a comment begins with #", line=line)
    if fault := key_fault(key[1]):
        raise ManifestError.of_file(file, fault, line=line)
    value, end = _value(text, key.end(), file, line)
    rest = _REST.match(text, end)
    if rest is None:
        raise ManifestError.of_file(file, "has text after the closing quote", line=line)
    return _Entry(key[1], value, start, rest.end())


def _value(text: str, start: int, file: object, line: int) -> tuple[str, int]:
    quote = text[start : start + 1]
    if quote == '"' or quote == "'":
        quoted = (_DOUBLE if quote == '"' else _SINGLE).match(text, start)
        if quoted is None:
            raise ManifestError.of_file(file, f"the quote {quote} is never closed", line=line)
        value = _unescape(quoted[1]) if quote == '"' else quoted[1]
        return value, quoted.end()
    bare = _BARE.match(text, start)
    assert bare is not None
    value = re.split(r"(?:^|\s)#", bare[0], maxsplit=1)[0]
    return value.strip(), start + len(bare[0].rstrip("\r"))


def _unescape(text: str) -> str:
    # An escape that isn't known stays as it is: C:\dir is more often a path than a mistake.
    return re.sub(r"\\(.)", lambda m: _UNESCAPED.get(m[1], m[0]), text, flags=re.DOTALL)
