"""When an agent's disk is measured, and from what it started."""

import asyncio
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from trunkline.runtimes.process.sandbox import watch
from trunkline.runtimes.process.sandbox.cgroups import Limits, Usage
from trunkline.runtimes.process.sandbox.watch import LimitWatch

_BLOCK = 64 * 1024


class Agent:
    """One that does what it is told before each look, from look 0 to the last one, `looks`."""

    gives_way = False

    def __init__(self, home: Path, looks: int, between: Callable[[int], None]) -> None:
        self.folders = (home,)
        self.limits = Limits(cpu=1, memory_bytes=1, pids=1, home_bytes=_BLOCK)
        self.periods = 1
        self.refused = 0
        self.cpu_bounds: list[float] = []
        self._left = looks
        self._looks = 0
        self._between = between
        self.has_seen_enough = asyncio.Event()

    def is_running(self) -> bool:
        return False

    def give_way(self, *, to_others: bool) -> bool:
        return False

    def usage(self) -> Usage:
        self._between(self._looks)
        self._looks += 1
        if self._looks > self._left:
            self.has_seen_enough.set()
        return Usage(periods=self.periods, refused_forks=self.refused)

    def bound_cpu(self, cpu: float) -> None:
        self.cpu_bounds.append(cpu)


async def looked_at(
    agent: Agent,
    tell: Callable[[str, str, str], None] = lambda *_: None,
    *,
    interval_s: float = 0.0,
) -> tuple[LimitWatch, list[signal.Signals]]:
    """Watch one until it was looked at as often as it wants, or is ended."""
    ended: list[signal.Signals] = []
    limits = LimitWatch(agent, tell=tell, end=ended.append)
    running = asyncio.ensure_future(limits.run(interval_s, asyncio.Lock()))
    seen = asyncio.ensure_future(agent.has_seen_enough.wait())
    await asyncio.wait((running, seen), return_when=asyncio.FIRST_COMPLETED)
    for task in (running, seen):
        task.cancel()
    await asyncio.wait((running, seen))
    return limits, ended


async def test_one_that_rests_is_measured_once_in_ten_looks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    at: list[int] = []

    def note(look: int) -> None:
        nonlocal now
        now = look

    def measured(_home: Path) -> int:
        at.append(now)
        return 0

    now = 0
    monkeypatch.setattr(watch, "measure", measured)
    monkeypatch.setattr(watch, "_MEASURING_SHARE", float("inf"))
    await looked_at(Agent(tmp_path, 30, note))
    assert at == [0, 10, 20, 30]


async def test_one_that_runs_is_measured_at_every_look(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    count = 0

    def run(_look: int) -> None:
        agent.periods += 1

    def measured(_home: Path) -> int:
        nonlocal count
        count += 1
        return 0

    monkeypatch.setattr(watch, "measure", measured)
    monkeypatch.setattr(watch, "_MEASURING_SHARE", float("inf"))
    agent = Agent(tmp_path, 5, run)
    await looked_at(agent)
    assert count == 6


async def test_an_empty_home_that_is_filled_at_once_is_over_the_limit(tmp_path: Path) -> None:
    # Although it is measured for the first time when it is full.
    agent = Agent(tmp_path, 3, lambda _: fill(tmp_path))
    limits, ended = await looked_at(agent)
    assert ended == [signal.SIGKILL]
    assert limits.killed_for.startswith("killed: disk limit")


async def test_a_home_that_was_full_before_may_be_started(tmp_path: Path) -> None:
    fill(tmp_path)
    limits, ended = await looked_at(Agent(tmp_path, 3, lambda _: None))
    assert (limits.killed_for, ended) == ("", [])


def fill(home: Path) -> None:
    (home / "full").write_bytes(b"x" * 2 * _BLOCK)


async def test_one_that_goes_on_being_refused_processes_is_told_that_it_is_slowed_down(
    tmp_path: Path,
) -> None:
    refused_at = {1: 1, 3: 500, 4: 2, 5: 2}

    def fork(look: int) -> None:
        agent.refused += refused_at.get(look, 0)

    agent = Agent(tmp_path, 9, fork)
    told: list[tuple[str, str, str]] = []
    await looked_at(agent, lambda *each: told.append(each))
    assert agent.cpu_bounds == [0.01, 1]
    assert [(limit, reason) for limit, reason, _ in told] == [("pids", "ProcessLimit")] * 2
    assert told[0][2].endswith("it was refused another")
    assert told[1][2] == (
        "it goes on starting processes that it is refused, and gets a hundredth of a processor "
        "until it stops"
    )


async def looks_and_measurements(
    home: Path, monkeypatch: pytest.MonkeyPatch, sizes: list[int], *, runs: bool = True
) -> tuple[int, int]:
    """Have a home be of such sizes when it is measured; return how often it and its agent are
    looked at until the third look is due, or it is ended."""
    looks = measurements = 0

    def between(_look: int) -> None:
        nonlocal looks
        looks += 1
        agent.periods += runs

    def measured(_home: Path) -> int:
        nonlocal measurements
        measurements += 1
        return sizes[min(measurements, len(sizes)) - 1]

    (home / "file").touch()
    monkeypatch.setattr(watch, "measure", measured)
    monkeypatch.setattr(watch, "_MEASURING_SHARE", float("inf"))
    agent = Agent(home, 2, between)
    await looked_at(agent, interval_s=0.1)
    return looks, measurements


async def test_a_disk_that_is_about_to_be_full_is_measured_between_two_looks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # At the second look it has nearly all that it may have, and twice as much as before.
    sizes = [_BLOCK // 2, _BLOCK - 1, 2 * _BLOCK]
    assert await looks_and_measurements(tmp_path, monkeypatch, sizes) == (2, 3)
    # One that grows slowly has time, and one that is as full as before needn't be hurried for.
    for sizes in ([_BLOCK // 2, _BLOCK // 2 + 1, _BLOCK // 2 + 2], [_BLOCK]):
        looks, measurements = await looks_and_measurements(tmp_path, monkeypatch, sizes)
        assert measurements <= looks == 3


async def test_one_that_was_over_it_before_is_measured_between_looks_while_it_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    over = [2 * _BLOCK]
    looks, measurements = await looks_and_measurements(tmp_path, monkeypatch, over)
    assert (looks, measurements // 10) == (3, 2)
    looks, measurements = await looks_and_measurements(tmp_path, monkeypatch, over, runs=False)
    assert (looks, measurements) == (3, 10)
