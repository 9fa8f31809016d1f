"""What every store does with agents' endpoints, drafts, pages and deletions."""

import asyncio
from collections.abc import Awaitable

import pytest

from tests.conformance.store.test_store import (
    AGENT,
    LAUNCH,
    NODE,
    OTHER_NODE,
    PROJECT,
    T0,
    new,
    session,
)
from trunkline.protocol.errors import ConflictError, InvalidRequestError, TooManyVersionsError
from trunkline.protocol.ids import AgentName, NodeId, ProjectName, VersionId
from trunkline.store.interface import Store
from trunkline.store.paging import EVERYTHING, Page
from trunkline.store.records import VersionStatus


async def names(store: Store, page: Page) -> tuple[list[str], bool]:
    found = await store.list_agents(PROJECT, page)
    return [agent.name for agent in found.items], found.has_more


async def test_an_agent_is_enabled_and_has_nothing_said_of_its_endpoint(store: Store) -> None:
    await store.add_version(new())
    agent = await store.find_agent(PROJECT, AGENT)
    assert agent is not None
    assert (agent.is_enabled, agent.endpoint, agent.card) == (True, {}, None)


async def test_updating_replaces_what_is_given_and_keeps_the_rest(store: Store) -> None:
    await store.add_version(new())
    await store.update_agent(PROJECT, AGENT, endpoint={"a": [1]}, card={"b": None})
    changed = await store.update_agent(PROJECT, AGENT, is_enabled=False)
    assert changed is not None
    assert (changed.is_enabled, changed.endpoint, changed.card) == (False, {"a": [1]}, {"b": None})
    assert await store.find_agent(PROJECT, AGENT) == changed
    assert await store.update_agent(PROJECT, AgentName("other"), is_enabled=True) is None


async def test_pages_meet_and_leave_nothing_out(store: Store) -> None:
    for name in "abcdefg":
        await store.add_version(new(agent=name))
    assert await names(store, Page(limit=3)) == (["g", "f", "e"], True)
    assert await names(store, Page(limit=3, after="e")) == (["d", "c", "b"], True)
    assert await names(store, Page(limit=3, after="b")) == (["a"], False)
    assert await names(store, Page(limit=3, is_ascending=True)) == (["a", "b", "c"], True)
    assert await names(store, Page(limit=4, after="c", is_ascending=True)) == (
        ["d", "e", "f", "g"],
        False,
    )
    assert await names(store, Page(limit=2, before="c")) == (["e", "d"], True)
    assert await names(store, Page(limit=2, before="f")) == (["g"], False)
    assert await names(store, Page(limit=2, before="c", is_ascending=True)) == (["a", "b"], False)
    assert await names(store, Page(limit=9, after="f", before="b")) == (["e", "d", "c"], False)


@pytest.mark.parametrize("cursor", ["nobody", "", "\0", "\ud800"])
async def test_a_page_that_begins_nowhere_is_refused(store: Store, cursor: str) -> None:
    await store.add_version(new())
    with pytest.raises(InvalidRequestError, match="after names an item that isn't there") as caught:
        await store.list_agents(PROJECT, Page(after=cursor))
    assert caught.value.param == "after"
    with pytest.raises(InvalidRequestError):
        await store.list_versions(PROJECT, AGENT, Page(before=cursor))
    with pytest.raises(InvalidRequestError):
        await store.list_sessions(PROJECT, AGENT, Page(after=cursor))


async def test_drafts_have_names_of_their_own_and_are_not_the_latest(store: Store) -> None:
    first, _ = await store.add_version(new("1"))
    drafts = [(await store.add_version(new("1", is_draft=True)))[0] for _ in range(3)]
    second, is_new = await store.add_version(new("2"))
    assert (second.version, is_new) == ("2", True)
    assert len({draft.version for draft in drafts}) == 3
    assert all(draft.version.startswith("draft-") and draft.is_draft for draft in drafts)
    assert await store.latest_version(PROJECT, AGENT) == second
    assert await store.find_version(PROJECT, AGENT, drafts[0].version) == drafts[0]
    assert (await store.list_versions(PROJECT, AGENT, EVERYTHING)).items == [second, first]
    everything = await store.list_versions(PROJECT, AGENT, EVERYTHING, with_drafts=True)
    assert everything.items == [second, *drafts[::-1], first]


async def test_a_number_is_never_given_twice(store: Store) -> None:
    for content in "123":
        await store.add_version(new(content))
    await store.mark_version_deleting(PROJECT, AGENT, VersionId("3"), NODE, is_forced=False)
    await store.remove_version(PROJECT, AGENT, VersionId("3"))
    again, _ = await store.add_version(new("3"))
    assert again.version == "4"


async def test_there_are_only_so_many_versions(store: Store) -> None:
    for content in "12":
        await store.add_version(new(content), most=2)
    with pytest.raises(TooManyVersionsError, match="has 2 versions, and 2 are the most"):
        await store.add_version(new("3"), most=2)
    same, is_new = await store.add_version(new("2"), most=2)
    assert (same.version, is_new) == ("2", False)
    await store.add_version(new("1", agent="other"), most=2)


