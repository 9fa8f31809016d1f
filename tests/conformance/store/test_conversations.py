"""What every store does with conversations."""

import asyncio
from typing import Any

import pytest

from tests.conformance.store.test_store import AGENT, NODE, PROJECT, T0, key, new, session
from trunkline.protocol.errors import InvalidRequestError
from trunkline.protocol.ids import AgentName, SessionId
from trunkline.store.interface import Store
from trunkline.store.paging import EVERYTHING, Page
from trunkline.store.records import ConversationKey, ResponseRecord

CONVERSATION = ConversationKey(PROJECT, AGENT, "conv_1")


def item(name: str, **more: Any) -> dict[str, Any]:
    return {"id": name, "type": "message", "text": f"ä {name}", **more}


async def ids(store: Store, page: Page, key: ConversationKey = CONVERSATION) -> list[str]:
    return [found["id"] for found in (await store.list_items(key, page)).items]


async def test_a_conversation_and_what_was_said_before_it(store: Store) -> None:
    made = await store.add_conversation(CONVERSATION, "i|anna", {"k": "v"}, [item("a"), item("b")])
    assert (made.key, made.owner, made.metadata) == (CONVERSATION, "i|anna", {"k": "v"})
    assert made.session_id is None
    assert await store.find_conversation(CONVERSATION) == made
    assert await store.find_item(CONVERSATION, "b") == item("b")
    assert await store.find_item(CONVERSATION, "c") is None
    other = ConversationKey(PROJECT, AgentName("other"), "conv_1")
    assert await store.find_conversation(other) is None


async def test_updating_keeps_what_is_not_given(store: Store) -> None:
    await store.add_conversation(CONVERSATION, "i|anna", {"k": "v"})
    moved = await store.update_conversation(CONVERSATION, session_id=SessionId("s1"))
    assert moved is not None
    assert (moved.metadata, moved.session_id) == ({"k": "v"}, "s1")
    changed = await store.update_conversation(CONVERSATION, metadata={})
    assert changed is not None
    assert (changed.metadata, changed.session_id) == ({}, "s1")
    nowhere = ConversationKey(PROJECT, AGENT, "conv_2")
    assert await store.update_conversation(nowhere, metadata={}) is None


async def test_items_keep_their_order_and_come_once(store: Store) -> None:
    await store.add_conversation(CONVERSATION, "i|anna", {}, [item("a")])
    assert await store.add_items(CONVERSATION, [item("b"), item("a"), item("c")])
    assert await ids(store, Page(is_ascending=True)) == ["a", "b", "c"]
    assert await ids(store, EVERYTHING) == ["c", "b", "a"]
    assert await ids(store, Page(limit=1, after="c")) == ["b"]
    assert await ids(store, Page(after="a", is_ascending=True)) == ["b", "c"]
    assert not await store.add_items(ConversationKey(PROJECT, AGENT, "nowhere"), [item("a")])
    with pytest.raises(InvalidRequestError):
        await store.list_items(CONVERSATION, Page(after="z"))


async def test_items_added_at_once_are_all_there(store: Store) -> None:
    await store.add_conversation(CONVERSATION, "i|anna", {})
    await asyncio.gather(
        *(store.add_items(CONVERSATION, [item(f"{n}-{i}") for i in range(3)]) for n in range(8))
    )
    found = await ids(store, Page(limit=None, is_ascending=True))
    assert len(set(found)) == 24
    # Each turn's items are together and in order.
    assert all(
        found[i : i + 3] == [f"{found[i][0]}-{j}" for j in range(3)] for i in range(0, 24, 3)
    )


async def test_removing(store: Store) -> None:
    await store.add_conversation(CONVERSATION, "i|anna", {}, [item("a"), item("b")])
    assert await store.remove_item(CONVERSATION, "a")
    assert not await store.remove_item(CONVERSATION, "a")
    assert await ids(store, EVERYTHING) == ["b"]
    await store.remove_conversation(CONVERSATION)
    assert await store.find_conversation(CONVERSATION) is None
    await store.add_conversation(CONVERSATION, "i|berta", {})
    assert await ids(store, EVERYTHING) == []


async def test_where_a_response_came_from_is_known_as_long_as_its_session(store: Store) -> None:
    await store.add_version(new())
    await store.add_session(session())
    record = ResponseRecord(
        project=PROJECT, agent=AGENT, response_id="r1", owner="i|anna", session_id=SessionId("s1")
    )
    for _ in range(2):
        await store.add_response(record)
    assert await store.find_response(PROJECT, AGENT, "r1") == record
    assert await store.find_response(PROJECT, AGENT, "r2") is None
    marked = await store.mark_session_deleting(key())
    assert marked is not None
    await store.remove_session(session(home="of another"))
    assert await store.find_response(PROJECT, AGENT, "r1") == record
    await store.remove_session(marked)
    assert await store.find_response(PROJECT, AGENT, "r1") is None


async def test_an_agent_takes_its_conversations_with_it(store: Store) -> None:
    await store.add_node(NODE, T0, "http://n")
    await store.add_version(new())
    await store.add_conversation(CONVERSATION, "i|anna", {}, [item("a")])
    await store.mark_agent_deleting(PROJECT, AGENT, NODE, is_forced=True)
    await store.remove_agent(PROJECT, AGENT)
    assert await store.find_conversation(CONVERSATION) is None
    assert await ids(store, EVERYTHING) == []
