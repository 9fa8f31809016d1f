"""What every store does with sessions, and with the nodes that run them."""

import asyncio
import datetime as dt

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
from trunkline.protocol.errors import AgentNotFoundError, VersionNotFoundError
from trunkline.protocol.ids import NodeId, ProjectName, SessionId, SessionKey
from trunkline.store.interface import Store
from trunkline.store.paging import EVERYTHING, Page
from trunkline.store.records import ClaimOutcome, NodeRecord, SessionRecord, SessionStatus

ADDRESS = {"path": "/run/a.sock", "port": None}


@pytest.fixture(autouse=True)
async def _agent(store: Store) -> None:
    await store.add_version(new())
    for node in (NODE, OTHER_NODE):
        await store.add_node(node, T0, f"http://{node}")


async def found(store: Store, session_id: str = "s1") -> SessionRecord:
    record = await store.find_session(key(session_id))
    assert record is not None
    return record


async def held(store: Store, session_id: str = "s1", **changes: object) -> SessionRecord:
    await store.add_session(session(session_id, **changes))
    claim = await store.claim_session(key(session_id), NODE)
    assert claim.outcome is ClaimOutcome.OURS
    return await found(store, session_id)


async def test_adding_a_session_twice_keeps_the_first(store: Store) -> None:
    assert await store.add_session(session()) == (session(), True)
    later = T0 + dt.timedelta(hours=1)
    changed = session(owner="issuer|berta", created_at=later, last_accessed_at=later, home="x")
    assert await store.add_session(changed) == (session(), False)
    assert await store.find_session(key()) == session()


async def test_sessions_added_at_once_are_one(store: Store) -> None:
    added = await asyncio.gather(
        *(store.add_session(session(owner=f"issuer|{i}")) for i in range(20))
    )
    assert len({record.owner for record, _ in added}) == 1
    assert [is_new for _, is_new in added].count(True) == 1


async def test_a_session_needs_its_agent_and_its_version(store: Store) -> None:
    stray = SessionKey(ProjectName("second"), AGENT, SessionId("s1"))
    with pytest.raises(AgentNotFoundError, match="no agent 'echo' in project 'second'"):
        await store.add_session(session(key=stray))
    with pytest.raises(VersionNotFoundError, match="no version '9'"):
        await store.add_session(session(version="9"))
    await store.mark_agent_deleting(PROJECT, AGENT, NODE, is_forced=True)
    with pytest.raises(AgentNotFoundError):
        await store.add_session(session())


async def test_a_session_belongs_to_its_agent_and_the_case_of_its_id_counts(store: Store) -> None:
    await store.add_session(session("abc"))
    assert await store.find_session(key("ABC")) is None
    assert await store.find_session(key("abc", agent="other")) is None
    assert await store.find_session(key("abc")) == session("abc")


async def test_times_come_back_in_utc(store: Store) -> None:
    local = T0.astimezone(dt.timezone(dt.timedelta(hours=5, minutes=45)))
    record, _ = await store.add_session(session(created_at=local, last_accessed_at=local))
    assert record.created_at == T0
    assert record.created_at.utcoffset() == dt.timedelta(0)


async def test_touching_a_session(store: Store) -> None:
    await store.add_session(session())
    later, end = T0 + dt.timedelta(seconds=1), T0 + dt.timedelta(days=31)
    await store.touch_sessions({key(): later, key("other"): later}, end - later)
    assert await store.find_session(key()) == session(last_accessed_at=later, expires_at=end)
    assert await store.find_session(key("other")) is None


async def test_sessions_are_listed_newest_first_and_by_id(store: Store) -> None:
    for minutes, name in ((0, "c"), (1, "b"), (1, "a"), (2, "d")):
        await store.add_session(session(name, created_at=T0 + dt.timedelta(minutes=minutes)))
    whole = await store.list_sessions(PROJECT, AGENT, EVERYTHING)
    assert [record.key.session_id for record in whole.items] == ["d", "b", "a", "c"]
    page = await store.list_sessions(PROJECT, AGENT, Page(limit=2, after="d"))
    assert ([r.key.session_id for r in page.items], page.has_more) == (["b", "a"], True)
    page = await store.list_sessions(PROJECT, AGENT, Page(limit=2, after="a"))
    assert ([r.key.session_id for r in page.items], page.has_more) == (["c"], False)


async def test_sessions_of_one_owner(store: Store) -> None:
    await store.add_session(session("a"))
    await store.add_session(session("b", owner="issuer|berta"))
    owned = await store.list_sessions(PROJECT, AGENT, EVERYTHING, owner="issuer|berta")
    assert [record.key.session_id for record in owned.items] == ["b"]
    nobody = await store.list_sessions(PROJECT, AGENT, EVERYTHING, owner="nobody")
    assert nobody.items == []


