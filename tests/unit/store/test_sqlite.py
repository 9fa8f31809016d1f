"""What is SQLite's own: the schema, and the one thread."""

import asyncio
import datetime as dt
import logging
import os
import sqlite3
import stat
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier

import pytest

from trunkline.protocol.errors import UnavailableError
from trunkline.protocol.ids import AgentName, NodeId, ProjectName
from trunkline.store.errors import SchemaTooNewError, StoreNotOpenError
from trunkline.store.paging import EVERYTHING
from trunkline.store.records import NewVersion
from trunkline.store.sql.engine import Db
from trunkline.store.sql.queries import load_queries
from trunkline.store.sqlite import schema
from trunkline.store.sqlite.engine import SqliteEngine, open_sqlite
from trunkline.store.sqlite.schema import migrate

MIGRATIONS = Path(schema.__file__).parent / "migrations"


def open_file(path: Path) -> sqlite3.Connection:
    return sqlite3.connect(path, isolation_level=None, timeout=10)


def version_of(db: sqlite3.Connection) -> int:
    return int(db.execute("pragma user_version").fetchone()[0])


def test_a_schema_from_the_future_is_refused_and_left_alone() -> None:
    db = open_file(Path(":memory:"))
    migrate(db)
    known = version_of(db)
    db.execute(f"pragma user_version = {known + 1}")
    with pytest.raises(SchemaTooNewError, match=rf"schema {known + 1}.*up to {known}") as caught:
        migrate(db)
    assert "--state-dir" in str(caught.value)
    assert version_of(db) == known + 1
    assert not db.in_transaction
    db.close()


async def test_a_store_of_the_future_does_not_open(tmp_path: Path) -> None:
    path = tmp_path / "trunkline.db"
    await (await open_sqlite(path)).aclose()
    db = open_file(path)
    db.execute("pragma user_version = 999")
    db.close()
    with pytest.raises(SchemaTooNewError, match="schema 999"):
        await open_sqlite(path)


def test_migrating_twice_changes_nothing() -> None:
    db = open_file(Path(":memory:"))
    migrate(db)
    before = db.execute("select sql from sqlite_schema order by name").fetchall()
    db.execute("insert into agents (project, name, created_at) values ('p', 'a', 't')")
    migrate(db)
    assert db.execute("select sql from sqlite_schema order by name").fetchall() == before
    assert db.execute("select count(*) from agents").fetchone() == (1,)
    db.close()


def test_a_migration_that_fails_leaves_nothing_behind() -> None:
    db = open_file(Path(":memory:"))
    db.execute("create table sessions (x)")
    with pytest.raises(sqlite3.OperationalError, match="sessions"):
        migrate(db)
    tables = db.execute("select name from sqlite_schema where type = 'table'").fetchall()
    assert tables == [("sessions",)]
    assert version_of(db) == 0
    assert not db.in_transaction
    db.close()


def test_two_processes_that_open_a_new_file_at_once_both_succeed(tmp_path: Path) -> None:
    together = Barrier(4)

    def open_it(_: int) -> int:
        db = open_file(tmp_path / "new.db")
        together.wait()
        migrate(db)
        version = version_of(db)
        db.close()
        return version

    with ThreadPoolExecutor(4) as threads:
        newest = max(int(name.split("_")[0]) for name in os.listdir(MIGRATIONS))
        assert set(threads.map(open_it, range(4))) == {newest}


