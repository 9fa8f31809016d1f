"""Leases that take no waiting: for what runs here, and for nothing else."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.unit.sessions.support import ANNA, BERTA, World, key, world
from trunkline.auth.caller import Caller
from trunkline.sessions.gate import Phase
from trunkline.sessions.slot import Lease


@pytest.fixture
async def w(tmp_path: Path) -> AsyncIterator[World]:
    """A directory with a session that runs, and that nobody holds."""
    async with world(tmp_path) as made:
        await made.add_version()
        (await made.acquire()).release()
        yield made


def now(
    w: World, session_id: str = "s", caller: Caller = ANNA, protocol: str = "invocations_ws"
) -> Lease | None:
    return w.sessions.acquire_now(key(session_id), caller, protocol=protocol)


async def test_it_is_the_lease_that_anybody_gets(w: World) -> None:
    lease, waited = now(w), await w.acquire()
    assert lease is not None
    assert (lease.key, lease.address) == (waited.key, waited.address)
    assert lease.version is waited.version
    assert lease.log is waited.log
    waited.release()
    lease.release()
    assert len(w.runtime.instances) == 1


async def test_it_keeps_the_session_from_idling(tmp_path: Path) -> None:
    async with world(tmp_path, idle_timeout_s=0.05) as w:
        await w.add_version()
        (await w.acquire()).release()
        lease = now(w)
        assert lease is not None
        (instance,) = w.runtime.instances
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.2):
                await instance.stop_asked.wait()
        lease.release()
        await instance.stop_asked.wait()


async def test_what_does_not_run_is_waited_for(w: World) -> None:
    assert now(w, "other") is None
    assert len(w.runtime.instances) == 1


async def test_what_is_another_ones_is_for_acquire_to_refuse(w: World) -> None:
    assert now(w, caller=BERTA) is None
    assert now(w, protocol="mcp") is None


async def test_a_disabled_agent(w: World) -> None:
    await w.store.update_agent(key().project, key().agent, is_enabled=False)
    # Whoever asks in a turn of the event loop that began before sees what was then.
    await asyncio.sleep(0)
    assert now(w) is None


async def test_what_has_ended(w: World) -> None:
    (instance,) = w.runtime.instances
    instance.crash()
    await w.until_settled()
    assert now(w) is None


async def test_what_is_stopping(w: World) -> None:
    w.runtime.may_stop.clear()
    (instance,) = w.runtime.instances
    stopping = asyncio.create_task(w.delete())
    await instance.stop_asked.wait()
    assert now(w) is None
    w.runtime.may_stop.set()
    await stopping
    await asyncio.sleep(0)
    assert now(w) is None


async def test_what_is_passed_on_to_another_process(w: World) -> None:
    for phase in (Phase.QUIET, Phase.HELD, Phase.GONE):
        w.sessions.leaving.gate.phase = phase
        assert now(w) is None
    w.sessions.leaving.gate.phase = Phase.OPEN
    lease = now(w)
    assert lease is not None
    lease.release()


async def test_nothing_when_it_is_closed(w: World) -> None:
    await w.sessions.aclose()
    assert now(w) is None
