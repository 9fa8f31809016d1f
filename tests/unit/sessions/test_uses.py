"""When sessions were last used: what the store is told, and when."""

import asyncio
import datetime as dt
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import cast

import pytest

from tests.unit.sessions.support import key, world
from trunkline.protocol.errors import UnavailableError
from trunkline.protocol.ids import SessionKey
from trunkline.sessions import uses as module
from trunkline.sessions.uses import Uses
from trunkline.store.interface import SessionStore

LIFETIME = dt.timedelta(days=1)


class Told:
    """A store that is told of uses, and may refuse."""

    def __init__(self) -> None:
        self.calls: list[dict[SessionKey, dt.datetime]] = []
        self.refuses = False
        self.changed = asyncio.Event()

    async def touch_sessions(
        self, uses: Mapping[SessionKey, dt.datetime], lifetime: dt.timedelta
    ) -> None:
        assert lifetime == LIFETIME
        self.changed.set()
        if self.refuses:
            raise UnavailableError("the store is away")
        self.calls.append(dict(uses))


@pytest.fixture
def told() -> Told:
    return Told()


@pytest.fixture
def uses(told: Told, monkeypatch: pytest.MonkeyPatch) -> Uses:
    monkeypatch.setattr(module, "_PAUSE_S", 0.01)
    return Uses(cast("SessionStore", told), LIFETIME)


async def test_many_uses_are_told_together_and_each_session_once(told: Told, uses: Uses) -> None:
    for _ in range(3):
        for name in ("a", "b"):
            uses.note(key(name))
    assert told.calls == []
    await told.changed.wait()
    assert [set(call) for call in told.calls] == [{key("a"), key("b")}]
    await uses.aclose()
    assert len(told.calls) == 1


async def test_the_last_use_counts(told: Told, uses: Uses) -> None:
    before = dt.datetime.now(dt.UTC)
    uses.note(key())
    between = dt.datetime.now(dt.UTC)
    uses.note(key())
    await uses.tell()
    assert before <= between <= told.calls[0][key()]
    await uses.aclose()


async def test_with_nothing_to_tell_nobody_is_told(told: Told, uses: Uses) -> None:
    await uses.tell()
    await uses.aclose()
    assert told.calls == []


async def test_what_could_not_be_told_is_told_later(
    told: Told, uses: Uses, caplog: pytest.LogCaptureFixture
) -> None:
    told.refuses = True
    uses.note(key("a"))
    await told.changed.wait()
    uses.note(key("b"))
    newer = dt.datetime.now(dt.UTC)
    uses.note(key("a"))
    told.refuses = False
    told.changed.clear()
    await told.changed.wait()
    assert [set(call) for call in told.calls] == [{key("a"), key("b")}]
    assert told.calls[0][key("a")] >= newer
    assert "told to the store later" in caplog.text
    await uses.aclose()


async def test_a_cancelled_call_loses_nothing(told: Told, uses: Uses) -> None:
    uses.note(key())
    call = asyncio.create_task(uses.tell())
    call.cancel()
    await asyncio.wait((call,))
    await uses.aclose()
    assert [set(each) for each in told.calls] == [{key()}]


async def test_what_is_left_is_told_at_the_end(told: Told, uses: Uses) -> None:
    uses.note(key())
    await uses.aclose()
    await uses.aclose()
    assert [set(call) for call in told.calls] == [{key()}]


async def test_an_end_without_the_store_is_logged(
    told: Told, uses: Uses, caplog: pytest.LogCaptureFixture
) -> None:
    told.refuses = True
    uses.note(key())
    with caplog.at_level(logging.WARNING):
        await uses.aclose()
    assert "the store is away" in caplog.text


async def test_a_session_that_stops_expires_by_its_last_use(tmp_path: Path) -> None:
    async with world(tmp_path, idle_timeout_s=3600.0, lifetime_s=1000.0) as w:
        await w.add_version()
        lease = await w.acquire()
        used = dt.datetime.now(dt.UTC)
        lease.release()
        await w.sessions.stop(key())
        # Nobody holds it any more, so the store must know of the use by now.
        record = await w.store.find_session(key())
        assert record is not None
        assert record.holder is None
        assert record.last_accessed_at >= used
        assert record.expires_at == record.last_accessed_at + dt.timedelta(seconds=1000)


async def test_running_sessions_are_acquired_without_a_write(tmp_path: Path) -> None:
    async with world(tmp_path, idle_timeout_s=3600.0) as w:
        await w.add_version()
        (await w.acquire()).release()
        await w.sessions._processes.uses.tell()
        before = await w.store.find_session(key())
        for _ in range(10):
            (await w.acquire()).release()
        # What was found is found again only while nobody has committed anything.
        assert await w.store.find_session(key()) is before
