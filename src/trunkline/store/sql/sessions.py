"""Sessions on a SQL database."""

import datetime as dt
from collections.abc import Mapping, Sequence
from typing import Any

from trunkline.protocol.errors import AgentNotFoundError, VersionNotFoundError
from trunkline.protocol.ids import AgentName, NodeId, ProjectName, SessionKey, VersionId
from trunkline.store.paging import Page, PageOf
from trunkline.store.records import Called, Claim, ClaimOutcome, SessionRecord, SessionStatus
from trunkline.store.sql.agents import find_agent, find_version
from trunkline.store.sql.engine import Db, Engine, Row, first
from trunkline.store.sql.pages import Listing, read_page
from trunkline.store.sql.rows import json_of, key_of, session_from, text_of

_SESSIONS = Listing("list_sessions", "find_session", "session_id", ("created_at", "session_id"))


class SqlSessions:
    """The part of the store that keeps sessions."""

    _engine: Engine

    async def find_session(self, key: SessionKey) -> SessionRecord | None:
        return await self._engine.look(("session", key), lambda db: _find(db, key))

    async def find_called(self, key: SessionKey) -> Called:
        return await self._engine.look(("called", key), lambda db: _called(db, key))

    def find_called_now(self, key: SessionKey) -> Called | None:
        return self._engine.look_now(("called", key), lambda db: _called(db, key))

    async def add_session(self, record: SessionRecord) -> tuple[SessionRecord, bool]:
        return await self._engine.write(lambda db: _add_session(db, record))

    async def list_sessions(
        self, project: ProjectName, agent: AgentName, page: Page, *, owner: str | None = None
    ) -> PageOf[SessionRecord]:
        return await self._engine.read(
            lambda db: read_page(
                db, _SESSIONS, page, session_from, project=project, agent=agent, owner=owner,
            )
        )  # fmt: skip

    async def count_running(self, project: ProjectName, agent: AgentName) -> int:
        row = await self._engine.read(
            lambda db: first(db.rows("count_running", project=project, agent=agent))
        )
        return row["n"] if row else 0

    async def touch_sessions(
        self, uses: Mapping[SessionKey, dt.datetime], lifetime: dt.timedelta
    ) -> None:
        await self._engine.steps(
            "touch_session",
            [
                {**key_of(key), "at": text_of(at), "expires_at": text_of(at + lifetime)}
                for key, at in sorted(uses.items())
            ],
        )

    async def claim_session(
        self, key: SessionKey, node: NodeId, *, home: str | None = None, most: int | None = None
    ) -> Claim:
        return await self._engine.write(lambda db: _claim(db, key, node, home, most))

    async def start_session(
        self, key: SessionKey, node: NodeId, address: Mapping[str, Any]
    ) -> bool:
        rows = await self._engine.step(
            "start_session", **key_of(key), node=node, address=json_of(address)
        )
        return bool(rows)

    async def release_session(
        self, key: SessionKey, node: NodeId, at: dt.datetime, status: SessionStatus
    ) -> None:
        await self._engine.step(
            "release_session", **key_of(key), node=node, at=text_of(at), status=status.value
        )

    async def settle_session(self, key: SessionKey, status: SessionStatus) -> None:
        await self._engine.step("settle_session", **key_of(key), status=status.value)

    async def mark_session_deleting(
        self, key: SessionKey, *, home: str | None = None, expired_at: dt.datetime | None = None
    ) -> SessionRecord | None:
        rows = await self._engine.step(
            "mark_session_deleting",
            **key_of(key),
            home=home,
            expired_at=None if expired_at is None else text_of(expired_at),
        )
        row = first(rows)
        return session_from(row) if row else None

    async def deleting_sessions(
        self,
        project: ProjectName | None = None,
        agent: AgentName | None = None,
        version: VersionId | None = None,
    ) -> Sequence[SessionRecord]:
        rows = await self._engine.read(
            lambda db: db.rows("deleting_sessions", project=project, agent=agent, version=version)
        )
        return _records(rows)

    async def remove_session(self, record: SessionRecord) -> None:
        def remove(db: Db) -> None:
            removed = first(db.rows("remove_session", **key_of(record.key), home=record.home))
            if removed is None:
                return
            db.rows("remove_session_responses", **key_of(record.key))
            ended_at = text_of(dt.datetime.now(dt.UTC))
            db.rows(
                "add_past_session",
                **key_of(record.key), owner=removed["owner"], ended_at=ended_at,
            )  # fmt: skip

        await self._engine.write(remove)

    async def had_session(self, key: SessionKey, owner: str) -> bool:
        rows = await self._engine.read(
            lambda db: db.rows("find_past_session", **key_of(key), owner=owner)
        )
        return bool(rows)

    async def forget_past_sessions(self, before: dt.datetime) -> None:
        at = text_of(before)
        await self._engine.write(lambda db: db.rows("forget_past_sessions", before=at))

    async def expire_sessions(self, now: dt.datetime) -> Sequence[SessionRecord]:
        at = text_of(now)
        return _records(await self._engine.write(lambda db: db.rows("expire_sessions", now=at)))


def _find(db: Db, key: SessionKey) -> SessionRecord | None:
    row = first(db.rows("find_session", **key_of(key)))
    return session_from(row) if row else None


def _called(db: Db, key: SessionKey) -> Called:
    agent, session = find_agent(db, key.project, key.agent), _find(db, key)
    version = None
    if session is not None:
        version = find_version(db, key.project, key.agent, session.version)
    return Called(agent=agent, session=session, version=version)


def _add_session(db: Db, record: SessionRecord) -> tuple[SessionRecord, bool]:
    key = record.key
    found = first(db.rows("find_session", **key_of(key)))
    if found is not None:
        return session_from(found), False
    agent = {"project": key.project, "agent": key.agent}
    if not db.rows("find_agent", **agent):
        raise AgentNotFoundError(f"no agent {key.agent!r} in project {key.project!r}")
    if not db.rows("find_version", **agent, version=record.version):
        raise VersionNotFoundError(f"agent {key.agent!r} has no version {record.version[:32]!r}")
    rows = db.rows(
        "add_session",
        **key_of(key),
        version=record.version,
        owner=record.owner,
        status=record.status.value,
        created_at=text_of(record.created_at),
        last_accessed_at=text_of(record.last_accessed_at),
        expires_at=text_of(record.expires_at),
        home=record.home,
    )
    return session_from(rows[0]), True


def _claim(db: Db, key: SessionKey, node: NodeId, home: str | None, most: int | None) -> Claim:
    if not db.rows("find_node", node=node):
        return Claim(outcome=ClaimOutcome.BURIED, record=None)
    row = first(db.rows("find_session", **key_of(key)))
    record = session_from(row) if row else None
    if record is None or record.status is SessionStatus.DELETING or home not in (None, record.home):
        return Claim(outcome=ClaimOutcome.GONE, record=None)
    if record.holder == node:
        return Claim(outcome=ClaimOutcome.OURS, record=record)
    if record.holder is not None:
        return Claim(outcome=ClaimOutcome.ELSEWHERE, record=record)
    held = first(db.rows("count_held", project=key.project))
    if most is not None and held is not None and held["n"] >= most:
        return Claim(outcome=ClaimOutcome.FULL, record=record)
    rows = db.rows("claim_session", **key_of(key), node=node)
    return Claim(outcome=ClaimOutcome.OURS, record=session_from(rows[0]))


def _records(rows: Sequence[Row]) -> list[SessionRecord]:
    return [session_from(row) for row in rows]
