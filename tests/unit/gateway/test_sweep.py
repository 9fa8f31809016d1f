"""The coarse clock."""

import asyncio

import pytest

from trunkline.gateway.settings import GatewaySettings
from trunkline.gateway.sweep import Sweep
from trunkline.telemetry.metrics import Metrics


class Member:
    def __init__(self, fails: bool = False) -> None:
        self.looks: list[float] = []
        self.fails = fails
        self.seen = asyncio.Event()

    def look(self, now: float) -> None:
        self.looks.append(now)
        if len(self.looks) >= 2:
            self.seen.set()
        if self.fails:
            raise RuntimeError("broken")


async def test_each_member_is_looked_at_again_and_again() -> None:
    sweep = Sweep(0.05)
    members = [Member() for _ in range(50)]
    for member in members:
        sweep.add(member)
    await asyncio.gather(*(member.seen.wait() for member in members))
    # The same round for all: none is looked at much oftener than another.
    assert max(len(m.looks) for m in members) - min(len(m.looks) for m in members) <= 1


async def test_one_that_fails_ends_it_for_nobody_else(caplog: pytest.LogCaptureFixture) -> None:
    sweep = Sweep(0.02)
    broken, sound = Member(fails=True), Member()
    sweep.add(broken)
    sweep.add(sound)
    await asyncio.gather(broken.seen.wait(), sound.seen.wait())
    assert "looking at" in caplog.text


async def test_who_left_is_not_looked_at_and_nothing_ticks_for_nobody() -> None:
    sweep = Sweep(0.02)
    gone, stays = Member(), Member()
    sweep.add(gone)
    sweep.add(stays)
    sweep.discard(gone)
    sweep.discard(gone)
    await stays.seen.wait()
    assert gone.looks == []
    sweep.discard(stays)
    await asyncio.sleep(0.05)
    assert sweep._timer is None
    again = Member()
    sweep.add(again)
    await again.seen.wait()


@pytest.mark.parametrize(
    ("settings", "interval_s"),
    [
        ({}, 1.0),
        ({"stalled_reader_s": 0}, 1.0),
        ({"idle_connection_s": 0.4}, 0.1),
        ({"max_connection_s": 0.001}, 0.02),
    ],
)
def test_it_is_as_fine_as_the_shortest_time_needs(
    settings: dict[str, float], interval_s: float
) -> None:
    assert Sweep.for_settings(GatewaySettings(**settings), Metrics()).interval_s == interval_s
