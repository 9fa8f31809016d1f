"""What every store does with tickets."""

import asyncio
import datetime as dt

from tests.conformance.store.conftest import OpenStore
from tests.conformance.store.test_store import T0, key
from trunkline.store.interface import Store
from trunkline.store.records import TicketRecord


def ticket(digest: str = "d1", *, lasts_s: float = 60, origin: str | None = None) -> TicketRecord:
    return TicketRecord(
        digest=digest, key=key("s1"), origin=origin, caller={"subject": "olga"},
        expires_at=T0 + dt.timedelta(seconds=lasts_s),
    )  # fmt: skip


async def test_a_ticket_is_taken_once_and_as_it_was(store: Store) -> None:
    for record in (ticket(origin="https://app.example"), ticket("d2")):
        await store.add_ticket(record, T0)
        assert await store.take_ticket(record.digest) == record
        assert await store.take_ticket(record.digest) is None
    assert await store.take_ticket("never") is None


async def test_of_many_who_take_a_ticket_at_once_one_gets_it(
    store: Store, open_store: OpenStore
) -> None:
    stores = [store, await open_store(), await open_store()]
    for number in range(5):
        await store.add_ticket(ticket(f"d{number}"), T0)
        taken = await asyncio.gather(
            *(stores[each % 3].take_ticket(f"d{number}") for each in range(12))
        )
        assert sum(found is not None for found in taken) == 1


async def test_tickets_that_nobody_used_are_forgotten(store: Store) -> None:
    await store.add_ticket(ticket("old"), T0)
    await store.add_ticket(ticket("new", lasts_s=200), T0 + dt.timedelta(seconds=61))
    assert await store.take_ticket("old") is None
    assert await store.take_ticket("new") is not None
