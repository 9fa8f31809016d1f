"""What every store does."""

import asyncio
import datetime as dt
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from trunkline.protocol.ids import (
    AgentName,
    NodeId,
    ProjectName,
    SessionId,
    SessionKey,
    VersionId,
)
from trunkline.store.interface import Store
from trunkline.store.paging import EVERYTHING
from trunkline.store.records import (
    NewVersion,
    SessionRecord,
    SessionStatus,
    VersionStatus,
)

OpenStore = Callable[[], Awaitable[Store]]

PROJECT, AGENT = ProjectName("default"), AgentName("echo")
NODE, OTHER_NODE = NodeId("node-1"), NodeId("node-2")
T0 = dt.datetime(2026, 1, 2, 3, 4, 5, 678901, dt.UTC)
LAUNCH = {"command": ["python", "main.py"], "working_dir": "code", "environment": {"A": "b"}}


def new(
    content: str = "1", *, project: str = PROJECT, agent: str = AGENT, is_draft: bool = False
) -> NewVersion:
    return NewVersion(
        project=ProjectName(project),
        agent=AgentName(agent),
        definition={"protocol_versions": [{"protocol": "invocations", "version": "2.0.0"}]},
        description="ä description",
        metadata={"k": "v"},
        content_hash=f"hash-{content}",
        code_sha256=f"code-{content}",
        is_draft=is_draft,
        builder=NODE,
    )


def key(session_id: str = "s1", *, agent: str = AGENT) -> SessionKey:
    return SessionKey(PROJECT, AgentName(agent), SessionId(session_id))


def session(session_id: str = "s1", **changes: Any) -> SessionRecord:
    values: dict[str, Any] = {
        "key": key(session_id),
        "version": VersionId("1"),
        "owner": "issuer|anna",
        "status": SessionStatus.CREATING,
        "created_at": T0,
        "last_accessed_at": T0,
        "expires_at": T0 + dt.timedelta(days=30),
        "home": f"home-of-{session_id}",
    }
    return SessionRecord(**{**values, **changes})


async def numbers(store: Store, project: ProjectName, agent: AgentName) -> list[str]:
    listed = await store.list_versions(project, agent, EVERYTHING)
    return [version.version for version in listed.items]


async def test_nothing_is_there_at_first(store: Store) -> None:
    assert await store.find_agent(PROJECT, AGENT) is None
    assert await store.find_version(PROJECT, AGENT, VersionId("1")) is None
    assert await store.latest_version(PROJECT, AGENT) is None
    assert await store.find_session(key()) is None
    assert (await store.list_agents(PROJECT, EVERYTHING)).items == []
    assert (await store.list_versions(PROJECT, AGENT, EVERYTHING)).items == []
    assert (await store.list_sessions(PROJECT, AGENT, EVERYTHING)).items == []
    assert list(await store.unfinished_versions()) == []


async def test_a_first_version_makes_the_agent(store: Store) -> None:
    before = dt.datetime.now(dt.UTC)
    record, is_new = await store.add_version(new())
    assert is_new
    assert (record.version, record.status) == ("1", VersionStatus.CREATING)
    assert before <= record.created_at <= dt.datetime.now(dt.UTC)
    assert record.definition == new().definition
    assert (record.description, record.metadata) == ("ä description", {"k": "v"})
    assert (record.content_hash, record.code_sha256) == ("hash-1", "code-1")
    assert (record.launch, record.error) == (None, None)
    assert record.protocols == {"invocations"}
    agent = await store.find_agent(PROJECT, AGENT)
    assert agent is not None
    assert (agent.project, agent.name, agent.created_at) == (PROJECT, AGENT, record.created_at)
    assert await store.find_version(PROJECT, AGENT, VersionId("1")) == record


async def test_each_agent_counts_its_own_versions(store: Store) -> None:
    for content in "123":
        await store.add_version(new(content))
    await store.add_version(new(agent="other"))
    await store.add_version(new(project="second"))
    assert await numbers(store, PROJECT, AGENT) == [
        "3",
        "2",
        "1",
    ]
    assert [
        v.version
        for v in (await store.list_versions(PROJECT, AgentName("other"), EVERYTHING)).items
    ] == ["1"]
    assert [
        v.version
        for v in (await store.list_versions(ProjectName("second"), AGENT, EVERYTHING)).items
    ] == ["1"]


async def test_versions_after_the_ninth_are_newer_than_it(store: Store) -> None:
    for number in range(11):
        await store.add_version(new(str(number)))
    listed = [int(n) for n in await numbers(store, PROJECT, AGENT)]
    assert listed == list(range(11, 0, -1))
    latest = await store.latest_version(PROJECT, AGENT)
    assert latest is not None
    assert latest.version == "11"


async def test_agents_are_listed_newest_first_in_their_project(store: Store) -> None:
    for name in ("zeta", "alpha", "mid"):
        await store.add_version(new(agent=name))
    await store.add_version(new(project="second", agent="beta"))
    assert [a.name for a in (await store.list_agents(PROJECT, EVERYTHING)).items] == [
        "mid",
        "alpha",
        "zeta",
    ]


async def test_identical_content_is_the_version_that_is_there(store: Store) -> None:
    first, _ = await store.add_version(new())
    again, is_new = await store.add_version(new())
    assert (again, is_new) == (first, False)
    active = await store.finish_version(first, launch=LAUNCH)
    again, is_new = await store.add_version(new())
    assert (again, is_new) == (active, False)


