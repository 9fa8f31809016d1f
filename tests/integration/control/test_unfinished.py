"""What was begun is finished: by the process that began it, or by one that shares its store."""

import asyncio
import datetime as dt
import io
import threading
import zipfile
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from tests.unit.sessions.support import (
    AGENT,
    LAUNCH,
    NODE,
    PROJECT,
    FakeRuntime,
    World,
    new_version,
    world,
)
from trunkline.control import builds
from trunkline.control.builds import VersionBuilds
from trunkline.control.deletions import Deletions
from trunkline.protocol.errors import UnavailableError
from trunkline.protocol.ids import NodeId
from trunkline.runtimes.interface import BuildLog, Launch, VersionSource
from trunkline.store.records import NewVersion, VersionRecord, VersionStatus

OTHER = NodeId("node-2")
NOW = dt.datetime(2026, 1, 2, tzinfo=dt.UTC)


class BuildingRuntime(FakeRuntime):
    """Builds when a test lets it."""

    def __init__(self) -> None:
        super().__init__()
        self.may_build = asyncio.Event()
        self.may_build.set()
        self.built: list[str] = []

    async def build(self, source: VersionSource, log: BuildLog) -> Launch:
        await self.may_build.wait()
        self.built.append(source.version)
        return LAUNCH


@pytest.fixture
async def w(tmp_path: Path) -> AsyncIterator[World]:
    async with world(tmp_path) as w:
        await w.store.add_node(OTHER, NOW, "http://127.0.0.1:2")
        yield w


class Side:
    """What one process has to build and to delete with."""

    def __init__(self, w: World, folder: Path, node: NodeId) -> None:
        self.runtime = BuildingRuntime()
        self.builds = VersionBuilds(
            folder / "versions", store=w.store, runtime=self.runtime, node=node
        )
        self.deletions = Deletions(
            store=w.store, sessions=w.sessions, builds=self.builds, node=node
        )

    async def aclose(self) -> None:
        await self.deletions.aclose()
        await self.builds.aclose()


@pytest.fixture
async def one(w: World, tmp_path: Path) -> AsyncIterator[Side]:
    side = Side(w, tmp_path, NODE)
    yield side
    await side.aclose()


@pytest.fixture
async def two(w: World, tmp_path: Path) -> AsyncIterator[Side]:
    side = Side(w, tmp_path, OTHER)
    yield side
    await side.aclose()


def package(folder: Path) -> Path:
    path = folder / "upload.zip"
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("main.py", "print('hello')\n")
    assert zipfile.is_zipfile(io.BytesIO(path.read_bytes()))
    return path


async def status_of(w: World, record: VersionRecord) -> VersionStatus | None:
    found = await w.store.find_version(record.project, record.agent, record.version)
    return None if found is None else found.status


async def until_built(w: World, side: Side, record: VersionRecord) -> None:
    await asyncio.gather(*side.builds._running.values(), return_exceptions=True)
    assert await status_of(w, record) is VersionStatus.ACTIVE


def out_of_order(w: World, name: str) -> Any:
    """Have one of the store's calls fail until the returned function is called."""

    async def fail(*_: Any, **__: Any) -> None:
        raise UnavailableError("the store doesn't answer; try again")

    setattr(w.store, name, fail)
    return lambda: delattr(w.store, name)


async def test_a_build_whose_end_could_not_be_told_is_built_again(
    w: World, one: Side, tmp_path: Path
) -> None:
    record, _ = await w.store.add_version(new_version())
    mend = out_of_order(w, "finish_version")
    await one.builds.start(record, package(tmp_path))
    await asyncio.gather(*one.builds._running.values(), return_exceptions=True)
    mend()
    assert await status_of(w, record) is VersionStatus.CREATING
    await one.builds.take_over()
    await until_built(w, one, record)
    await one.builds.take_over()
    assert one.runtime.built == ["1", "1"]


async def test_a_build_under_way_and_one_that_arrives_are_left_alone(
    w: World, one: Side, two: Side, tmp_path: Path
) -> None:
    one.runtime.may_build.clear()
    record, _ = await w.store.add_version(new_version())
    with one.builds.arrival():
        await one.builds.take_over()
        await two.builds.take_over()
        assert await status_of(w, record) is VersionStatus.CREATING
        await one.builds.start(record, package(tmp_path))
    await one.builds.take_over()
    await two.builds.take_over()
    one.runtime.may_build.set()
    await until_built(w, one, record)
    assert (one.runtime.built, two.runtime.built) == (["1"], [])


