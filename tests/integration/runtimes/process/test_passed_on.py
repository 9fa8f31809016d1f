"""An agent changes the runtime that looks after it, and notices nothing."""

import asyncio
import itertools
import os
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, cast

import pytest

from tests.conformance.runtimes.support import RecordingSink, Starter, ask, is_running
from trunkline.runtimes.interface import ExitStatus, Instance, LogStream, Passed
from trunkline.runtimes.process.child import spawn_here
from trunkline.runtimes.process.kept import KeeperLine
from trunkline.runtimes.process.runtime import ProcessRuntime
from trunkline.runtimes.process.settings import ProcessSettings


class HereKept:
    """Starts agents as children of this process, and knows them for both runtimes."""

    def __init__(self) -> None:
        self.started: dict[int, Any] = {}

    def spawn(self, *arguments: Any, **options: Any) -> Any:
        started = spawn_here(*arguments, **options)
        self.started[started.pid] = started
        return started

    def adopt(self, pid: int) -> Any:
        return self.started[pid]


class Two:
    """A runtime, and the one that replaces it."""

    def __init__(self, root: Path, start: str, *, network: str = "outbound") -> None:
        keeper = cast("KeeperLine", HereKept())
        settings = ProcessSettings(
            state_dir=root, run_dir=root / "run", start=start, network=network
        )
        self.old = ProcessRuntime(settings, keeper=keeper)
        self.new = ProcessRuntime(settings, keeper=keeper)
        self.starter = Starter(self.old, root)
        self.run_dir = root / "run"

    def move(self, instance: Instance, sink: RecordingSink) -> Instance:
        passed = instance.pass_on()
        # As another process gets them.
        files = tuple(os.dup(file) for file in passed.files)
        taken = self.new.take_over(self._spec, sink, Passed(passed.data, files))
        instance.let_go()
        return taken

    async def start(self, *arguments: str) -> tuple[Instance, RecordingSink]:
        sink = RecordingSink()
        self._spec = self.starter.spec(*arguments)
        return await self.old.start(self._spec, sink), sink


@pytest.fixture(params=["spawn", "zygote"])
async def two(tmp_path: Path, request: pytest.FixtureRequest) -> AsyncIterator[Two]:
    async with AsyncExitStack() as stack:
        two = Two(tmp_path, request.param)
        stack.push_async_callback(two.new.aclose)
        stack.push_async_callback(two.old.aclose)
        assert (await two.old.warm_up(two.starter.spec())).mode == request.param
        yield two


@pytest.mark.parametrize("listen", ["socket", "port"])
async def test_it_serves_on_and_ends_at_the_new_one(two: Two, listen: str) -> None:
    instance, sink = await two.start("--listen", listen, "--farewell", "goodbye")
    taken = two.move(instance, sink)
    assert (taken.pid, taken.address) == (instance.pid, instance.address)
    # Ends all that is the old one's, which the agent no longer is.
    two.old.let_go()
    await two.old.aclose()
    assert b"200" in await ask(taken.address, "/readiness")
    assert await taken.stop() == ExitStatus(code=0)
    assert sink.stdout == "goodbye\n"
    assert sink.reasons == ["Starting", "Started", "Ready", "Stopping", "Exited"]
    assert not is_running(taken.pid)
    assert list(two.run_dir.iterdir()) == []


async def test_its_output_comes_once_whoever_reads(two: Two) -> None:
    size = 3_000_000 // 256 * 256
    instance, sink = await two.start("--flood", str(size))
    # It floods, and ends when all of it is taken.
    flooding = asyncio.create_task(ask(instance.address, "/flood"))
    printed = sink.data[LogStream.STDOUT]
    await sink.wait_until(lambda: len(printed) > 300_000)
    instance.pass_on()
    held = len(printed)
    await asyncio.sleep(0.05)
    assert len(printed) == held < size
    instance.take_back()
    await sink.wait_until(lambda: len(printed) > held)
    taken = two.move(instance, sink)
    assert await taken.wait_exited() == ExitStatus(code=0)
    await flooding
    assert printed == bytes(range(256)) * (size // 256)


async def test_an_end_while_it_is_held_is_told_by_whoever_has_it_then(two: Two) -> None:
    instance, sink = await two.start()
    instance.pass_on()
    await ask(instance.address, "/exit/3")
    await asyncio.sleep(0.05)
    assert "Exited" not in sink.reasons
    taken = two.move(instance, sink)
    assert await taken.wait_exited() == ExitStatus(code=3)
    assert sink.reasons.count("Exited") == 1


async def test_an_end_while_it_is_held_is_told_after_taking_it_back(two: Two) -> None:
    instance, sink = await two.start()
    instance.pass_on()
    await ask(instance.address, "/exit/3")
    instance.take_back()
    assert await instance.wait_exited() == ExitStatus(code=3)
    assert sorted(sink.closed) == sorted(LogStream)


async def test_only_a_settled_one_is_passed_on(two: Two) -> None:
    instance, _ = await two.start("--ignore-term")
    assert instance.is_settled
    stopping = asyncio.create_task(instance.stop())
    await asyncio.sleep(0)
    assert not instance.is_settled
    os.kill(instance.pid, 9)
    await stopping
    assert not instance.is_settled


async def test_it_moves_more_than_once(tmp_path: Path) -> None:
    """What it was forked by goes with it each time, though only the first has made that."""
    keeper = cast("KeeperLine", HereKept())
    settings = ProcessSettings(state_dir=tmp_path, run_dir=tmp_path / "run", start="zygote")
    runtimes = [ProcessRuntime(settings, keeper=keeper) for _ in range(4)]
    starter = Starter(runtimes[0], tmp_path)
    assert (await runtimes[0].warm_up(starter.spec())).mode == "zygote"
    sink, spec = RecordingSink(), starter.spec("--farewell", "goodbye")
    instance: Instance = await runtimes[0].start(spec, sink)
    for before, after in itertools.pairwise(runtimes):
        passed = instance.pass_on()
        files = tuple(os.dup(file) for file in passed.files)
        taken = after.take_over(spec, sink, Passed(passed.data, files))
        instance.let_go()
        instance = taken
        before.let_go()
        await before.aclose()
        assert b"200" in await ask(instance.address, "/readiness")
    assert await instance.stop() == ExitStatus(code=0)
    assert sink.stdout == "goodbye\n"
    await runtimes[-1].aclose()
    assert list((tmp_path / "run").iterdir()) == []
