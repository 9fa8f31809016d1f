"""Nodes say that they live, bury those that don't, and begin again when they were buried."""

import asyncio
import datetime as dt
import logging
import math
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from tests.unit.sessions.support import (
    ANNA,
    NODE,
    FakeInstance,
    World,
    key,
    until,
    until_deleting,
    upkeep_of,
    world,
)
from trunkline.protocol.errors import ConflictError, UnavailableError
from trunkline.protocol.ids import NodeId
from trunkline.sessions.elsewhere import SessionElsewhereError
from trunkline.sessions.upkeep import Upkeep
from trunkline.store.records import SessionStatus

OTHER = NodeId("node-2")
NOW = dt.datetime(2026, 1, 2, tzinfo=dt.UTC)


@pytest.fixture
async def w(tmp_path: Path) -> AsyncIterator[World]:
    async with world(tmp_path, upkeep_interval_s=0.02, node_timeout_s=0.06) as w:
        await w.add_version()
        yield w


async def held_by_other(w: World, session_id: str = "s") -> None:
    await w.store.add_node(OTHER, NOW, "http://127.0.0.1:2")
    lease = await w.acquire(session_id)
    lease.release()
    await w.sessions.stop(key(session_id))
    await w.until_settled(session_id)
    await w.store.claim_session(key(session_id), OTHER)


class Follower:
    """Writes down what it is told."""

    def __init__(self) -> None:
        self.told: list[str] = []
        self.took_over = asyncio.Event()

    async def give_up(self) -> None:
        self.told.append("give up")

    async def take_over(self) -> None:
        self.told.append("take over")
        self.took_over.set()


async def until_free(w: World, session_id: str = "s") -> None:
    async def is_free() -> bool:
        found = await w.store.find_session(key(session_id))
        assert found is not None
        return found.holder is None

    await until(is_free)


async def until_gone(w: World) -> None:
    async def is_gone() -> bool:
        return await w.store.find_session(key()) is None

    await until(is_gone)


async def until_heard_again(w: World) -> None:
    first = await w.store.find_node(NODE)
    assert first is not None

    async def is_heard() -> bool:
        now = await w.store.find_node(NODE)
        assert now is not None
        return now != first

    await until(is_heard)


# Elsewhere


async def test_a_session_of_another_node_is_told_with_its_node(w: World) -> None:
    await held_by_other(w)
    with pytest.raises(SessionElsewhereError) as caught:
        await w.acquire()
    assert (caught.value.node, caught.value.key) == (OTHER, key())
    assert len(w.runtime.specs) == 1
    # Making one that is there already is no matter of where it runs.
    record = await w.sessions.create(key(), ANNA)
    assert record.holder == OTHER
    with pytest.raises(SessionElsewhereError):
        w.sessions.refuse_elsewhere(record)


async def test_one_that_is_claimed_meanwhile_is_told_to_all_who_wait(w: World) -> None:
    await w.store.add_node(OTHER, NOW, "http://127.0.0.1:2")
    w.runtime.may_stop.clear()
    (await w.acquire()).release()
    w.sessions._processes._stop(w.sessions._processes._slots[key()])
    # All of these wait for the stop, and then there is another holder.
    waiting = [asyncio.create_task(w.acquire()) for _ in range(3)]
    await w.runtime.instances[0].stop_asked.wait()
    real = w.store.release_session

    async def release(*args: Any) -> None:
        await real(*args)
        await w.store.claim_session(key(), OTHER)

    w.store.release_session = release  # type: ignore[method-assign]
    w.runtime.may_stop.set()
    results = await asyncio.gather(*waiting, return_exceptions=True)
    assert [type(result) for result in results] == [SessionElsewhereError] * 3
    assert len(w.runtime.specs) == 1
    assert not w.sessions._processes._slots