async def test_one_node_of_many_gets_a_session(store: Store) -> None:
    await store.add_session(session())
    claims = await asyncio.gather(
        *(store.claim_session(key(), node) for node in (NODE, OTHER_NODE) * 5)
    )
    holder = (await found(store)).holder
    assert holder in (NODE, OTHER_NODE)
    ours = [claim.outcome is ClaimOutcome.OURS for claim in claims]
    assert ours == [node == holder for node in (NODE, OTHER_NODE) * 5]
    elsewhere = [claim for claim in claims if claim.outcome is ClaimOutcome.ELSEWHERE]
    assert all(claim.record is not None and claim.record.holder == holder for claim in elsewhere)


async def test_only_so_many_are_held_in_a_project(store: Store) -> None:
    for name in "abc":
        await store.add_session(session(name))
    outcomes = [(await store.claim_session(key(n), NODE, most=2)).outcome for n in "abcab"]
    assert outcomes == [
        ClaimOutcome.OURS,
        ClaimOutcome.OURS,
        ClaimOutcome.FULL,
        ClaimOutcome.OURS,
        ClaimOutcome.OURS,
    ]
    assert await store.count_running(PROJECT, AGENT) == 2
    await store.release_session(key("a"), NODE, T0, SessionStatus.IDLE)
    assert (await store.claim_session(key("c"), NODE, most=2)).outcome is ClaimOutcome.OURS


async def test_a_session_that_is_going_is_nobodys(store: Store) -> None:
    assert (await store.claim_session(key(), NODE)).outcome is ClaimOutcome.GONE
    await store.add_session(session())
    await store.mark_session_deleting(key())
    claim = await store.claim_session(key(), NODE)
    assert (claim.outcome, claim.record) == (ClaimOutcome.GONE, None)


async def test_starting_and_releasing(store: Store) -> None:
    await held(store)
    assert not await store.start_session(key(), OTHER_NODE, ADDRESS)
    assert await store.start_session(key(), NODE, ADDRESS)
    record = await found(store)
    assert (record.status, record.address) == (SessionStatus.ACTIVE, ADDRESS)
    await store.release_session(key(), OTHER_NODE, T0, SessionStatus.IDLE)
    assert await found(store) == record
    at = T0 + dt.timedelta(minutes=1)
    await store.release_session(key(), NODE, at, SessionStatus.IDLE)
    record = await found(store)
    assert (record.status, record.holder, record.address) == (SessionStatus.IDLE, None, None)
    assert record.stopped_at == at


async def test_a_session_deleted_while_it_starts_does_not_become_active(store: Store) -> None:
    await held(store)
    marked = await store.mark_session_deleting(key())
    assert marked is not None
    assert (marked.status, marked.holder) == (SessionStatus.DELETING, NODE)
    assert not await store.start_session(key(), NODE, ADDRESS)
    await store.release_session(key(), NODE, T0, SessionStatus.IDLE)
    assert (await found(store)).status is SessionStatus.DELETING


async def test_deleting_hides_and_removing_forgets(store: Store) -> None:
    record, _ = await store.add_session(session())
    await store.remove_session(record)
    assert await store.find_session(key()) == record
    assert (await store.mark_session_deleting(key())) is not None
    assert (await store.list_sessions(PROJECT, AGENT, EVERYTHING)).items == []
    assert [r.key for r in await store.deleting_sessions()] == [key()]
    await store.remove_session(session(home="of a later one"))
    assert await store.find_session(key()) is not None
    await store.remove_session(record)
    assert await store.find_session(key()) is None
    assert await store.mark_session_deleting(key()) is None


async def test_the_state_directory_is_the_first_that_was_given(store: Store) -> None:
    given = await asyncio.gather(*(store.state_id(f"id-{number}") for number in range(5)))
    (first,) = set(given)
    assert first.startswith("id-")
    assert await store.state_id("another") == first


async def test_a_later_session_of_the_same_id_is_another_one(store: Store) -> None:
    await store.add_session(session(home="the later one's"))
    gone = await store.claim_session(key(), NODE, home="the first one's")
    assert (gone.outcome, gone.record) == (ClaimOutcome.GONE, None)
    assert await store.mark_session_deleting(key(), home="the first one's") is None
    claim = await store.claim_session(key(), NODE, home="the later one's")
    assert claim.outcome is ClaimOutcome.OURS
    assert await store.mark_session_deleting(key(), home="the later one's") is not None


async def test_one_that_is_used_again_is_not_deleted_for_having_expired(store: Store) -> None:
    now = T0 + dt.timedelta(days=30)
    await store.add_session(session())
    assert await store.mark_session_deleting(key(), expired_at=T0) is None
    await store.claim_session(key(), NODE)
    assert await store.mark_session_deleting(key(), expired_at=now) is None
    await store.release_session(key(), NODE, T0, SessionStatus.IDLE)
    await store.touch_sessions({key(): now}, dt.timedelta(seconds=1))
    assert await store.mark_session_deleting(key(), expired_at=now) is None
    later = now + dt.timedelta(seconds=1)
    assert await store.mark_session_deleting(key(), expired_at=later) is not None
    assert await store.mark_session_deleting(key(), expired_at=later) is None


