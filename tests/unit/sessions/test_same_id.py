"""An id may be given again: what is under way for its first session isn't done to the second."""

import asyncio
import datetime as dt
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from tests.unit.sessions.support import ANNA, BERTA, NODE, World, key, until, world
from trunkline.protocol.errors import ConflictError
from trunkline.protocol.ids import SessionKey
from trunkline.store.records import Called, SessionRecord, SessionStatus


@pytest.fixture
async def w(tmp_path: Path) -> AsyncIterator[World]:
    async with world(tmp_path) as w:
        await w.add_version()
        yield w


class Overtaken:
    """Finds a session, and lets somebody else act before it is used."""

    def __init__(self, w: World) -> None:
        self._find = w.store.find_called
        self.found, self.may_go_on = asyncio.Event(), asyncio.Event()
        self._is_first = True
        w.store.find_called = self._slowly  # type: ignore[method-assign]

    async def _slowly(self, wanted: SessionKey) -> Called:
        called = await self._find(wanted)
        if self._is_first:
            self._is_first = False
            self.found.set()
            await self.may_go_on.wait()
        return called


async def is_going(w: World) -> bool:
    return (await record_of(w)).status is SessionStatus.DELETING


async def record_of(w: World) -> SessionRecord:
    record = await w.store.find_session(key())
    assert record is not None
    return record


@pytest.mark.parametrize("is_running", [False, True])
async def test_whoever_found_the_first_does_not_get_the_second(w: World, is_running: bool) -> None:
    """Its owner may be somebody else."""
    (await w.acquire()).release()
    await w.sessions.stop(key())
    await w.until_settled()
    overtaken = Overtaken(w)
    waiting = asyncio.create_task(w.acquire(caller=ANNA))
    await overtaken.found.wait()
    await w.delete()
    held = await w.acquire(caller=BERTA)
    if not is_running:
        held.release()
        await w.sessions.stop(key())
        await w.until_settled()
    overtaken.may_go_on.set()
    with pytest.raises(ConflictError, match="deleted"):
        await waiting
    assert (await record_of(w)).owner == BERTA.owner_of({})
    assert len(w.runtime.specs) == 2
    held.release()
    (await w.acquire(caller=BERTA)).release()


async def test_a_connection_that_is_late_to_end_does_not_keep_the_second_from_starting(
    w: World,
) -> None:
    late = await w.acquire()
    await w.delete()
    lease = await w.acquire(caller=BERTA)
    late.release()
    assert w.sessions.is_running(key())
    lease.release()


async def test_deleting_the_first_leaves_the_second(w: World) -> None:
    (await w.acquire()).release()
    first = await record_of(w)
    await w.sessions.delete(first)
    (await w.acquire(caller=BERTA)).release()
    await w.sessions.delete(first)
    # As one does who has listed what is left to delete, and comes to it late.
    await w.sessions.finish_deletion(first)
    assert (await record_of(w)).home != first.home
    assert w.sessions.is_running(key())


async def test_two_callers_of_an_expired_session_get_one_new_one(w: World) -> None:
    """The second has found the old one expired; the new one isn't."""
    (await w.acquire()).release()
    await w.sessions.stop(key())
    await w.until_settled()
    long_ago = dt.datetime.now(dt.UTC) - dt.timedelta(days=31)
    await w.store.touch_sessions({key(): long_ago}, dt.timedelta(0))
    expired = await record_of(w)
    find, is_stale = w.store.find_called, True

    async def find_stale(wanted: SessionKey) -> Called:
        nonlocal is_stale
        called = await find(wanted)
        if is_stale:
            is_stale = False
            return replace(called, session=expired)
        return called

    (await w.acquire()).release()
    new = await record_of(w)
    assert new.home != expired.home
    w.store.find_called = find_stale  # type: ignore[method-assign]
    (await w.acquire()).release()
    assert (await record_of(w)).home == new.home
    assert (await record_of(w)).holder == NODE
    assert len(w.runtime.instances) == 2


async def test_a_late_deletion_of_the_first_does_not_stand_for_the_seconds(w: World) -> None:
    (await w.acquire()).release()
    first = await record_of(w)
    await w.sessions.delete(first)
    (await w.acquire(caller=BERTA)).release()
    with w.sessions._files_in_use.one(key()):
        late = asyncio.create_task(w.sessions.finish_deletion(first))
        deleting = asyncio.create_task(w.delete())
        await until(lambda: is_going(w))
    await late
    await deleting
    assert await w.store.find_session(key()) is None