async def test_a_deletion_waits_for_whoever_runs_the_session(w: World) -> None:
    await held_by_other(w)
    home = w.runtime.specs[0].home
    deleting = asyncio.create_task(w.delete())
    await until_deleting(w)
    await asyncio.sleep(0.05)
    assert not deleting.done()
    assert home.exists()
    await w.store.release_session(key(), OTHER, NOW, SessionStatus.IDLE)
    await deleting
    assert not home.exists()
    assert await w.store.find_session(key()) is None


async def test_a_node_that_is_none_starts_nothing(w: World) -> None:
    await w.store.remove_node(NODE)
    with pytest.raises(UnavailableError, match="taken for dead"):
        await w.acquire()
    assert w.runtime.specs == []


async def test_nothing_is_started_once_others_may_have_taken_it_over(w: World) -> None:
    """It was paused between its claim and the start: by its own clock that shows at once."""
    claim = w.store.claim_session

    async def claimed_long_ago(*args: Any, **kwargs: Any) -> Any:
        result = await claim(*args, **kwargs)
        w.sessions.vouch(time.monotonic() - 0.001)
        return result

    w.store.claim_session = claimed_long_ago  # type: ignore[method-assign]
    with pytest.raises(UnavailableError, match="may have taken this one for dead"):
        await w.acquire()
    assert w.runtime.specs == []
    w.store.claim_session = claim  # type: ignore[method-assign]
    upkeep = upkeep_of(w)
    await upkeep.begin(is_alone=False)
    await upkeep._beat()
    (await w.acquire()).release()
    await upkeep.aclose()


async def test_one_that_has_the_store_to_itself_is_never_in_doubt(w: World) -> None:
    upkeep = upkeep_of(w)
    await upkeep.begin(is_alone=True)
    await upkeep._beat()
    assert w.sessions._processes.surely_alive_until == float("inf")
    await upkeep.aclose()


# Burials


async def test_one_that_falls_silent_is_buried_and_its_sessions_are_free(
    w: World, caplog: pytest.LogCaptureFixture
) -> None:
    await held_by_other(w)
    upkeep, follower = upkeep_of(w, upkeep_interval_s=0.02, node_timeout_s=0.06), Follower()
    upkeep.followers = (follower,)
    await upkeep.begin(is_alone=False)
    running = asyncio.create_task(upkeep.run())
    await until_free(w)
    assert w.runtime.buried == [OTHER]
    await follower.took_over.wait()
    assert "give up" not in follower.told
    assert [record.node for record in await w.store.list_nodes()] == [NODE]
    running.cancel()
    # By so short a time a start may come too late after the last sign of life.
    w.sessions.vouch(math.inf)
    (await w.acquire()).release()
    await upkeep.aclose()
    assert list(await w.store.list_nodes()) == []
    assert "a platform process died" in caplog.text


async def test_one_that_gives_signs_of_life_is_not_buried(w: World) -> None:
    await held_by_other(w)
    upkeep = upkeep_of(w, upkeep_interval_s=0.02, node_timeout_s=0.06)
    for number in range(20):
        assert await w.store.heartbeat(OTHER, NOW + dt.timedelta(seconds=number))
        await upkeep._bury_the_dead()
        await asyncio.sleep(0.01)
    assert w.runtime.buried == []


async def test_a_sign_of_life_in_the_last_moment_counts(w: World) -> None:
    await held_by_other(w)
    upkeep = upkeep_of(w)
    await w.store.heartbeat(OTHER, NOW + dt.timedelta(seconds=1))
    await upkeep._bury(OTHER, heard_at=NOW)
    assert w.runtime.buried == []
    found = await w.store.find_session(key())
    assert found is not None
    assert found.holder == OTHER


async def test_what_a_dead_node_left_runs_no_more_when_its_sessions_are_free(w: World) -> None:
    await held_by_other(w)
    seen = []

    async def end_leftovers(node: NodeId) -> int:
        found = await w.store.find_session(key())
        assert found is not None
        seen.append((await w.store.find_node(node), found.holder))
        return 1

    w.runtime.end_leftovers = end_leftovers  # type: ignore[method-assign]
    await upkeep_of(w)._bury(OTHER, heard_at=NOW)
    assert seen == [(None, OTHER)]
    await until_free(w)


