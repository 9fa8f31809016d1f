"""What every store keeps right when several processes change it at once."""

import asyncio
import datetime as dt
from collections.abc import Awaitable, Callable, Iterable
from typing import Any, TypeVar

import pytest

from tests.conformance.store.test_store import (
    AGENT,
    NODE,
    OTHER_NODE,
    PROJECT,
    T0,
    key,
    new,
    session,
)
from trunkline.protocol.errors import ConflictError, TooManyVersionsError, TrunklineError
from trunkline.protocol.ids import NodeId, VersionId
from trunkline.store.interface import Store
from trunkline.store.paging import EVERYTHING
from trunkline.store.records import ClaimOutcome, ConversationKey, SessionStatus, VersionRecord

OpenStore = Callable[[], Awaitable[Store]]
_T = TypeVar("_T")
NODES = (NODE, OTHER_NODE, NodeId("node-3"))
ROUNDS = 8
CONVERSATION = ConversationKey(PROJECT, AGENT, "conv_1")


@pytest.fixture
async def stores(open_store: OpenStore) -> list[Store]:
    """Three processes' stores on one state."""
    opened = [await open_store() for _ in NODES]
    for node in NODES:
        await opened[0].add_node(node, T0, f"http://{node}")
    return opened


async def together(calls: Iterable[Awaitable[_T]]) -> list[_T | TrunklineError]:
    """Run calls at once; a refusal is a result."""
    results: list[Any] = await asyncio.gather(*calls, return_exceptions=True)
    for result in results:
        if isinstance(result, BaseException) and not isinstance(result, TrunklineError):
            raise result
    return results


async def test_no_more_are_held_than_may_be(stores: list[Store]) -> None:
    await stores[0].add_version(new())
    for number in range(12):
        await stores[0].add_session(session(f"s{number}"))
    claims = await together(
        stores[number % 3].claim_session(key(f"s{number}"), NODES[number % 3], most=5)
        for number in range(12)
    )
    outcomes = [claim.outcome for claim in claims if not isinstance(claim, TrunklineError)]
    assert outcomes.count(ClaimOutcome.OURS) == 5
    assert outcomes.count(ClaimOutcome.FULL) == 7
    assert await stores[0].count_running(PROJECT, AGENT) == 5


async def test_each_of_many_sessions_has_one_holder(stores: list[Store]) -> None:
    await stores[0].add_version(new())
    names = [f"s{number}" for number in range(10)]
    added = await together(
        store.add_session(session(name, owner=f"i|{node}"))
        for name in names
        for store, node in zip(stores, NODES, strict=True)
    )
    assert [result[1] for result in added].count(True) == len(names)  # type: ignore[index]
    claims = await together(
        store.claim_session(key(name), node)
        for name in names
        for store, node in zip(stores, NODES, strict=True)
    )
    ours = [c for c in claims if c.outcome is ClaimOutcome.OURS]  # type: ignore[union-attr]
    assert len(ours) == len(names)
    for claim in ours:
        record = claim.record  # type: ignore[union-attr]
        assert record is not None
        assert (await stores[0].find_session(record.key)) == record


async def test_an_agent_is_not_deleted_under_a_new_session(stores: list[Store]) -> None:
    for number in range(ROUNDS):
        agent = f"agent-{number}"
        record, _ = await stores[0].add_version(new(agent=agent))
        its = key("s", agent=agent)
        added, marked = await together(
            [
                stores[0].add_session(session("s", key=its)),
                stores[1].mark_agent_deleting(PROJECT, record.agent, NODE, is_forced=False),
            ]  # type: ignore[list-item]
        )
        if isinstance(added, TrunklineError):
            assert not isinstance(marked, TrunklineError)
            assert await stores[2].find_session(its) is None
        else:
            assert isinstance(marked, ConflictError)
            assert await stores[2].find_agent(PROJECT, record.agent) is not None


async def test_a_version_is_not_deleted_under_a_new_session(stores: list[Store]) -> None:
    for number in range(ROUNDS):
        record, _ = await stores[0].add_version(new(str(number)))
        name = f"s{number}"
        added, marked = await together(
            [
                stores[0].add_session(session(name, version=record.version)),
                stores[1].mark_version_deleting(
                    PROJECT, AGENT, VersionId(record.version), NODE, is_forced=True
                ),
            ]  # type: ignore[list-item]
        )
        found = await stores[2].find_session(key(name))
        assert not isinstance(marked, TrunklineError)
        if isinstance(added, TrunklineError):
            assert found is None
        else:
            assert found is not None
            assert found.status is SessionStatus.DELETING


