"""Rows looked up in the event loop: what is kept, and that nothing is kept that has changed."""

import asyncio
import dataclasses
import datetime as dt
import sqlite3
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from trunkline.protocol.ids import AgentName, NodeId, ProjectName, VersionId
from trunkline.store.records import AgentRecord, NewVersion
from trunkline.store.sql.store import SqlStore
from trunkline.store.sqlite import lookups
from trunkline.store.sqlite.engine import open_sqlite
from trunkline.store.sqlite.lookups import BusyError, Lookups

PROJECT, AGENT = ProjectName("p"), AgentName("a")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "of a user's" / "trunkline?.db"


@pytest.fixture
async def store(path: Path) -> AsyncIterator[SqlStore]:
    store = await open_sqlite(path)
    await store.add_version(
        NewVersion(
            project=PROJECT, agent=AGENT, definition={}, description=None, metadata={},
            content_hash="h", code_sha256="c", builder=NodeId("n"),
        )
    )  # fmt: skip
    yield store
    await store.aclose()


async def found(store: SqlStore) -> AgentRecord:
    record = await store.find_agent(PROJECT, AGENT)
    assert record is not None
    return record


async def test_what_has_not_changed_is_the_same(store: SqlStore) -> None:
    first = await found(store)
    assert await found(store) is first


async def test_what_a_commit_has_not_changed_is_the_same_record(store: SqlStore) -> None:
    first, version = await found(store), await store.find_version(PROJECT, AGENT, VersionId("1"))
    await store.add_node(NodeId("n"), dt.datetime.now(dt.UTC), "http://x")
    assert await found(store) is first
    assert version is not None
    assert await store.find_version(PROJECT, AGENT, VersionId("1")) is version
    await store.update_agent(PROJECT, AGENT, is_enabled=False)
    assert await found(store) == dataclasses.replace(first, is_enabled=False)


async def test_what_this_process_commits_is_seen_at_once(store: SqlStore) -> None:
    assert (await found(store)).is_enabled
    for is_enabled in (False, True, False):
        await store.update_agent(PROJECT, AGENT, is_enabled=is_enabled)
        assert (await found(store)).is_enabled is is_enabled


async def test_what_another_process_commits_is_seen_in_the_next_turn(
    store: SqlStore, path: Path
) -> None:
    assert (await found(store)).is_enabled
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("begin immediate")
    other.execute("update agents set is_enabled = 0")
    # Not before it is committed.
    assert (await found(store)).is_enabled
    other.execute("commit")
    # Whatever comes from outside, such as the next request, comes in another turn.
    await asyncio.sleep(0)
    assert not (await found(store)).is_enabled
    other.close()


async def test_what_is_not_there_is_looked_for_again(store: SqlStore) -> None:
    assert await store.find_agent(PROJECT, AgentName("other")) is None
    assert await store.find_agent(PROJECT, AgentName("other")) is None
    await store.add_version(
        NewVersion(
            project=PROJECT, agent=AgentName("other"), definition={}, description=None,
            metadata={}, content_hash="h", code_sha256="c", builder=NodeId("n"),
        )
    )  # fmt: skip
    assert await store.find_agent(PROJECT, AgentName("other")) is not None


async def test_a_file_that_cannot_be_read_at_once_is_read_by_the_thread(
    store: SqlStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    def busy(*_: object) -> None:
        raise BusyError

    monkeypatch.setattr(Lookups, "look", busy)
    assert (await found(store)).name == AGENT
    assert await store.find_agent(PROJECT, AgentName("none")) is None


async def test_what_sqlite_refuses_is_left_to_the_thread(path: Path, store: SqlStore) -> None:
    del store
    own = Lookups(path, {"one": "select * from agents where name = :agent"})
    missing = Lookups(path, {"one": "select * from nothing"})
    with pytest.raises(BusyError):
        missing.look("one", lambda db: db.rows("one"))
    assert own.look("one", lambda db: db.rows("one", agent=AGENT))
    own.close()
    own.close()
    missing.close()


async def test_it_keeps_no_more_than_so_many(
    path: Path, store: SqlStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    del store
    monkeypatch.setattr(lookups, "_MAX_KEPT", 3)
    own = Lookups(path, {"one": "select :n as n"})

    def look(n: int) -> dict[str, int]:
        return own.look(n, lambda db: dict(db.rows("one", n=n)[0]))

    first = [look(n) for n in range(4)]
    assert first == [{"n": n} for n in range(4)]
    assert look(3) is first[3]
    assert look(0) is not first[0]
    own.close()


async def test_it_cannot_write(path: Path, store: SqlStore) -> None:
    del store
    own = Lookups(path, {"one": "update agents set is_enabled = 0 returning *"})
    with pytest.raises(BusyError):
        own.look("one", lambda db: db.rows("one"))
    own.close()
