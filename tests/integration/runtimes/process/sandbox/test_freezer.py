"""Agents are frozen, woken and ended, with version 2 of control groups and with version 1."""

import asyncio
import os
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from tests.conformance.runtimes.support import NODE, RecordingSink, Starter, ask
from trunkline.runtimes.interface import ExitStatus, Freezer, Instance
from trunkline.runtimes.process.runtime import ProcessRuntime
from trunkline.runtimes.process.sandbox.cgroups import Cgroups, find_cgroups
from trunkline.runtimes.process.settings import ProcessSettings

LEVELS = "trunkline.runtimes.process.sandbox.levels.find_cgroups"
RUNTIME = "trunkline.runtimes.process.runtime.find_cgroups"


def cgroups_of(version: int) -> Cgroups:
    """Return what a machine has whose freezer is of one version."""
    lines = Path("/proc/self/mounts").read_text().splitlines()
    hidden = "cgroup2" if version == 1 else "freezer"
    return find_cgroups(mounts="\n".join(line for line in lines if hidden not in line))


class Bench:
    """A runtime whose agents can be frozen."""

    def __init__(self, root: Path) -> None:
        self.runtime = ProcessRuntime(ProcessSettings(state_dir=root / "s", sandbox="required"))
        self.starter = Starter(self.runtime, root)
        self.sink = RecordingSink()

    async def start(self, *arguments: str, may_freeze: bool = True) -> Instance:
        spec = replace(self.starter.spec(*arguments), may_freeze=may_freeze)
        return await self.runtime.start(spec, self.sink)


@pytest.fixture(params=[1, 2], ids=["version-1", "version-2"])
def cgroups(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Cgroups:
    assert os.geteuid() == 0, "freezing is tried as root"
    found = cgroups_of(request.param)
    if isinstance(found.freezer, str):
        # A machine has both only where version 2 stands beside version 1.
        pytest.skip(found.freezer)
    assert found.freezer.version == request.param
    for place in (LEVELS, RUNTIME):
        monkeypatch.setattr(place, lambda: cgroups_of(request.param))
    return found


@pytest.fixture
async def bench(cgroups: Cgroups, tmp_path: Path) -> AsyncIterator[Bench]:
    bench = Bench(tmp_path)
    yield bench
    await bench.runtime.aclose()
    left = [*cgroups.freezer.folder.glob(f"trunkline-{NODE}-*")]  # type: ignore[union-attr]
    assert not left


async def freeze(instance: Instance) -> Freezer:
    freezer = instance.freezer
    assert not isinstance(freezer, str), freezer
    freezer.freeze()
    async with asyncio.timeout(10):
        while not freezer.is_frozen:  # noqa: ASYNC110 - the kernel tells nobody
            await asyncio.sleep(0.002)
    return freezer


async def test_it_stands_still_and_goes_on(bench: Bench) -> None:
    instance = await bench.start()
    freezer = await freeze(instance)
    used = freezer.doing().cpu_s
    assert used is not None
    assert used > 0
    asking = asyncio.create_task(ask(instance.address, "/"))
    await asyncio.wait((asking,), timeout=0.3)
    assert not asking.done()
    assert freezer.doing().cpu_s == pytest.approx(used, abs=0.001)
    freezer.thaw()
    assert (await asking).startswith(b"HTTP/1.1 200")
    assert not freezer.is_frozen
    freezer.thaw()


async def test_it_is_asked_to_end_and_not_just_killed(bench: Bench) -> None:
    instance = await bench.start("--farewell", "bye")
    await freeze(instance)
    assert await instance.stop() == ExitStatus(code=0)
    assert "bye" in bench.sink.stdout


async def test_one_that_does_not_end_is_killed(bench: Bench) -> None:
    spec = replace(bench.starter.spec("--ignore-term", stop_timeout_s=0.2), may_freeze=True)
    instance = await bench.runtime.start(spec, bench.sink)
    await freeze(instance)
    assert await instance.stop() == ExitStatus(signal=9)


async def test_frozen_ones_end_with_the_runtime(bench: Bench) -> None:
    instance = await bench.start("--child")
    await freeze(instance)
    async with asyncio.timeout(10):
        await bench.runtime.aclose()
    await instance.wait_exited()


async def test_frozen_ones_of_a_dead_platform_are_ended(bench: Bench) -> None:
    instance = await bench.start()
    await freeze(instance)
    async with asyncio.timeout(10):
        assert await bench.runtime.end_leftovers(instance.spec.node)  # type: ignore[attr-defined]
        assert await instance.wait_exited() == ExitStatus(signal=9)


async def test_who_was_not_started_for_it_is_not_frozen(bench: Bench) -> None:
    instance = await bench.start(may_freeze=False)
    assert instance.freezer == "it wasn't started to be frozen"


async def test_without_a_sandbox_nobody_is_frozen(tmp_path: Path) -> None:
    runtime = ProcessRuntime(ProcessSettings(state_dir=tmp_path / "s", sandbox="off"))
    spec = replace(Starter(runtime, tmp_path).spec(), may_freeze=True)
    instance = await runtime.start(spec, RecordingSink())
    assert instance.freezer == "it has no sandbox"
    await runtime.aclose()
