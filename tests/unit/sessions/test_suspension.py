"""When an agent is frozen, and when it isn't: decisions, on a freezer in memory."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from tests.unit.sessions.support import metric
from trunkline.protocol.errors import SessionNotReadyError
from trunkline.runtimes.interface import Doing, FreezerFailedError
from trunkline.sessions.suspension import Suspension, Traffic, suspend_after_s
from trunkline.telemetry.metrics import Metrics

AFTER_S = 0.08


class FakeFreezer:
    """Freezes at once, unless it is told not to."""

    def __init__(self) -> None:
        self.now = Doing(0.0, 0, 0)
        self._share, self._since = 0.0, 0.0
        self.is_frozen = False
        self.takes_for_ever = False
        self.failure = ""
        self.froze = asyncio.Event()
        self.tries = 0

    def freeze(self) -> None:
        self.tries += 1
        if self.failure:
            raise FreezerFailedError(self.failure)
        self.is_frozen = not self.takes_for_ever
        self.froze.set()

    def thaw(self) -> None:
        self.is_frozen = False
        self.froze.clear()

    def doing(self) -> Doing:
        if self.now.cpu_s is None:
            return self.now
        return replace(
            self.now, cpu_s=self.now.cpu_s + self._share * (time.monotonic() - self._since)
        )

    def work(self, share: float) -> None:
        """Use so much of a processor from now on, whenever somebody looks."""
        self.now, self._share, self._since = self.doing(), share, time.monotonic()


class FakeConnection:
    """A connection whose traffic a test makes up."""

    def __init__(self, *, can_sleep: bool = True) -> None:
        self.now: Traffic | None = Traffic(3, 100)
        self.can_sleep = can_sleep
        self.on_need: Callable[[str], None] | None = None
        self.wakes = 0
        self.tries = 0

    def traffic(self) -> Traffic | None:
        return self.now

    def fall_asleep(self, wake: Callable[[str], None]) -> bool:
        self.tries += 1
        if self.can_sleep:
            self.on_need = wake
        return self.can_sleep

    def wake(self) -> None:
        self.wakes += self.on_need is not None
        self.on_need = None


@dataclass
class Bed:
    """A session that may sleep."""

    freezer: FakeFreezer = field(default_factory=FakeFreezer)
    sleepers: dict[Any, FakeConnection] = field(default_factory=dict)
    others: int = 0
    may_freeze: bool = True
    events: list[tuple[str, str]] = field(default_factory=list)
    metrics: Metrics = field(default_factory=Metrics)

    @property
    def leases(self) -> int:
        return len(self.sleepers) + self.others

    def suspension(self) -> Suspension:
        return Suspension(
            self,
            self.freezer,
            AFTER_S,
            may_freeze=lambda: self.may_freeze,
            tell=lambda *event: self.events.append(event),
            metrics=self.metrics,
        )

    @property
    def frozen(self) -> float:
        return metric(self.metrics, "trunkline_sessions_frozen")


@pytest.fixture
async def bed() -> Bed:
    return Bed(sleepers={1: FakeConnection(), 2: FakeConnection()})


@pytest.fixture
async def suspension(bed: Bed) -> AsyncIterator[Suspension]:
    suspension = bed.suspension()
    task = asyncio.create_task(suspension.run())
    yield suspension
    task.cancel()
    await asyncio.wait((task,))
    assert task.cancelled(), task.exception()


async def until(holds: Callable[[], bool]) -> None:
    while not holds():  # noqa: ASYNC110 - what is waited for tells nobody
        await asyncio.sleep(0.002)


async def windows(count: float) -> None:
    """Let as much time go by as would freeze it so many times."""
    await asyncio.sleep(AFTER_S * (count + 0.5))


async def test_it_freezes_and_any_connection_wakes_all(bed: Bed, suspension: Suspension) -> None:
    await until(lambda: bed.frozen == 1)
    assert bed.freezer.is_frozen
    on_need = bed.sleepers[2].on_need
    assert on_need is not None
    on_need("a frame")
    # All of it has happened by the time the call returns: the frame must find it awake.
    assert not bed.freezer.is_frozen
    assert [each.wakes for each in bed.sleepers.values()] == [1, 1]
    assert (bed.frozen, metric(bed.metrics, "trunkline_session_thaws_total")) == (0, 1)
    assert [reason for reason, _ in bed.events] == ["Frozen", "Woken"]
    on_need("again")
    assert len(bed.events) == 2
    await until(lambda: bed.frozen == 1)


async def test_frames_keep_it_awake_and_signs_of_life_do_not(
    bed: Bed, suspension: Suspension
) -> None:
    for number in range(20):
        bed.sleepers[1].now = Traffic(number, number * 10)
        await asyncio.sleep(AFTER_S / 4)
    assert not bed.freezer.tries
    # A ping that comes now is answered before it sleeps, but it does sleep.
    bed.sleepers[1].now = Traffic(19, 1000)
    await until(lambda: bed.frozen == 1)


@pytest.mark.parametrize(
    "disturb",
    [
        pytest.param(lambda bed: setattr(bed, "others", 1), id="a request is under way"),
        pytest.param(lambda bed: setattr(bed, "may_freeze", False), id="it may not"),
        pytest.param(lambda bed: setattr(bed.sleepers[1], "now", None), id="inside a frame"),
        pytest.param(
            lambda bed: setattr(bed.freezer, "now", Doing(None, 0, 0)), id="nobody knows its use"
        ),
        pytest.param(
            lambda bed: setattr(bed.freezer, "now", Doing(0.0, 2, 1)), id="it is connected"
        ),
    ],
)
async def test_it_stays_awake(
    bed: Bed, suspension: Suspension, disturb: Callable[[Bed], None]
) -> None:
    disturb(bed)
    await windows(3)
    assert not bed.freezer.tries


async def test_who_works_stays_awake(bed: Bed, suspension: Suspension) -> None:
    bed.freezer.work(0.02)
    await windows(5)
    assert not bed.freezer.tries
    # A thousandth of a processor is what timers take.
    bed.freezer.work(0.001)
    await until(lambda: bed.frozen == 1)


async def test_who_connected_in_between_stays_awake(bed: Bed, suspension: Suspension) -> None:
    for number in range(20):
        bed.freezer.now = Doing(0.0, 0, number)
        await asyncio.sleep(AFTER_S / 4)
    assert not bed.freezer.tries


async def test_one_that_can_not_sleep_keeps_the_others_awake(
    bed: Bed, suspension: Suspension
) -> None:
    bed.sleepers[2].can_sleep = False
    await until(lambda: bed.sleepers[2].tries == 2)
    assert not bed.freezer.tries
    assert bed.sleepers[1].wakes == bed.sleepers[1].tries == 2
    assert not bed.events


async def test_a_frame_while_it_freezes_wins(bed: Bed, suspension: Suspension) -> None:
    bed.freezer.takes_for_ever = True
    await bed.freezer.froze.wait()
    on_need = bed.sleepers[1].on_need
    assert on_need is not None
    on_need("a frame")
    assert (bed.sleepers[1].wakes, bed.frozen, bed.events) == (1, 0, [])


async def test_what_it_said_in_the_last_moment_wakes_it(bed: Bed, suspension: Suspension) -> None:
    bed.freezer.takes_for_ever = True
    await bed.freezer.froze.wait()
    bed.sleepers[1].now = Traffic(4, 200)
    bed.freezer.is_frozen = True
    await until(lambda: bed.sleepers[1].wakes == 1)
    assert not bed.freezer.is_frozen
    assert not bed.events


async def test_a_kernel_that_does_not_freeze_is_given_up(
    bed: Bed, suspension: Suspension, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("trunkline.sessions.suspension._FREEZING_S", 0.03)
    bed.freezer.takes_for_ever = True
    await until(lambda: bed.freezer.tries == 2)
    assert bed.sleepers[1].wakes >= 1
    assert bed.frozen == 0


async def test_a_kernel_that_refuses_is_told_of_once(bed: Bed, suspension: Suspension) -> None:
    bed.freezer.failure = "no space left"
    await until(lambda: bed.freezer.tries == 3)
    assert bed.events == [("NotFrozen", "it can't be frozen: no space left")]
    assert bed.sleepers[1].on_need is None


@pytest.mark.parametrize(
    ("variable", "seconds"), [(None, 7.0), ("0", 0.0), ("1.5", 1.5), (" 30 ", 30.0)]
)
def test_a_definition_wins_over_the_platform(variable: str | None, seconds: float) -> None:
    own = {} if variable is None else {"TRUNKLINE_SUSPEND_AFTER_S": variable}
    assert suspend_after_s({"environment_variables": own}, 7.0) == seconds
    assert suspend_after_s({}, 7.0) == 7.0


@pytest.mark.parametrize("variable", ["soon", "-1", "nan", "inf"])
def test_what_is_not_a_time_is_refused(variable: str) -> None:
    with pytest.raises(SessionNotReadyError, match="give seconds, or 0 for never"):
        suspend_after_s({"environment_variables": {"TRUNKLINE_SUSPEND_AFTER_S": variable}}, 0.0)