async def test_signs_of_life_go_on_while_an_agent_takes_long_to_end(w: World) -> None:
    (await w.acquire()).release()
    w.runtime.may_stop.clear()
    upkeep = upkeep_of(w, upkeep_interval_s=0.02, node_timeout_s=0.06)
    await upkeep.begin(is_alone=False)
    running = asyncio.create_task(upkeep.run())
    await w.store.mark_session_deleting(key())
    await w.runtime.instances[0].stop_asked.wait()
    await until_heard_again(w)
    w.runtime.may_stop.set()
    await until_gone(w)
    running.cancel()
    await upkeep.aclose()


async def test_a_burial_that_was_not_finished_is_finished_by_others(
    w: World, caplog: pytest.LogCaptureFixture
) -> None:
    """Whoever struck the node off died, or couldn't end what the node left running."""
    await held_by_other(w)
    await w.store.remove_node(OTHER)
    end_leftovers, failures = w.runtime.end_leftovers, 2

    async def fail_at_first(node: NodeId) -> int:
        nonlocal failures
        failures -= 1
        if failures >= 0:
            raise UnavailableError("they don't end")
        return await end_leftovers(node)

    w.runtime.end_leftovers = fail_at_first  # type: ignore[method-assign]
    upkeep = upkeep_of(w, upkeep_interval_s=0.02, node_timeout_s=0.06)
    await upkeep.begin(is_alone=False)
    found = await w.store.find_session(key())
    assert found is not None
    assert found.holder == OTHER
    running = asyncio.create_task(upkeep.run())
    await until_free(w)
    assert w.runtime.buried == [OTHER]
    assert caplog.text.count("they don't end") == 2
    running.cancel()
    await upkeep.aclose()


async def test_one_that_ends_frees_only_its_own_sessions(w: World) -> None:
    """What another dead node held may run on until its leftovers are ended."""
    await held_by_other(w)
    await w.store.remove_node(OTHER)
    upkeep = upkeep_of(w)
    await upkeep.aclose()
    found = await w.store.find_session(key())
    assert found is not None
    assert found.holder == OTHER


async def test_sessions_are_let_go_of_while_a_follower_waits_for_others(w: World) -> None:
    class Waiting(Follower):
        async def take_over(self) -> None:
            self.took_over.set()
            await asyncio.Event().wait()

    (await w.acquire()).release()
    follower = Waiting()
    upkeep = upkeep_of(w, upkeep_interval_s=0.02, node_timeout_s=0.06)
    upkeep.followers = (follower,)
    await upkeep.begin(is_alone=False)
    running = asyncio.create_task(upkeep.run())
    await follower.took_over.wait()
    await w.store.mark_session_deleting(key())
    await until_gone(w)
    running.cancel()
    await upkeep.aclose()


# Being buried


async def lost(w: World) -> tuple[Upkeep, Follower]:
    """Be buried by another node, and find out."""
    upkeep, follower = upkeep_of(w), Follower()
    upkeep.followers = (follower,)
    await w.store.remove_node(NODE)
    await w.store.release_orphans(NODE)
    return upkeep, follower


async def test_one_that_was_buried_ends_its_agents_and_begins_again(
    w: World, caplog: pytest.LogCaptureFixture
) -> None:
    lease = await w.acquire()
    upkeep, follower = await lost(w)
    await upkeep._beat()
    assert w.runtime.buried == [NODE]
    await lease.wait_exited()
    assert follower.told == ["give up"]
    assert "this process was taken for dead" in caplog.text
    lease.release()
    assert not w.sessions.is_running(key())
    assert [record.node for record in await w.store.list_nodes()] == [NODE]
    again = await w.acquire()
    assert len(w.runtime.specs) == 2
    again.release()


