"""Sessions are made ahead, stopped, deleted, limited, routed, and taken over from the dead."""

import asyncio
import datetime as dt
from pathlib import Path

import pytest

from tests.unit.sessions.support import (
    ANNA,
    BERTA,
    key,
    metric,
    until_deleting,
    upkeep_of,
    world,
)
from trunkline.protocol.errors import (
    AgentDisabledError,
    ConflictError,
    ProtocolNotDeclaredError,
    QuotaExceededError,
    SessionNotAccessibleError,
    SessionNotFoundError,
    SessionNotReadyError,
    UnavailableError,
    VersionNotFoundError,
)
from trunkline.protocol.ids import NodeId
from trunkline.sessions.ownership import find_owned
from trunkline.store.records import SessionStatus


async def test_a_session_made_ahead_is_started_and_is_the_same_when_made_again(
    tmp_path: Path,
) -> None:
    async with world(tmp_path) as w:
        await w.add_version()
        record = await w.sessions.create(key(), ANNA)
        assert (record.status, record.version) == (SessionStatus.CREATING, "1")
        again = await w.sessions.create(key(), ANNA, version="1")
        assert (again.key, again.created_at) == (record.key, record.created_at)
        await w.runtime.begun.wait()
        lease = await w.acquire()
        assert len(w.runtime.specs) == 1
        lease.release()
        with pytest.raises(SessionNotAccessibleError):
            await w.sessions.create(key(), BERTA)


