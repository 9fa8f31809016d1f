"""Agents that take too much: each is held to its limit, and told in words."""

import asyncio
import os
import sys
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from tests.conformance.runtimes.support import NODE, RecordingSink, Starter, ask
from trunkline.runtimes.interface import ExitStatus, Instance
from trunkline.runtimes.process.runtime import ProcessRuntime
from trunkline.runtimes.process.settings import ProcessSettings
from trunkline.sessions.removal import remove_tree

MIB = 1024**2
BAD = Path(__file__).with_name("bad.py")


class Bad:
    """Starts agents that misbehave, and counts the limits they run into."""

    def __init__(self, root: Path, *, limits_interval_s: float = 0.1) -> None:
        self._root = root
        self.limits: list[str] = []
        self.runtime = ProcessRuntime(
            ProcessSettings(
                state_dir=root / "state",
                sandbox="required",
                pids_max=24,
                home_max_bytes=16 * MIB,
                tmp_max_bytes=8 * MIB,
                limits_interval_s=limits_interval_s,
            ),
            on_limit=self.limits.append,
        )
        self._starter = Starter(self.runtime, root)
        self.sink = RecordingSink()

    async def start(self, way: str, *, cpu: float = 1.0, gives_way: bool = False) -> Instance:
        spec = self._starter.spec(stop_timeout_s=1)
        launch = replace(
            spec.launch,
            command=(sys.executable, "-I", str(BAD), way),
            working_dir=str(BAD.parent),
        )
        spec = replace(spec, launch=launch, memory_bytes=128 * MIB, cpu=cpu, gives_way=gives_way)
        instance = await self.runtime.start(spec, self.sink)
        await ask(instance.address, "/misbehave")
        return instance

    def remove_homes(self) -> None:
        """Remove what the agents wrote."""
        directory = os.open(self._root, os.O_RDONLY | os.O_DIRECTORY)
        try:
            for name in os.listdir(directory):
                if name.startswith("home-"):
                    remove_tree(directory, name.encode())
        finally:
            os.close(directory)

    async def wait_told(self, reason: str) -> str:
        await self.sink.wait_until(lambda: reason in self.sink.reasons)
        return next(message for name, message in self.sink.events if name == reason)


@pytest.fixture
async def bad(tmp_path: Path) -> AsyncIterator[Bad]:
    assert os.geteuid() == 0, "limits are tried as root"
    bad = Bad(tmp_path)
    yield bad
    await bad.runtime.aclose()


async def test_memory(bad: Bad) -> None:
    instance = await bad.start("hog_memory")
    status = await instance.wait_exited()
    assert status == ExitStatus(signal=9)
    assert status.why == "killed: memory limit 128 MiB, setting resources.memory"
    assert str(status) == f"signal 9 ({status.why})"
    assert bad.limits == ["memory"]
    assert bad.sink.events[-1][1].startswith(f"signal 9 ({status.why}), after ")


async def test_memory_of_a_child(bad: Bad) -> None:
    instance = await bad.start("hog_memory_in_a_child")
    told = await bad.wait_told("MemoryLimit")
    assert told == "a process was killed: memory limit 128 MiB, setting resources.memory"
    await bad.sink.wait_until(lambda: "still here" in bad.sink.stdout)
    status = await instance.stop()
    assert not status.why
    assert bad.limits == ["memory"]


async def test_fork_bomb(bad: Bad) -> None:
    instance = await bad.start("fork_bomb")
    told = await bad.wait_told("ProcessLimit")
    assert "no more than 24 processes and threads (TRUNKLINE_PROCESS_PIDS_MAX)" in told
    await bad.sink.wait_until(lambda: "refused" in bad.sink.stdout)
    await instance.stop()
    assert bad.limits == ["pids"]


