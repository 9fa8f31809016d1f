"""Rows as records, and values as columns. Times are text of one width, so they sort."""

import datetime as dt
import functools
import json
import operator
from collections.abc import Callable, Mapping
from typing import Any, Final, TypeVar

from trunkline.protocol.ids import (
    AgentName,
    NodeId,
    ProjectName,
    SessionId,
    SessionKey,
    VersionId,
)
from trunkline.store.records import (
    AgentRecord,
    NodeRecord,
    SessionRecord,
    SessionStatus,
    VersionRecord,
    VersionStatus,
)
from trunkline.store.sql.engine import Row

_T = TypeVar("_T")
_MAX_REMEMBERED: Final = 1024


def text_of(at: dt.datetime) -> str:
    """Return a time as a column: RFC 3339 in UTC with six digits of a second."""
    return at.astimezone(dt.UTC).isoformat(timespec="microseconds")


def readable(text: str) -> str:
    """Return a text for people without what not every database can keep: NUL, half characters."""
    if text.isascii() and "\0" not in text:
        # As nearly all are.
        return text
    return text.replace("\0", "\ufffd").encode("utf-8", "replace").decode()


def json_of(value: Mapping[str, Any] | None) -> str | None:
    """Return an object as a column."""
    return None if value is None else json.dumps(dict(value))


def key_of(key: SessionKey) -> dict[str, str]:
    """Return a session's key as parameters."""
    return {"project": key.project, "agent": key.agent, "session_id": key.session_id}


def _time(text: str | None) -> dt.datetime | None:
    return None if text is None else dt.datetime.fromisoformat(text)


@functools.lru_cache(_MAX_REMEMBERED)
def _object(text: str) -> Mapping[str, Any]:
    """Return a column's object. Nobody may change it: the next row with that text has it, too."""
    value: Mapping[str, Any] = json.loads(text)
    return value


def _object_or_none(text: str | None) -> Mapping[str, Any] | None:
    return None if text is None else _object(text)


def _remembered(*columns: str) -> Callable[[Callable[[Row], _T]], Callable[[Row], _T]]:
    """Have a function of a row return what it returned for the last row with these columns.

    Most rows that are read haven't changed since: comparing their columns takes a fraction of the
    time that a record takes to be made of them, and whoever compares records finds the same one.

    Args:
        columns: All that the function looks at.
    """
    values_of = operator.itemgetter(*columns)

    def decorated(make: Callable[[Row], _T]) -> Callable[[Row], _T]:
        @functools.lru_cache(_MAX_REMEMBERED)
        def made_of(values: tuple[Any, ...]) -> _T:
            return make(dict(zip(columns, values, strict=True)))

        @functools.wraps(make)
        def made(row: Row) -> _T:
            return made_of(values_of(row))

        return made

    return decorated


@_remembered(
    "project", "name", "created_at", "is_enabled", "endpoint", "card", "is_deleting"
)  # fmt: skip
def agent_from(row: Row) -> AgentRecord:
    """Return a row of ``agents`` as a record."""
    return AgentRecord(
        project=ProjectName(row["project"]),
        name=AgentName(row["name"]),
        created_at=dt.datetime.fromisoformat(row["created_at"]),
        is_enabled=bool(row["is_enabled"]),
        endpoint=_object(row["endpoint"]),
        card=_object_or_none(row["card"]),
        is_deleting=bool(row["is_deleting"]),
    )


@_remembered(
    "project", "agent", "version", "created_at", "status", "definition", "description", "metadata",
    "content_hash", "code_sha256", "builder", "is_draft", "error", "error_code", "launch",
)  # fmt: skip
def version_from(row: Row) -> VersionRecord:
    """Return a row of ``versions`` as a record."""
    return VersionRecord(
        project=ProjectName(row["project"]),
        agent=AgentName(row["agent"]),
        version=VersionId(row["version"]),
        created_at=dt.datetime.fromisoformat(row["created_at"]),
        status=VersionStatus(row["status"]),
        definition=_object(row["definition"]),
        description=row["description"],
        metadata=_object(row["metadata"]),
        content_hash=row["content_hash"],
        code_sha256=row["code_sha256"],
        builder=NodeId(row["builder"]),
        is_draft=bool(row["is_draft"]),
        error=row["error"],
        error_code=row["error_code"],
        launch=_object_or_none(row["launch"]),
    )


@_remembered(
    "project", "agent", "session_id", "version", "owner", "status", "created_at",
    "last_accessed_at", "expires_at", "stopped_at", "home", "holder", "address",
)  # fmt: skip
def session_from(row: Row) -> SessionRecord:
    """Return a row of ``sessions`` as a record."""
    return SessionRecord(
        key=SessionKey(
            ProjectName(row["project"]), AgentName(row["agent"]), SessionId(row["session_id"])
        ),
        version=VersionId(row["version"]),
        owner=row["owner"],
        status=SessionStatus(row["status"]),
        created_at=dt.datetime.fromisoformat(row["created_at"]),
        last_accessed_at=dt.datetime.fromisoformat(row["last_accessed_at"]),
        expires_at=dt.datetime.fromisoformat(row["expires_at"]),
        stopped_at=_time(row["stopped_at"]),
        home=row["home"],
        holder=None if row["holder"] is None else NodeId(row["holder"]),
        address=_object_or_none(row["address"]),
    )


def node_from(row: Row) -> NodeRecord:
    """Return a row of ``nodes`` as a record."""
    return NodeRecord(
        node=NodeId(row["node"]),
        heartbeat_at=dt.datetime.fromisoformat(row["heartbeat_at"]),
        url=row["url"],
    )