async def test_a_session_that_is_there_on_another_version_is_a_conflict(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        await w.add_version()
        await w.add_version(cpu="2")
        await w.sessions.create(key(), ANNA, version="1")
        with pytest.raises(ConflictError, match="is there already, on version 1"):
            await w.sessions.create(key(), ANNA, version="2")
        with pytest.raises(VersionNotFoundError, match="no version '9'"):
            await w.sessions.create(key("other"), ANNA, version="9")


async def test_a_start_ahead_that_fails_is_told_by_the_status(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        await w.add_version()
        w.runtime.error = SessionNotReadyError("it printed nothing")
        await w.sessions.create(key(), ANNA)
        (task,) = [t for t in asyncio.all_tasks() if t.get_name() == f"warm-up:{key()}"]
        await asyncio.wait((task,))
        record = await w.store.find_session(key())
        assert record is not None
        assert (record.status, record.holder) == (SessionStatus.FAILED, None)
        w.runtime.error = None
        (await w.acquire()).release()


async def test_only_so_many_sessions_run_at_once(tmp_path: Path) -> None:
    async with world(tmp_path, max_running=2) as w:
        await w.add_version()
        leases = [await w.acquire(name) for name in ("a", "b")]
        with pytest.raises(QuotaExceededError, match="TRUNKLINE_SESSIONS_MAX_RUNNING"):
            await w.acquire("c")
        assert metric(w.metrics, 'trunkline_limit_refusals_total{limit="max_running"}') == 1
        leases[0].release()
        await w.sessions.stop(key("a"))
        (await w.acquire("c")).release()
        leases[1].release()


async def test_stopping_keeps_the_session_and_its_files(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        await w.add_version()
        lease = await w.acquire()
        home = w.runtime.specs[0].home
        (home / "kept").write_text("x")
        await w.sessions.stop(key())
        await lease.wait_exited()
        assert not w.sessions.is_running(key())
        record = await w.store.find_session(key())
        assert record is not None
        assert (record.status, record.holder) == (SessionStatus.IDLE, None)
        assert record.stopped_at is not None
        lease.release()
        await w.sessions.stop(key())
        again = await w.acquire()
        assert w.runtime.specs[1].home == home
        assert (home / "kept").read_text() == "x"
        again.release()


async def test_deleting_ends_the_process_and_removes_everything(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        await w.add_version()
        lease = await w.acquire()
        home = w.runtime.specs[0].home
        await w.delete()
        await lease.wait_exited()
        # What the connection's end has to say comes too late, and makes nothing anew.
        lease.log.event("ConnectionClosed", "code=1001")
        lease.release()
        assert not home.parent.exists()
        assert await w.store.find_session(key()) is None
        await w.delete()
        (await w.acquire(caller=BERTA)).release()
        assert list(w.runtime.specs[1].home.iterdir()) == []


async def test_a_session_deleted_while_it_starts_does_not_stay(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        await w.add_version()
        w.runtime.may_start.clear()
        waiting = asyncio.create_task(w.acquire())
        await w.runtime.begun.wait()
        deleting = asyncio.create_task(w.delete())
        await until_deleting(w)
        w.runtime.may_start.set()
        with pytest.raises(ConflictError, match="was deleted while it started"):
            await waiting
        await deleting
        assert [i.exited.done() for i in w.runtime.instances] == [True]
        assert await w.store.find_session(key()) is None


async def test_a_disabled_agent_takes_no_calls(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        version = await w.add_version()
        (await w.acquire()).release()
        await w.store.update_agent(version.project, version.agent, is_enabled=False)
        with pytest.raises(AgentDisabledError, match="is disabled"):
            await w.acquire()
        with pytest.raises(AgentDisabledError):
            await w.sessions.create(key("other"), ANNA)
        await w.store.update_agent(version.project, version.agent, is_enabled=True)
        (await w.acquire()).release()


async def test_new_sessions_are_spread_by_the_rules_and_keep_their_version(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        first = await w.add_version()
        await w.add_version(cpu="2")

        async def versions_of(names: str) -> list[str]:
            found = []
            for name in names:
                lease = await w.acquire(name)
                found.append(lease.version.version)
                lease.release()
            return found

        async def route(*shares: tuple[str, int]) -> None:
            rules = [
                {"type": "FixedRatio", "agent_version": version, "traffic_percentage": share}
                for version, share in shares
            ]
            await w.store.update_agent(
                first.project,
                first.agent,
                endpoint={"version_selector": {"version_selection_rules": rules}},
            )

        assert await versions_of("a") == ["2"]
        await route(("1", 100), ("@latest", 0))
        assert await versions_of("bcd") == ["1", "1", "1"]
        assert await versions_of("a") == ["2"]
        await route(("1", 0), ("@latest", 100))
        assert await versions_of("efb") == ["2", "2", "1"]
        await route(("9", 100))
        with pytest.raises(VersionNotFoundError):
            await versions_of("g")


async def test_the_endpoint_says_which_protocols_are_routed(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        version = await w.add_version()
        await w.store.update_agent(
            version.project, version.agent, endpoint={"protocol_configuration": {"invocations": {}}}
        )
        (await w.acquire(protocol="invocations")).release()
        with pytest.raises(ProtocolNotDeclaredError, match="doesn't route the protocol"):
            await w.acquire(protocol="invocations_ws")


async def test_what_was_not_used_for_its_lifetime_is_gone(tmp_path: Path) -> None:
    async with world(tmp_path, lifetime_s=1.0) as w:
        await w.add_version()
        lease = await w.acquire()
        home = w.runtime.specs[0].home
        (home / "old").write_text("x")
        lease.release()
        await w.sessions.stop(key())
        upkeep = upkeep_of(w)
        record = await w.store.find_session(key())
        assert record is not None
        past = record.created_at - dt.timedelta(days=1)
        await w.store.touch_sessions({key(): past}, dt.timedelta(0))
        await upkeep._clear_up()
        assert await w.store.find_session(key()) is None
        assert not home.exists()


async def test_files_in_use_keep_a_deletion_waiting(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        await w.add_version()
        (await w.acquire()).release()
        record = await w.store.find_session(key())
        assert record is not None
        async with w.sessions.files_of(record) as files:
            deleting = asyncio.create_task(w.delete())
            await until_deleting(w)
            files.make_folder("still/there")
            assert not deleting.done()
        await deleting
        with pytest.raises(SessionNotFoundError):
            async with w.sessions.files_of(record):
                pass
        assert not (w.sessions_dir / record.home).exists()


async def test_the_dead_are_buried_and_their_sessions_free(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        await w.add_version()
        await w.sessions.create(key(), ANNA)
        (await w.acquire()).release()
        await w.sessions.stop(key())
        dead = NodeId("node-dead")
        await w.store.add_node(dead, dt.datetime.now(dt.UTC), "http://127.0.0.1:2")
        await w.store.claim_session(key(), dead)
        with pytest.raises(UnavailableError):
            await w.acquire()
        upkeep = upkeep_of(w)
        await upkeep.begin(is_alone=True)
        assert dead in w.runtime.buried
        (await w.acquire()).release()
        await upkeep.aclose()


async def test_a_session_that_is_being_deleted_is_nobody_elses_business(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        await w.add_version()
        await w.sessions.create(key(), ANNA)
        await w.store.mark_session_deleting(key())
        with pytest.raises(ConflictError):
            await w.acquire()
        with pytest.raises(SessionNotAccessibleError):
            await w.acquire(caller=BERTA)
        with pytest.raises(SessionNotAccessibleError):
            await w.sessions.create(key(), BERTA)


async def test_only_its_owner_is_told_that_a_session_is_gone(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        await w.add_version()
        await w.sessions.create(key(), ANNA)
        await w.delete()
        with pytest.raises(SessionNotFoundError):
            await find_owned(w.store, key(), ANNA.identity.owner)
        answers = []
        for _ in range(2):
            with pytest.raises(SessionNotAccessibleError) as caught:
                await find_owned(w.store, key(), BERTA.identity.owner)
            answers.append(str(caught.value))
            # Then there is one again, of somebody else: the answers are the same.
            await w.sessions.create(key(), ANNA)
        assert answers[0] == answers[1]
        await w.delete()
        await w.sessions.create(key(), BERTA)
        with pytest.raises(SessionNotFoundError):
            await find_owned(w.store, key(), ANNA.identity.owner)