async def test_a_version_with_sessions_is_deleted_by_force_only(store: Store) -> None:
    await store.add_version(new("1"))
    await store.add_version(new("2"))
    await store.add_session(session("a"))
    one, two = VersionId("1"), VersionId("2")
    with pytest.raises(ConflictError, match=r"version 1 of agent 'echo' has 1 session; .*force"):
        await store.mark_version_deleting(PROJECT, AGENT, one, NODE, is_forced=False)
    assert await store.mark_version_deleting(PROJECT, AGENT, two, NODE, is_forced=False) is not None
    marked = await store.mark_version_deleting(PROJECT, AGENT, one, NODE, is_forced=True)
    assert marked is not None
    assert marked.status is VersionStatus.DELETING
    assert await store.find_version(PROJECT, AGENT, one) is None
    assert await store.latest_version(PROJECT, AGENT) is None
    assert (await store.list_versions(PROJECT, AGENT, EVERYTHING)).items == []
    assert [v.version for v in await store.deleting_versions()] == ["1", "2"]
    (going,) = await store.deleting_sessions(PROJECT, AGENT, one)
    assert going.key.session_id == "a"
    assert list(await store.deleting_sessions(PROJECT, AGENT, two)) == []
    assert await store.mark_version_deleting(PROJECT, AGENT, one, NODE, is_forced=True) is None
    await store.remove_session(going)
    for version in (one, two):
        await store.remove_version(PROJECT, AGENT, version)
    assert list(await store.deleting_versions()) == []


async def test_a_version_that_is_not_being_deleted_is_not_removed(store: Store) -> None:
    record, _ = await store.add_version(new())
    await store.remove_version(PROJECT, AGENT, record.version)
    await store.remove_agent(PROJECT, AGENT)
    assert await store.find_version(PROJECT, AGENT, record.version) == record
    assert await store.find_agent(PROJECT, AGENT) is not None


async def test_an_agent_being_deleted_is_not_there_and_its_name_is_taken(store: Store) -> None:
    await store.add_version(new())
    await store.add_session(session("a"))
    with pytest.raises(ConflictError, match="agent 'echo' has 1 session"):
        await store.mark_agent_deleting(PROJECT, AGENT, NODE, is_forced=False)
    marked = await store.mark_agent_deleting(PROJECT, AGENT, NODE, is_forced=True)
    assert marked is not None
    assert marked.is_deleting
    assert await store.find_agent(PROJECT, AGENT) is None
    assert (await store.list_agents(PROJECT, EVERYTHING)).items == []
    assert await store.update_agent(PROJECT, AGENT, is_enabled=True) is None
    assert await store.mark_agent_deleting(PROJECT, AGENT, NODE, is_forced=True) is None
    assert list(await store.deleting_agents()) == [marked]
    with pytest.raises(ConflictError, match="is being deleted"):
        await store.add_version(new("2"))
    await store.remove_agent(PROJECT, AGENT)
    assert list(await store.deleting_agents()) == []
    assert list(await store.deleting_sessions()) == []
    again, _ = await store.add_version(new("2"))
    assert again.version == "1"


async def test_finishing_a_version_that_is_going_does_nothing(store: Store) -> None:
    record, _ = await store.add_version(new())
    await store.mark_version_deleting(PROJECT, AGENT, record.version, NODE, is_forced=True)
    assert await store.finish_version(record, launch=LAUNCH) is None
    assert list(await store.unfinished_versions()) == []


async def test_a_build_is_taken_over_from_the_dead_only(store: Store) -> None:
    record, _ = await store.add_version(new())
    for node in (NODE, OTHER_NODE):
        await store.add_node(node, T0, "http://n")
    assert await store.claim_build(record, OTHER_NODE) is None
    # It may go on with its own, as long as it is there.
    assert await store.claim_build(record, NODE) == record
    await store.remove_node(NODE)
    assert await store.claim_build(record, NODE) is None
    taken = await store.claim_build(record, OTHER_NODE)
    assert taken is not None
    assert taken.builder == OTHER_NODE
    await store.add_node(NODE, T0, "http://n")
    assert await store.claim_build(record, NODE) is None
    # What the first one says of it, late, is not what became of it.
    assert await store.finish_version(record, error="e", error_code="CodeError") is None
    assert await store.finish_version(taken, launch=LAUNCH) is not None
    assert await store.claim_build(taken, OTHER_NODE) is None
    assert await store.finish_version(taken, error="e", error_code="CodeError") is None


async def test_one_node_at_a_time_finishes_a_deletion(store: Store) -> None:
    for content in "12":
        version, _ = await store.add_version(new(content))
    agent = await store.find_agent(PROJECT, AGENT)
    assert agent is not None
    for node in (NODE, OTHER_NODE):
        await store.add_node(node, T0, "http://n")

    def claims(node: NodeId) -> tuple[Awaitable[bool], Awaitable[bool]]:
        return store.claim_version_deletion(version, node), store.claim_agent_deletion(agent, node)

    # What isn't being deleted is nobody's.
    assert await asyncio.gather(*claims(NODE)) == [False, False]
    await store.mark_version_deleting(PROJECT, AGENT, version.version, NODE, is_forced=True)
    await store.mark_agent_deleting(PROJECT, AGENT, NODE, is_forced=True)
    assert await asyncio.gather(*claims(OTHER_NODE)) == [False, False]
    assert await asyncio.gather(*claims(NODE), *claims(NODE)) == [True] * 4
    assert await asyncio.gather(*claims(OTHER_NODE)) == [False, False]
    await store.remove_node(NODE)
    assert await asyncio.gather(*claims(NODE)) == [False, False]
    assert await asyncio.gather(*claims(OTHER_NODE)) == [True, True]
    await store.add_node(NODE, T0, "http://n")
    assert await asyncio.gather(*claims(NODE)) == [False, False]


async def test_other_projects_keep_theirs(store: Store) -> None:
    await store.add_version(new())
    await store.add_version(new(project="second"))
    await store.mark_agent_deleting(PROJECT, AGENT, NODE, is_forced=True)
    await store.remove_agent(PROJECT, AGENT)
    assert await store.find_agent(ProjectName("second"), AGENT) is not None