async def test_a_deletion_reaches_whoever_holds_the_session(stores: list[Store]) -> None:
    await stores[0].add_version(new())
    for number in range(ROUNDS):
        name = f"s{number}"
        await stores[0].add_session(session(name))
        claim, _ = await together(
            [
                stores[0].claim_session(key(name), NODE),
                stores[1].mark_session_deleting(key(name)),
            ]  # type: ignore[list-item]
        )
        found = await stores[2].find_session(key(name))
        assert found is not None
        assert found.status is SessionStatus.DELETING
        is_ours = claim.outcome is ClaimOutcome.OURS  # type: ignore[union-attr]
        # Either it was claimed first, and its holder finds the mark, or nobody gets it.
        assert found.holder == (NODE if is_ours else None)
        assert not await stores[0].start_session(key(name), NODE, {})


async def test_a_dead_nodes_session_is_not_started_by_it(stores: list[Store]) -> None:
    await stores[0].add_version(new())
    for number in range(ROUNDS):
        name = f"s{number}"
        await stores[0].add_node(NODE, T0, "http://n")
        await stores[0].add_session(session(name))
        await stores[0].claim_session(key(name), NODE)
        await stores[1].remove_node(NODE)
        await together(
            [
                stores[0].start_session(key(name), NODE, {"path": "/a", "port": None}),
                stores[1].release_orphans(NODE),
            ]  # type: ignore[list-item]
        )
        found = await stores[2].find_session(key(name))
        assert found is not None
        assert (found.holder, found.address, found.status) == (None, None, SessionStatus.IDLE)


async def test_versions_are_numbered_without_gaps_and_bounded(stores: list[Store]) -> None:
    added = await together(
        stores[number % 3].add_version(new(str(number)), most=7) for number in range(12)
    )
    refused = [result for result in added if isinstance(result, TrunklineError)]
    assert all(isinstance(error, TooManyVersionsError) for error in refused)
    listed = (await stores[0].list_versions(PROJECT, AGENT, EVERYTHING)).items
    assert [version.version for version in listed] == [str(n) for n in range(7, 0, -1)]
    assert len(refused) == 5


async def test_an_agent_that_goes_takes_no_version(stores: list[Store]) -> None:
    for number in range(ROUNDS):
        agent = f"agent-{number}"
        first, _ = await stores[0].add_version(new(agent=agent))
        added, _ = await together(
            [
                stores[0].add_version(new("2", agent=agent)),
                stores[1].mark_agent_deleting(PROJECT, first.agent, NODE, is_forced=True),
            ]  # type: ignore[list-item]
        )
        if isinstance(added, TrunklineError):
            assert isinstance(added, ConflictError)
        await stores[2].remove_agent(PROJECT, first.agent)
        again, _ = await stores[0].add_version(new("3", agent=agent))
        assert again.version == "1"


async def test_a_conversation_that_goes_leaves_no_items(stores: list[Store]) -> None:
    for number in range(ROUNDS):
        await stores[0].add_conversation(CONVERSATION, "i|anna", {})
        await together(
            [
                stores[0].add_items(CONVERSATION, [{"id": f"a{number}"}, {"id": f"b{number}"}]),
                stores[1].remove_conversation(CONVERSATION),
            ]  # type: ignore[list-item]
        )
        await stores[2].remove_conversation(CONVERSATION)
        await stores[2].add_conversation(CONVERSATION, "i|anna", {})
        assert (await stores[0].list_items(CONVERSATION, EVERYTHING)).items == []
        await stores[2].remove_conversation(CONVERSATION)


async def test_a_dead_nodes_build_has_one_heir(stores: list[Store]) -> None:
    record, _ = await stores[0].add_version(new())
    await stores[0].remove_node(NODE)
    took = await together(
        store.claim_build(record, node)
        for store, node in zip(stores[1:] * 3, NODES[1:] * 3, strict=True)
    )
    (heir,) = {record.builder for record in took if isinstance(record, VersionRecord)}
    assert heir != NODE
    assert took.count(None) == len(took) // 2


async def test_a_node_that_is_struck_off_claims_nothing_meanwhile(stores: list[Store]) -> None:
    await stores[0].add_version(new())
    for number in range(ROUNDS):
        name = f"s{number}"
        await stores[0].add_node(NODE, T0, "http://n")
        await stores[0].add_session(session(name))
        await together(
            [
                stores[0].claim_session(key(name), NODE),
                stores[1].remove_node(NODE),
            ]  # type: ignore[list-item]
        )
        await stores[1].release_orphans(NODE)
        found = await stores[2].find_session(key(name))
        assert found is not None
        assert found.holder is None


async def test_a_sessions_use_is_recorded_while_it_is_claimed(stores: list[Store]) -> None:
    await stores[0].add_version(new())
    await stores[0].add_session(session())
    uses = [T0 + dt.timedelta(seconds=number) for number in range(1, 21)]
    await together(
        [
            *(
                stores[n % 3].touch_sessions({key(): at}, dt.timedelta(0))
                for n, at in enumerate(uses)
            ),
            stores[0].claim_session(key(), NODE),
        ]  # type: ignore[list-item]
    )
    found = await stores[1].find_session(key())
    assert found is not None
    assert found.holder == NODE
    assert found.last_accessed_at in uses
