"""The audit log's entries, before they are written."""

import asyncio
import datetime as dt
from collections.abc import Sequence
from typing import Any

import pytest

from trunkline.auth.caller import Caller
from trunkline.auth.identity import Identity
from trunkline.gateway import audit
from trunkline.gateway.audit import AuditTrail
from trunkline.protocol.errors import UnavailableError
from trunkline.store.records import AuditRecord


class Kept:
    """The part of a store that keeps entries."""

    def __init__(self) -> None:
        self.entries: list[AuditRecord] = []

    async def add_audit(self, records: Sequence[AuditRecord]) -> None:
        self.entries += records

    async def forget_audit(self, before: dt.datetime) -> None:
        return None


@pytest.fixture
def kept() -> Kept:
    return Kept()


def add(trail: AuditTrail, status: int, address: str, caller: Caller | None = None) -> None:
    trail.add(
        "connect", status, place=(None, None, None), caller=caller, address=address, request_id="r"
    )


async def test_a_flood_of_refusals_is_one_entry_a_second_for_each(
    kept: Kept, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 100.0
    monkeypatch.setattr(audit.time, "monotonic", lambda: now)
    store: Any = kept
    trail = AuditTrail(store, kept_for=dt.timedelta(days=1))
    olga = Caller(identity=Identity("i", "olga"))
    for _ in range(50):
        add(trail, 429, "192.0.2.1")
        add(trail, 429, "192.0.2.2")
        add(trail, 429, "192.0.2.1", olga)
    now += 1.5
    add(trail, 429, "192.0.2.1")
    await trail.flush()
    told = [(entry.address, entry.identity) for entry in kept.entries]
    assert told == [
        ("192.0.2.1", None), ("192.0.2.2", None), ("192.0.2.1", "i|olga"), ("192.0.2.1", None),
    ]  # fmt: skip


async def test_everything_else_is_an_entry_each(kept: Kept) -> None:
    store: Any = kept
    trail = AuditTrail(store, kept_for=dt.timedelta(days=1))
    for status in (101, 401, 401, 403, 403, 200, 200):
        add(trail, status, "192.0.2.1")
    await trail.flush()
    assert [entry.status for entry in kept.entries] == [101, 401, 401, 403, 403, 200, 200]


class Slow(Kept):
    """A store whose answer is waited for."""

    def __init__(self) -> None:
        super().__init__()
        self.asked = asyncio.Event()
        self.answer = asyncio.Event()

    async def add_audit(self, records: Sequence[AuditRecord]) -> None:
        self.asked.set()
        await self.answer.wait()
        await super().add_audit(records)


async def test_who_reads_while_entries_are_written_waits_and_has_each_of_them_once() -> None:
    slow = Slow()
    trail = AuditTrail(slow, kept_for=dt.timedelta(days=1))
    add(trail, 200, "192.0.2.1")
    async with asyncio.timeout(10), asyncio.TaskGroup() as tasks:
        writer = tasks.create_task(trail.flush())
        await slow.asked.wait()
        # This one comes while the first is under way, and its reader wants both.
        add(trail, 201, "192.0.2.1")
        reader = tasks.create_task(trail.flush())
        await asyncio.sleep(0)
        assert not reader.done()
        slow.answer.set()
    assert writer.done()
    assert [entry.status for entry in slow.entries] == [200, 201]


async def test_a_store_that_takes_nothing_is_told_of_once_until_it_does(
    caplog: pytest.LogCaptureFixture,
) -> None:
    class Full(Kept):
        is_full = True

        async def add_audit(self, records: Sequence[AuditRecord]) -> None:
            if self.is_full:
                raise UnavailableError("the store can't be written")
            await super().add_audit(records)

    kept = Full()
    store: Any = kept
    trail = AuditTrail(store, kept_for=dt.timedelta(days=1))
    for is_full in (True, True, False, True, True):
        kept.is_full = is_full
        add(trail, 200, "192.0.2.1")
        await trail.flush()
    assert caplog.text.count("the audit log is written later") == 2
    assert len(kept.entries) == 3
