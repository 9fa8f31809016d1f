"""The store on SQLite: rows in, typed records out."""

import asyncio
import datetime as dt
import json
import re
import sqlite3
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

from trunkline.protocol.ids import AgentName, ProjectName, SessionId, SessionKey, VersionId
from trunkline.store.records import (
    AgentRecord,
    NewVersion,
    SessionRecord,
    SessionStatus,
    VersionRecord,
    VersionStatus,
)
from trunkline.store.sqlite.schema import load_queries, migrate

_T = TypeVar("_T")
_NUMBER = re.compile(r"[1-9][0-9]{0,17}")


class SqliteStore:
    """One file, one connection, one thread that uses it.

    Use :meth:`open`. Each method is one function on that thread, so it is one transaction, and
    cancelling its caller never leaves half of it. Write-ahead logging lets other processes read
    while this one writes, and ``synchronous=normal`` keeps what was committed through a crash
    of the process.
    """

    def __init__(self, db: sqlite3.Connection, thread: ThreadPoolExecutor) -> None:
        self._db = db
        self._thread = thread
        self._sql = load_queries()

    @classmethod
    async def open(cls, path: Path) -> "SqliteStore":
        """Open the file, making it and its tables if need be.

        Raises:
            SchemaTooNewError: If a newer trunkline wrote it.
        """
        thread = ThreadPoolExecutor(1, thread_name_prefix="sqlite")
        try:
            db = await asyncio.get_running_loop().run_in_executor(thread, _connect, path)
        except BaseException:
            thread.shutdown(wait=False)
            raise
        return cls(db, thread)

    async def _run(self, work: Callable[[], _T]) -> _T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, work)

    def _rows(self, name: str, **values: Any) -> list[sqlite3.Row]:
        return self._db.execute(self._sql[name], values).fetchall()

    def _row(self, name: str, **values: Any) -> sqlite3.Row | None:
        rows = self._rows(name, **values)
        return rows[0] if rows else None

    async def find_agent(self, project: ProjectName, agent: AgentName) -> AgentRecord | None:
        row = await self._run(lambda: self._row("find_agent", project=project, agent=agent))
        return _agent(row) if row else None

    async def list_agents(self, project: ProjectName) -> Sequence[AgentRecord]:
        rows = await self._run(lambda: self._rows("list_agents", project=project))
        return [_agent(row) for row in rows]

    async def add_version(self, new: NewVersion) -> tuple[VersionRecord, bool]:
        return await self._run(lambda: self._add_version(new))

    def _add_version(self, new: NewVersion) -> tuple[VersionRecord, bool]:
        name = {"project": new.project, "agent": new.agent}
        now = _text(dt.datetime.now(dt.UTC))
        self._db.execute("begin immediate")
        try:
            latest = self._row("latest_version", **name, status=None)
            same = latest is not None and latest["content_hash"] == new.content_hash
            if latest is not None and same and latest["status"] != VersionStatus.FAILED:
                self._db.execute("commit")
                return _version(latest), False
            self._rows("add_agent", **name, now=now)
            row = self._row(
                "add_version",
                **name,
                now=now,
                definition=json.dumps(new.definition),
                description=new.description,
                metadata=json.dumps(dict(new.metadata)),
                content_hash=new.content_hash,
                code_sha256=new.code_sha256,
            )
            self._db.execute("commit")
        except BaseException:
            self._db.execute("rollback")
            raise
        assert row is not None
        return _version(row), True

    async def find_version(
        self, project: ProjectName, agent: AgentName, version: VersionId
    ) -> VersionRecord | None:
        if not _NUMBER.fullmatch(version):
            return None
        row = await self._run(
            lambda: self._row("find_version", project=project, agent=agent, number=int(version))
        )
        return _version(row) if row else None

    async def list_versions(
        self, project: ProjectName, agent: AgentName
    ) -> Sequence[VersionRecord]:
        rows = await self._run(lambda: self._rows("list_versions", project=project, agent=agent))
        return [_version(row) for row in rows]

    async def latest_version(
        self, project: ProjectName, agent: AgentName, *, status: VersionStatus | None = None
    ) -> VersionRecord | None:
        row = await self._run(
            lambda: self._row("latest_version", project=project, agent=agent, status=status)
        )
        return _version(row) if row else None

    async def finish_version(
        self,
        record: VersionRecord,
        *,
        launch: Mapping[str, Any] | None = None,
        error: str | None = None,
    ) -> VersionRecord:
        row = await self._run(
            lambda: self._row(
                "finish_version",
                project=record.project,
                agent=record.agent,
                number=int(record.version),
                status=VersionStatus.FAILED if launch is None else VersionStatus.ACTIVE,
                launch=None if launch is None else json.dumps(launch),
                error=error,
            )
        )
        assert row is not None
        return _version(row)

    async def unfinished_versions(self) -> Sequence[VersionRecord]:
        return [_version(row) for row in await self._run(lambda: self._rows("unfinished_versions"))]

    async def find_session(self, key: SessionKey) -> SessionRecord | None:
        row = await self._run(lambda: self._row("find_session", **_key(key)))
        return _session(row) if row else None

    async def add_session(self, record: SessionRecord) -> SessionRecord:
        def add() -> sqlite3.Row | None:
            # Rows are never deleted between the two: this thread is the only writer of them.
            self._rows(
                "add_session",
                **_key(record.key),
                number=int(record.version),
                owner=record.owner,
                status=record.status,
                created_at=_text(record.created_at),
                last_accessed_at=_text(record.last_accessed_at),
                home=record.home,
            )
            return self._row("find_session", **_key(record.key))

        row = await self._run(add)
        assert row is not None
        return _session(row)

    async def touch_session(
        self, key: SessionKey, at: dt.datetime, status: SessionStatus | None = None
    ) -> None:
        await self._run(
            lambda: self._rows("touch_session", **_key(key), at=_text(at), status=status)
        )

    async def list_sessions(
        self, project: ProjectName, agent: AgentName, *, owner: str | None = None
    ) -> Sequence[SessionRecord]:
        rows = await self._run(
            lambda: self._rows("list_sessions", project=project, agent=agent, owner=owner)
        )
        return [_session(row) for row in rows]

    async def settle_sessions(self) -> None:
        await self._run(lambda: self._rows("settle_sessions"))

    async def ping(self) -> None:
        await self._run(lambda: self._db.execute("select 1").fetchone())

    async def aclose(self) -> None:
        # Closing a closed connection does nothing; a thread that was shut down takes no work.
        try:
            await self._run(self._db.close)
        except RuntimeError:
            return
        self._thread.shutdown(wait=False)