async def test_what_nobody_holds_expires(store: Store) -> None:
    await store.add_session(session("old"))
    await store.add_session(session("young", expires_at=T0 + dt.timedelta(days=60)))
    await held(store, "busy")
    now = T0 + dt.timedelta(days=30)
    assert list(await store.expire_sessions(now - dt.timedelta(seconds=1))) == []
    assert [r.key.session_id for r in await store.expire_sessions(now)] == ["old"]
    assert list(await store.expire_sessions(now)) == []
    assert (await found(store, "old")).status is SessionStatus.DELETING


async def test_settling_is_for_sessions_nobody_holds_and_that_never_ran(store: Store) -> None:
    await store.add_session(session())
    await store.settle_session(key(), SessionStatus.FAILED)
    assert (await found(store)).status is SessionStatus.FAILED
    await store.settle_session(key(), SessionStatus.IDLE)
    assert (await found(store)).status is SessionStatus.FAILED
    await held(store, "s2")
    await store.settle_session(key("s2"), SessionStatus.FAILED)
    assert (await found(store, "s2")).status is SessionStatus.CREATING


async def test_who_is_no_node_claims_nothing(store: Store) -> None:
    await store.add_session(session())
    stranger = NodeId("stranger")
    claim = await store.claim_session(key(), stranger)
    assert (claim.outcome, claim.record) == (ClaimOutcome.BURIED, None)
    assert (await found(store)).holder is None
    await held(store)
    await store.remove_node(NODE)
    assert (await store.claim_session(key(), NODE)).outcome is ClaimOutcome.BURIED


async def test_nodes_are_there_from_when_they_say_so(store: Store) -> None:
    third = NodeId("node-3")
    assert await store.find_node(third) is None
    assert not await store.heartbeat(third, T0)
    await store.add_node(third, T0, "http://third")
    later = T0 + dt.timedelta(seconds=1)
    assert await store.heartbeat(third, later)
    found = await store.find_node(third)
    assert found == NodeRecord(node=third, heartbeat_at=later, url="http://third")
    assert [record.node for record in await store.list_nodes()] == [NODE, OTHER_NODE, third]
    await store.add_node(third, T0, "http://moved")
    assert (await store.list_nodes())[2].url == "http://moved"
    assert await store.remove_node(third)
    assert not await store.remove_node(third)
    assert not await store.heartbeat(third, later)
    assert await store.find_node(third) is None


async def test_a_node_that_was_heard_of_since_is_not_removed(store: Store) -> None:
    later = T0 + dt.timedelta(seconds=1)
    await store.heartbeat(NODE, later)
    assert not await store.remove_node(NODE, heard_at=T0)
    assert await store.remove_node(NODE, heard_at=later)


async def test_what_a_dead_node_held_is_free_when_that_is_said(store: Store) -> None:
    await held(store)
    await store.start_session(key(), NODE, ADDRESS)
    await held(store, "going")
    await store.mark_session_deleting(key("going"))
    await store.add_session(session("others"))
    await store.claim_session(key("others"), OTHER_NODE)
    await store.release_orphans(NODE)
    assert (await found(store)).holder == NODE
    assert list(await store.orphan_holders()) == []
    await store.remove_node(NODE)
    assert list(await store.orphan_holders()) == [NODE]
    assert (await store.claim_session(key(), OTHER_NODE)).outcome is ClaimOutcome.ELSEWHERE
    await store.release_orphans(OTHER_NODE)
    assert (await found(store)).holder == NODE
    await store.release_orphans(NODE)
    record = await found(store)
    assert (record.status, record.holder, record.address) == (SessionStatus.IDLE, None, None)
    going = await found(store, "going")
    assert (going.status, going.holder) == (SessionStatus.DELETING, None)
    assert (await found(store, "others")).holder == OTHER_NODE
    assert (await store.claim_session(key(), OTHER_NODE)).outcome is ClaimOutcome.OURS


async def test_whose_a_session_was_is_known_for_a_while(store: Store) -> None:
    await store.add_session(session("s1", owner="i|anna"))
    assert not await store.had_session(key("s1"), "i|anna")
    record = await store.mark_session_deleting(key("s1"))
    assert record is not None
    await store.remove_session(record)
    assert await store.had_session(key("s1"), "i|anna")
    assert not await store.had_session(key("s1"), "i|berta")
    assert not await store.had_session(key("s2"), "i|anna")
    await store.add_session(session("s1", owner="i|berta"))
    assert await store.had_session(key("s1"), "i|anna")
    now = dt.datetime.now(dt.UTC)
    await store.forget_past_sessions(now - dt.timedelta(minutes=5))
    assert await store.had_session(key("s1"), "i|anna")
    await store.forget_past_sessions(now + dt.timedelta(minutes=5))
    assert not await store.had_session(key("s1"), "i|anna")


async def test_a_session_that_was_removed_twice_under_one_id(store: Store) -> None:
    for _ in range(2):
        await store.add_session(session("s1", owner="i|anna"))
        record = await store.mark_session_deleting(key("s1"))
        assert record is not None
        await store.remove_session(record)
    assert await store.had_session(key("s1"), "i|anna")