async def test_what_it_was_starting_is_ended_too(w: World) -> None:
    w.runtime.may_start.clear()
    waiting = [asyncio.create_task(w.acquire()) for _ in range(3)]
    await w.runtime.begun.wait()
    upkeep, _ = await lost(w)
    await upkeep._beat()
    results = await asyncio.gather(*waiting, return_exceptions=True)
    assert [type(result) for result in results] == [UnavailableError] * 3
    assert w.runtime.cancelled_starts == 1
    w.runtime.may_start.set()
    (await w.acquire()).release()


async def test_nothing_is_started_before_it_is_a_node_again(w: World) -> None:
    lease = await w.acquire()
    w.runtime.may_stop.clear()
    upkeep, _ = await lost(w)
    joining = asyncio.create_task(upkeep._beat())
    await w.runtime.instances[0].stop_asked.wait()
    for session in ("s", "other"):
        with pytest.raises(UnavailableError, match="connect again"):
            await w.acquire(session)
    w.runtime.may_stop.set()
    await joining
    lease.release()
    (await w.acquire("other")).release()


async def test_a_session_that_another_took_over_stays_the_others(w: World) -> None:
    lease = await w.acquire()
    upkeep, _ = await lost(w)
    await w.store.add_node(OTHER, NOW, "http://127.0.0.1:2")
    await w.store.claim_session(key(), OTHER)
    await upkeep._beat()
    lease.release()
    found = await w.store.find_session(key())
    assert found is not None
    assert found.holder == OTHER
    with pytest.raises(SessionElsewhereError):
        await w.acquire()


async def test_a_start_that_another_took_over_ends_its_process(w: World) -> None:
    """The node is struck off between the claim and the first sign of readiness."""
    w.runtime.may_start.clear()
    waiting = asyncio.create_task(w.acquire())
    await w.runtime.begun.wait()
    await lost(w)
    w.runtime.may_start.set()
    with pytest.raises(ConflictError):
        await waiting
    (instance,) = w.runtime.instances
    assert isinstance(instance, FakeInstance)
    assert instance.exited.done()


# When the store doesn't answer


class Outage:
    """A store that doesn't answer for a while."""

    def __init__(self, w: World, *names: str) -> None:
        self._store = w.store
        self._names = names
        self.asked = asyncio.Event()

    def __enter__(self) -> "Outage":
        async def fail(*_: Any, **__: Any) -> None:
            self.asked.set()
            raise UnavailableError("the store doesn't answer; try again")

        for name in self._names:
            setattr(self._store, name, fail)
        return self

    def __exit__(self, *_: object) -> None:
        for name in self._names:
            delattr(self._store, name)


async def test_a_stop_that_could_not_be_told_is_told_later(w: World) -> None:
    (await w.acquire()).release()
    with Outage(w, "release_session"):
        await w.sessions.stop(key())
    found = await w.store.find_session(key())
    assert found is not None
    assert found.holder == NODE
    await upkeep_of(w)._clear_up()
    await until_free(w)


async def test_a_session_used_again_meanwhile_is_not_let_go_of(w: World) -> None:
    (await w.acquire()).release()
    with Outage(w, "release_session"):
        await w.sessions.stop(key())
    lease = await w.acquire()
    await upkeep_of(w)._clear_up()
    found = await w.store.find_session(key())
    assert found is not None
    assert (found.holder, found.status) == (NODE, SessionStatus.ACTIVE)
    lease.release()


async def test_the_upkeep_goes_on_after_an_outage(
    w: World, caplog: pytest.LogCaptureFixture
) -> None:
    upkeep = upkeep_of(w, upkeep_interval_s=0.02, node_timeout_s=0.06)
    await upkeep.begin(is_alone=False)
    running = asyncio.create_task(upkeep.run())
    with caplog.at_level(logging.WARNING), Outage(w, "heartbeat", "expire_sessions") as outage:
        await outage.asked.wait()
    await until_heard_again(w)
    assert "the sessions' upkeep is tried again: the store doesn't answer" in caplog.text
    assert "Traceback" not in caplog.text
    running.cancel()
    await upkeep.aclose()