def _connect(path: Path) -> sqlite3.Connection:
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    db = sqlite3.connect(path, isolation_level=None, timeout=10)
    try:
        db.row_factory = sqlite3.Row
        db.execute("pragma journal_mode = wal")
        db.execute("pragma synchronous = normal")
        db.execute("pragma foreign_keys = on")
        migrate(db)
    except BaseException:
        db.close()
        raise
    return db


def _text(at: dt.datetime) -> str:
    return at.astimezone(dt.UTC).isoformat(timespec="microseconds")


def _key(key: SessionKey) -> dict[str, str]:
    return {"project": key.project, "agent": key.agent, "session_id": key.session_id}


def _agent(row: sqlite3.Row) -> AgentRecord:
    return AgentRecord(
        project=ProjectName(row["project"]),
        name=AgentName(row["name"]),
        created_at=dt.datetime.fromisoformat(row["created_at"]),
    )


def _version(row: sqlite3.Row) -> VersionRecord:
    return VersionRecord(
        project=ProjectName(row["project"]),
        agent=AgentName(row["agent"]),
        version=VersionId(str(row["number"])),
        created_at=dt.datetime.fromisoformat(row["created_at"]),
        status=VersionStatus(row["status"]),
        definition=json.loads(row["definition"]),
        description=row["description"],
        metadata=json.loads(row["metadata"]),
        content_hash=row["content_hash"],
        code_sha256=row["code_sha256"],
        error=row["error"],
        launch=None if row["launch"] is None else json.loads(row["launch"]),
    )


def _session(row: sqlite3.Row) -> SessionRecord:
    return SessionRecord(
        key=SessionKey(
            ProjectName(row["project"]), AgentName(row["agent"]), SessionId(row["session_id"])
        ),
        version=VersionId(str(row["number"])),
        owner=row["owner"],
        status=SessionStatus(row["status"]),
        created_at=dt.datetime.fromisoformat(row["created_at"]),
        last_accessed_at=dt.datetime.fromisoformat(row["last_accessed_at"]),
        home=row["home"],
    )