async def test_a_fork_bomb_that_goes_on_hardly_gets_a_processor(bad: Bad) -> None:
    instance = await bad.start("fork_again_and_again")
    box = instance._box  # type: ignore[attr-defined]
    slowed = "a hundredth of a processor until it stops"
    await bad.sink.wait_until(lambda: slowed in bad.sink.events[-1][1])
    assert box.resource_use().cpu.limit == 0.01
    # It has its processors again for its end; whether it is killed depends on who else wants them.
    instance._limits.let_end()  # type: ignore[attr-defined]
    assert box.resource_use().cpu.limit == 1.0
    assert (await instance.stop()).signal in (9, 15)
    assert bad.limits == ["pids", "pids"]


async def test_processors(bad: Bad) -> None:
    instance = await bad.start("spin", cpu=0.1)
    told = await bad.wait_told("CpuLimit")
    # It is slowed down to its limit, or on a busy machine not even gets that.
    assert "(resources.cpu)" in told
    assert "0.1" in told
    assert await instance.stop() == ExitStatus(signal=15)
    assert bad.limits == ["cpu"]


async def test_who_always_wants_a_processor_gives_way(bad: Bad) -> None:
    instance = await bad.start("spin")
    box = instance._box  # type: ignore[attr-defined]
    async with asyncio.timeout(15):
        while not box.gives_way:  # noqa: ASYNC110 - the kernel tells nobody
            await asyncio.sleep(0.05)
    # It still gets what nobody else wants, and ends as ever.
    assert await instance.stop() == ExitStatus(signal=15)


async def test_who_is_to_give_way_does_when_it_is_ready(tmp_path: Path) -> None:
    # It is looked at once: that doesn't tell yet whether it always wants a processor.
    bad = Bad(tmp_path, limits_interval_s=600)
    try:
        ways = [await bad.start("pause", gives_way=gives_way) for gives_way in (True, False)]
        assert [each._box.gives_way for each in ways] == [True, False]  # type: ignore[attr-defined]
    finally:
        await bad.runtime.aclose()


async def test_who_gives_way_from_the_first_and_has_paused_is_as_good_as_others(bad: Bad) -> None:
    instance = await bad.start("pause", gives_way=True)
    box = instance._box  # type: ignore[attr-defined]
    async with asyncio.timeout(15):
        while box.gives_way:  # noqa: ASYNC110 - the kernel tells nobody
            await asyncio.sleep(0.05)


@pytest.mark.parametrize("way", ["fill_the_disk", "fill_the_folder_of_sockets"])
async def test_disk(bad: Bad, way: str) -> None:
    instance = await bad.start(way)
    status = await instance.wait_exited()
    assert status.why == "killed: disk limit 16 MiB of $HOME, setting home_max_bytes"
    assert "no more than 16 MiB are allowed (TRUNKLINE_PROCESS_HOME_MAX_BYTES)" in (
        await bad.wait_told("Killed")
    )
    assert bad.limits == ["disk"]


async def test_folders_too_deep_to_measure(bad: Bad) -> None:
    instance = await bad.start("nest_folders")
    status = await instance.wait_exited()
    assert status.why == "killed: folders more than 100 deep in $HOME can't be measured"
    assert bad.limits == ["disk"]
    # Deeper than what removes pytest's folders can go.
    bad.remove_homes()


async def test_tmp(bad: Bad) -> None:
    instance = await bad.start("fill_tmp")
    await bad.sink.wait_until(lambda: "No space left on device" in bad.sink.stdout)
    await instance.stop()


async def test_nothing_is_left_of_any(bad: Bad, tmp_path: Path) -> None:
    instance = await bad.start("fork_bomb")
    groups = [
        folder for folder in Path("/sys/fs/cgroup").glob(f"*/**/trunkline-{NODE}-*")
        if (folder / "cgroup.procs").read_text()
    ]  # fmt: skip
    assert groups
    await instance.stop()
    await bad.runtime.aclose()
    assert [folder for folder in groups if folder.exists()] == []
