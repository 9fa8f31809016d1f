"""What every store does with the audit log."""

import datetime as dt

from tests.conformance.store.test_store import PROJECT, T0
from trunkline.protocol.ids import ProjectName
from trunkline.store.interface import Store
from trunkline.store.records import AuditFilter, AuditRecord


def entry(number: int, **changes: object) -> AuditRecord:
    at = T0 + dt.timedelta(seconds=number)
    given = {
        "entry_id": f"{at.isoformat(timespec='microseconds')}-{number:08x}", "at": at,
        "project": PROJECT, "agent": "a", "session_id": f"s{number}", "action": "connect",
        "status": 101, "identity": "i|olga", "acting_for": None, "credential": "token:1",
        "address": "192.0.2.7", "request_id": "r",
    } | changes  # fmt: skip
    return AuditRecord(**given)  # type: ignore[arg-type]


async def test_entries_come_back_as_they_were_the_newest_first(store: Store) -> None:
    entries = [entry(number) for number in range(5)]
    nobody = entry(9, project=None, agent=None, session_id=None, identity=None, status=401)
    await store.add_audit([*entries, nobody])
    # Written twice, because an answer was lost, it is there once.
    await store.add_audit(entries[:2])
    everything = AuditFilter()
    assert list(await store.list_audit(PROJECT, everything, limit=10)) == entries[::-1]
    assert list(await store.list_audit(None, everything, limit=10)) == [nobody, *entries[::-1]]
    older = await store.list_audit(
        None, AuditFilter(agent="a"), limit=2, before=entries[4].entry_id
    )
    assert list(older) == [entries[3], entries[2]]
    first = await store.list_audit(PROJECT, everything, limit=2)
    rest = await store.list_audit(PROJECT, everything, limit=10, before=first[-1].entry_id)
    assert [*first, *rest] == entries[::-1]
    assert await store.list_audit(ProjectName("other"), everything, limit=10) == []


async def test_any_number_is_kept_at_once(store: Store) -> None:
    # How many go into one statement is the store's business: none is left out, or twice there.
    entries = [entry(number, address=f"{number}") for number in range(171)]
    for number in (0, 1, 2, 7, 161):
        some, entries = entries[:number], entries[number:]
        await store.add_audit(some)
    found = await store.list_audit(PROJECT, AuditFilter(), limit=500)
    assert [record.address for record in found] == [str(number) for number in range(170, -1, -1)]


async def test_entries_are_narrowed_down(store: Store) -> None:
    await store.add_audit(
        [entry(0), entry(1, agent="b"), entry(2, identity="i|otto"), entry(3, action="stop")]
    )

    async def found(**wanted: str) -> list[str | None]:
        records = await store.list_audit(PROJECT, AuditFilter(**wanted), limit=10)
        return [record.session_id for record in records]

    assert await found(agent="b") == ["s1"]
    assert await found(identity="i|otto") == ["s2"]
    assert await found(action="stop", agent="a") == ["s3"]
    assert await found(session_id="s0", identity="i|olga") == ["s0"]
    assert await found(session_id="s0", identity="i|otto") == []


async def test_old_entries_are_forgotten(store: Store) -> None:
    await store.add_audit([entry(0), entry(60)])
    await store.forget_audit(T0 + dt.timedelta(seconds=30))
    left = await store.list_audit(PROJECT, AuditFilter(), limit=10)
    assert [record.session_id for record in left] == ["s60"]


async def test_what_cannot_be_kept_keeps_nothing_else_out(store: Store) -> None:
    await store.add_audit([entry(0, agent="a\0b", identity="i|\ud800"), entry(1)])
    newer, older = await store.list_audit(PROJECT, AuditFilter(), limit=10)
    assert newer == entry(1)
    assert (older.agent, older.identity) == ("a\ufffdb", "i|?")
