"""What the main process and its workers say to each other, as JSON has it."""

import dataclasses
import datetime as dt
import json
from collections.abc import Iterator, Mapping
from typing import Any, TypeVar

from trunkline.protocol.errors import TrunklineError
from trunkline.protocol.ids import NodeId, SessionKey
from trunkline.sessions.arriving import key_from
from trunkline.sessions.elsewhere import SessionElsewhereError

_R = TypeVar("_R")


def key_words(key: SessionKey) -> list[str]:
    """Return a key as three names."""
    return [key.project, key.agent, key.session_id]


def record_words(record: Any) -> dict[str, Any]:
    """Return one of the store's records."""
    return {name: _plain(getattr(record, name)) for name in _types_of(type(record))}


def _types_of(kind: type[Any]) -> Mapping[str, Any]:
    if dataclasses.is_dataclass(kind):
        return {field.name: field.type for field in dataclasses.fields(kind)}
    types: Mapping[str, Any] = kind.__annotations__
    return types


def _plain(value: Any) -> Any:
    if isinstance(value, dt.datetime):
        return value.isoformat()
    return key_words(value) if isinstance(value, SessionKey) else value


def record_from(kind: type[_R], words: Mapping[str, Any]) -> _R:
    """Return the record of that kind."""
    values = {}
    for name, its_type in _types_of(kind).items():
        value = words[name]
        if its_type is dt.datetime:
            value = dt.datetime.fromisoformat(value)
        elif its_type is SessionKey:
            value = key_from(value)
        elif isinstance(value, list):
            value = tuple(value)
        values[name] = value
    return kind(**values)


def error_words(error: TrunklineError) -> dict[str, Any]:
    """Return an error."""
    if isinstance(error, SessionElsewhereError):
        return {"elsewhere": error.node, "key": key_words(error.key)}
    known = {name: value for name, value in vars(error).items() if _is_plain(value)}
    return {"error": type(error).__name__, "text": str(error), "has": known}


def _is_plain(value: Any) -> bool:
    try:
        json.dumps(value)
    except TypeError:
        return False
    return True


def error_from(words: Mapping[str, Any]) -> TrunklineError:
    """Return the error: of the same class, with the same words."""
    if "elsewhere" in words:
        return SessionElsewhereError(key_from(words["key"]), NodeId(words["elsewhere"]))
    kinds = {kind.__name__: kind for kind in _subclasses(TrunklineError)}
    kind = kinds.get(words["error"], TrunklineError)
    # What it says is there already; what a class makes of its arguments was made.
    error = kind.__new__(kind, words["text"])
    vars(error).update(words["has"])
    return error


def _subclasses(kind: type[TrunklineError]) -> Iterator[type[TrunklineError]]:
    for each in kind.__subclasses__():
        yield each
        yield from _subclasses(each)