async def test_content_of_an_older_version_makes_a_new_one(store: Store) -> None:
    for content in "12":
        await store.add_version(new(content))
    back, is_new = await store.add_version(new("1"))
    assert (back.version, is_new) == ("3", True)


async def test_identical_content_after_a_failed_build_is_tried_again(store: Store) -> None:
    first, _ = await store.add_version(new())
    await store.finish_version(first, error="no such package")
    again, is_new = await store.add_version(new())
    assert (again.version, again.status, is_new) == ("2", VersionStatus.CREATING, True)


async def test_versions_added_at_once_have_numbers_of_their_own(store: Store) -> None:
    added = await asyncio.gather(*(store.add_version(new(str(i))) for i in range(20)))
    assert all(is_new for _, is_new in added)
    assert sorted(int(record.version) for record, _ in added) == list(range(1, 21))


async def test_identical_versions_added_at_once_are_one(store: Store) -> None:
    added = await asyncio.gather(*(store.add_version(new()) for _ in range(20)))
    assert [is_new for _, is_new in added].count(True) == 1
    assert {record.version for record, _ in added} == {"1"}


async def test_two_stores_on_one_state_count_together(open_store: OpenStore) -> None:
    one, two = await open_store(), await open_store()
    added = await asyncio.gather(*((one, two)[i % 2].add_version(new(str(i))) for i in range(10)))
    assert sorted(int(record.version) for record, _ in added) == list(range(1, 11))


async def test_finishing_a_version(store: Store) -> None:
    first, _ = await store.add_version(new("1"))
    second, _ = await store.add_version(new("2"))
    active = await store.finish_version(first, launch=LAUNCH)
    assert active is not None
    assert (active.status, active.launch, active.error) == (VersionStatus.ACTIVE, LAUNCH, None)
    failed = await store.finish_version(second, error="no such package", error_code="CodeError")
    assert failed is not None
    assert failed.error_code == "CodeError"
    assert (failed.status, failed.launch) == (VersionStatus.FAILED, None)
    assert failed.error == "no such package"
    assert await store.find_version(PROJECT, AGENT, VersionId("1")) == active
    assert await store.latest_version(PROJECT, AGENT) == failed
    by_status = [
        await store.latest_version(PROJECT, AGENT, status=status)
        for status in (VersionStatus.ACTIVE, VersionStatus.FAILED, VersionStatus.CREATING)
    ]
    assert by_status == [active, failed, None]


async def test_unfinished_versions_of_every_project(store: Store) -> None:
    done, _ = await store.add_version(new("1"))
    await store.finish_version(done, launch=LAUNCH)
    left, _ = await store.add_version(new("2"))
    other, _ = await store.add_version(new(project="second"))
    assert list(await store.unfinished_versions()) == [left, other]


@pytest.mark.parametrize(
    "odd",
    ["abc", "1e3", "٣", "१", "³", "", " ", " 3", "3 ", "3\n", "+3", "-1", "0", "0x1", "1_0", "3.0",
     "03", "9" * 30, "9" * 5000, "1;--", "3\0", "\ud800"],
)  # fmt: skip
async def test_what_names_no_version(store: Store, odd: str) -> None:
    for content in "123":
        await store.add_version(new(content))
    assert await store.find_version(PROJECT, AGENT, VersionId(odd)) is None


async def test_everything_survives_a_reopen(open_store: OpenStore) -> None:
    store = await open_store()
    added, _ = await store.add_version(new())
    version = await store.finish_version(added, launch=LAUNCH)
    await store.add_session(session())
    await store.aclose()
    again = await open_store()
    assert await again.find_version(PROJECT, AGENT, VersionId("1")) == version
    assert await again.find_session(key()) == session()
    later, _ = await again.add_version(new("2"))
    assert later.version == "2"


async def test_closing_twice_is_fine(store: Store) -> None:
    await store.ping()
    await store.aclose()
    await store.aclose()


async def test_a_closed_store_says_that_it_cannot_answer(store: Store) -> None:
    await store.aclose()
    with pytest.raises(Exception, match=r"closed|shut"):  # the driver's own error
        await store.ping()


async def test_closing_at_once_from_two_tasks_is_fine(store: Store) -> None:
    await asyncio.gather(store.aclose(), store.aclose())


@pytest.mark.parametrize("steps", [0, 1, 2])
async def test_a_cancelled_call_leaves_the_store_usable(store: Store, steps: int) -> None:
    task = asyncio.create_task(store.add_version(new("1")))
    for _ in range(steps):
        await asyncio.sleep(0)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    record, _ = await store.add_version(new("2"))
    listed = await numbers(store, PROJECT, AGENT)
    assert listed == [str(n) for n in range(int(record.version), 0, -1)]
    agent = await store.find_agent(PROJECT, AGENT)
    assert agent is not None


async def test_calls_cancelled_in_a_crowd_harm_no_other(store: Store) -> None:
    tasks = [asyncio.create_task(store.add_version(new(str(i)))) for i in range(20)]
    await asyncio.sleep(0)
    for task in tasks[::2]:
        task.cancel()
    results = await asyncio.gather(*tasks, return_exceptions=True)
    kept = [result for result in results if not isinstance(result, BaseException)]
    assert len(kept) >= 10
    numbers = [
        int(v.version) for v in (await store.list_versions(PROJECT, AGENT, EVERYTHING)).items
    ]
    assert numbers == list(range(len(numbers), 0, -1))
    assert {int(record.version) for record, _ in kept} <= set(numbers)
