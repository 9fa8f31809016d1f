"""Has what is installed looked up once in a zygote, instead of by each session again.

Instrumentation asks for it when it starts: it goes through all that is installed, and reads the
whole description of each package that it could be for. That takes longer than all else that a
session on Microsoft's host does.

What is kept can't be out of date. The text of a description is read by each session, and only what
is made of that text is kept. The entry points are kept for as long as nothing has changed where
packages are looked for, which is told as the standard library tells it, by the time of change of
each of these folders.

Others' code is run here, that may raise anything. What it raises is told and stops nothing: a
session meets it where it reads the same.
"""

import contextlib
import copy
import os
import sys
import types
from collections.abc import Callable, Iterator
from typing import Any

#: What reads what is installed: of the standard library, and the same as a package.
_READERS = ("importlib.metadata", "importlib_metadata")
#: It reads the entry points once in each process, by this name.
_OPENTELEMETRY, _ENTRY_POINTS = "opentelemetry.util._importlib_metadata", "original_entry_points"


#: How much of what couldn't be kept is told. All of it fits in one message.
_MAX_FAILURES, _MAX_FAILURE = 8, 200


def remember_installed() -> list[str]:
    """Keep what is installed, where something has loaded what reads it; return what failed."""
    failures: list[str] = []
    for name in _READERS:
        if (reader := sys.modules.get(name)) is not None:
            with _telling(failures, name):
                _remember_descriptions(reader, failures)
    if (opentelemetry := sys.modules.get(_OPENTELEMETRY)) is not None:
        with _telling(failures, _OPENTELEMETRY):
            _remember_entry_points(opentelemetry)
    return failures


@contextlib.contextmanager
def _telling(failures: list[str], reader: str) -> Iterator[None]:
    try:
        yield
    except Exception as error:  # noqa: BLE001 - whoever asked to remember has it logged
        if len(failures) < _MAX_FAILURES:
            failures.append(f"{reader}: {error!r}"[:_MAX_FAILURE])


def _remember_descriptions(reader: types.ModuleType, failures: list[str]) -> None:
    """Have the reader make something of a text that it has seen here without parsing it again."""
    email: types.ModuleType = reader.email
    parse: Callable[..., Any] = email.message_from_string
    known: dict[str, Any] = {}

    def learn(text: str) -> Any:
        known[text] = parse(text)
        return known[text]

    def parsed(text: str, *arguments: Any, **options: Any) -> Any:
        found = None if arguments or options else known.get(text)
        if found is None:
            return parse(text, *arguments, **options)
        # Whoever gets it may add to it.
        message = copy.copy(found)
        message.__dict__.update(_headers=list(found._headers), defects=list(found.defects))  # noqa: SLF001
        return message

    # Its own view of that package, which is nobody else's.
    view = types.ModuleType(email.__name__)
    view.__dict__.update(email.__dict__, message_from_string=learn)
    reader.email = view  # type: ignore[attr-defined]
    try:
        for installed in reader.distributions():
            with _telling(failures, reader.__name__):
                _ = installed.metadata
    finally:
        view.message_from_string = parsed  # type: ignore[attr-defined]


def _remember_entry_points(opentelemetry: types.ModuleType) -> None:
    read: Callable[..., Any] = getattr(opentelemetry, _ENTRY_POINTS)
    kept, seen = read(), _places()

    def entry_points(**chosen: Any) -> Any:
        return kept if not chosen and _places() == seen else read(**chosen)

    setattr(opentelemetry, _ENTRY_POINTS, entry_points)


def _places() -> list[object]:
    """Return by whom and where packages are looked for, and when that has changed."""
    return [*sys.meta_path, *((path, _changed_at(path)) for path in sys.path)]


def _changed_at(path: str) -> int | None:
    try:
        return os.stat(path or ".").st_mtime_ns
    except OSError:
        return None