async def test_a_build_that_was_given_up_is_gone_on_with_by_whoever_comes_first(
    w: World, one: Side, two: Side, tmp_path: Path
) -> None:
    """A node that was taken for dead may be back before anybody has taken its builds over."""
    one.runtime.may_build.clear()
    record, _ = await w.store.add_version(new_version())
    await one.builds.start(record, package(tmp_path))
    await w.store.remove_node(NODE)
    await one.builds.give_up()
    # While it is no node, it begins nothing.
    await one.builds.take_over()
    assert not one.builds._running
    await w.store.add_node(NODE, NOW, "http://127.0.0.1:1")
    one.runtime.may_build.set()
    await one.builds.take_over()
    await two.builds.take_over()
    await until_built(w, one, record)
    assert (one.runtime.built, two.runtime.built) == (["1"], [])


async def test_an_interrupted_upload_and_an_image_are_told_apart(w: World, one: Side) -> None:
    upload, _ = await w.store.add_version(new_version())
    image = new_version(image="x")
    image = NewVersion(
        project=PROJECT, agent=AGENT, definition=image.definition, description=None, metadata={},
        content_hash="image", code_sha256="", builder=NODE,
    )  # fmt: skip
    of_image, _ = await w.store.add_version(image)
    await one.builds.take_over()
    codes = []
    for record in (upload, of_image):
        found = await w.store.find_version(record.project, record.agent, record.version)
        assert found is not None
        codes.append((found.status, found.error_code))
    assert codes == [(VersionStatus.FAILED, "CodeError"), (VersionStatus.FAILED, "ImageError")]


@pytest.mark.parametrize("call", ["remove_agent", "deleting_sessions"])
async def test_a_deletion_the_store_left_half_way_is_finished(
    w: World, one: Side, call: str
) -> None:
    await w.add_version()
    mend = out_of_order(w, call)
    with pytest.raises(UnavailableError):
        await one.deletions.delete_agent(PROJECT, AGENT, is_forced=True)
    mend()
    await one.deletions.take_over()
    assert list(await w.store.deleting_agents()) == []
    # And its name can be given again.
    assert (await w.add_version()).version == "1"


async def test_a_caller_waits_for_a_deletion_that_is_under_way(
    w: World, one: Side, two: Side
) -> None:
    await w.add_version()
    reached, may_go = asyncio.Event(), asyncio.Event()
    remove = w.store.remove_agent

    async def slowly(*args: Any) -> None:
        reached.set()
        await may_go.wait()
        await remove(*args)

    w.store.remove_agent = slowly  # type: ignore[method-assign]
    deleting = asyncio.create_task(one.deletions.delete_agent(PROJECT, AGENT, is_forced=False))
    await reached.wait()
    # Another one leaves it to the first, and the first doesn't begin it twice.
    await two.deletions.take_over()
    again = asyncio.create_task(one.deletions.take_over())
    await asyncio.sleep(0)
    assert not deleting.done()
    may_go.set()
    assert await deleting
    await again
    assert list(await w.store.deleting_agents()) == []


async def test_one_that_is_taken_for_dead_leaves_its_deletions_to_others(
    w: World, one: Side, two: Side
) -> None:
    await w.add_version()
    reached = asyncio.Event()
    remove = w.store.remove_agent

    async def never(*_: Any) -> None:
        reached.set()
        await asyncio.Event().wait()

    w.store.remove_agent = never  # type: ignore[method-assign]
    deleting = asyncio.create_task(one.deletions.delete_agent(PROJECT, AGENT, is_forced=False))
    await reached.wait()
    await w.store.remove_node(NODE)
    await one.deletions.give_up()
    with pytest.raises(UnavailableError):
        await deleting
    w.store.remove_agent = remove  # type: ignore[method-assign]
    await two.deletions.take_over()
    assert list(await w.store.deleting_agents()) == []


async def test_who_gives_up_a_deletion_has_nothing_left_that_removes(
    w: World, one: Side, two: Side, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is removed late may be somebody's new agent of the same name."""
    await w.add_version()
    removing, may_go, removed = asyncio.Event(), threading.Event(), []
    loop = asyncio.get_running_loop()
    remove = builds._remove

    def slowly(folder: Path) -> None:
        loop.call_soon_threadsafe(removing.set)
        may_go.wait()
        remove(folder)
        removed.append(folder)

    monkeypatch.setattr(builds, "_remove", slowly)
    deleting = asyncio.create_task(one.deletions.delete_agent(PROJECT, AGENT, is_forced=False))
    await removing.wait()
    giving_up = asyncio.create_task(one.deletions.give_up())
    await asyncio.sleep(0.05)
    assert not giving_up.done()
    may_go.set()
    await giving_up
    assert len(removed) == 1
    with pytest.raises(UnavailableError, match="the deletion was begun, and goes on"):
        await deleting
    # It isn't finished until somebody else does that.
    assert len(await w.store.deleting_agents()) == 1
    monkeypatch.setattr(builds, "_remove", remove)
    await one.deletions.take_over()
    assert list(await w.store.deleting_agents()) == []