async def test_a_file_of_the_first_schema_keeps_all_it_has(tmp_path: Path) -> None:
    path = tmp_path / "trunkline.db"
    db = open_file(path)
    db.executescript((MIGRATIONS / "0001_agents_versions_sessions.sql").read_text("utf-8"))
    at = "2026-01-02T03:04:05.678901+00:00"
    db.execute("insert into agents values ('p', 'a', ?)", (at,))
    for number, status, error in ((1, "failed", "no"), (2, "active", None)):
        db.execute(
            "insert into versions values ('p', 'a', ?, ?, ?, '{}', 'd', '{}', 'h', 'c', ?, '{}')",
            (number, at, status, error),
        )
    for name, status in (("s", "active"), ("f", "failed")):
        db.execute(
            "insert into sessions values ('p', 'a', ?, 2, 'i|anna', ?, ?, ?, 'home')",
            (name, status, at, at),
        )
    db.execute("pragma user_version = 1")
    db.close()
    store = await open_sqlite(path)
    project, agent = ProjectName("p"), AgentName("a")
    record = await store.find_agent(project, agent)
    assert record is not None
    assert (record.is_enabled, record.endpoint, record.card) == (True, {}, None)
    versions = (await store.list_versions(project, agent, EVERYTHING)).items
    assert [(v.version, v.status, v.error_code) for v in versions] == [
        ("2", "active", None),
        ("1", "failed", "CodeError"),
    ]
    sessions = (await store.list_sessions(project, agent, EVERYTHING)).items
    assert [(s.key.session_id, s.status, s.version) for s in sessions] == [
        ("s", "idle", "2"),
        ("f", "failed", "2"),
    ]
    created = dt.datetime.fromisoformat(at)
    assert [(s.created_at, s.expires_at) for s in sessions] == [
        (created, created + dt.timedelta(days=30))
    ] * 2
    await store.add_node(NodeId("n"), created, "http://n")
    assert await store.heartbeat(NodeId("n"), created)
    await store.aclose()


def test_every_query_of_the_store_is_there() -> None:
    queries = load_queries()
    assert {"add_version", "find_session", "claim_session"} <= set(queries)
    assert all(text.endswith(";") for text in queries.values())


async def test_the_state_directory_is_for_its_owner_alone(tmp_path: Path) -> None:
    store = await open_sqlite(tmp_path / "state" / "trunkline.db")
    await store.aclose()
    assert stat.S_IMODE((tmp_path / "state").stat().st_mode) == 0o700


async def test_a_file_that_is_no_database_does_not_open(tmp_path: Path) -> None:
    path = tmp_path / "trunkline.db"
    path.write_bytes(b"this is text, and long enough to be read as a header" * 100)
    with pytest.raises(StoreNotOpenError, match=r"trunkline.db: file is not a database"):
        await open_sqlite(path)


async def test_a_full_disk_is_no_answer_for_now_and_told_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    engine = await SqliteEngine.open(tmp_path / "trunkline.db")

    def fill(_db: Db) -> None:
        engine._db.execute("create table if not exists filler (text)")
        engine._db.execute("insert into filler values (zeroblob(100000))")

    def pragma(text: str) -> int:
        return int(engine._db.execute(f"pragma {text}").fetchone()[0])

    # As a disk would have it that has no room for more.
    pages = await engine._run(lambda: pragma("page_count"))
    await engine._run(lambda: pragma(f"max_page_count = {pages}"))
    with caplog.at_level(logging.INFO, "trunkline.store"):
        for _ in range(3):
            with pytest.raises(UnavailableError, match="the store can't be written"):
                await engine.write(fill)
        assert [record.getMessage() for record in caplog.records] == [
            "the store can't be written, and calls that need it get 503: database or disk is full"
        ]
        await engine._run(lambda: pragma(f"max_page_count = {pages + 100}"))
        await engine.write(fill)
        assert caplog.messages[1:] == ["the store can be written again"]
    await engine.aclose()


async def test_a_call_cancelled_while_it_runs_is_done_whole(tmp_path: Path) -> None:
    store = await open_sqlite(tmp_path / "trunkline.db")
    loop = asyncio.get_running_loop()
    is_running, may_go_on = asyncio.Event(), threading.Event()
    new = NewVersion(
        project=ProjectName("p"),
        agent=AgentName("a"),
        definition={},
        description=None,
        metadata={},
        content_hash="h",
        code_sha256="c",
        builder=NodeId("n"),
    )

    def work(db: Db) -> None:
        loop.call_soon_threadsafe(is_running.set)
        may_go_on.wait()
        db.rows("add_agent", project="p", agent="a", now="2026-01-01T00:00:00+00:00")

    try:
        task = asyncio.create_task(store._engine.write(work))
        await is_running.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        queued = asyncio.create_task(store.add_version(new))
        await asyncio.sleep(0)
        queued.cancel()
        with pytest.raises(asyncio.CancelledError):
            await queued
        may_go_on.set()
        # Behind it in the thread.
        await store.ping()
        agent = await store.find_agent(ProjectName("p"), AgentName("a"))
        assert agent is not None
        # The one that waited its turn never ran.
        listed = await store.list_versions(ProjectName("p"), AgentName("a"), EVERYTHING)
        assert list(listed.items) == []
    finally:
        may_go_on.set()
        await store.aclose()
