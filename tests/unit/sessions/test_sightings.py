"""Who counts as dead: those whose sign of life stays the same for long enough while one looks."""

import datetime as dt

from trunkline.protocol.ids import NodeId
from trunkline.sessions.sightings import Sightings
from trunkline.store.records import NodeRecord

T0 = dt.datetime(2026, 1, 2, tzinfo=dt.UTC)


def node(name: str, beat: int) -> NodeRecord:
    at = T0 + dt.timedelta(seconds=beat)
    return NodeRecord(node=NodeId(name), heartbeat_at=at, url=f"http://{name}")


def sightings() -> Sightings:
    return Sightings(interval_s=2.0, timeout_s=10.0)


def test_one_that_stays_silent_is_dead_after_the_timeout() -> None:
    seen = sightings()
    for now in range(0, 10, 2):
        assert seen.look([node("a", 0), node("b", now)], now) == []
    assert seen.look([node("a", 0), node("b", 10)], 10) == [node("a", 0)]
    assert seen.look([node("b", 12)], 12) == []


def test_any_change_is_a_sign_of_life_whatever_the_clock_says() -> None:
    seen = sightings()
    for now in range(0, 100, 2):
        assert seen.look([node("a", -1000 - now)], now) == []


def test_one_that_was_silent_and_speaks_again_has_all_the_time_again() -> None:
    seen = sightings()
    for now in range(0, 10, 2):
        seen.look([node("a", 0)], now)
    assert seen.look([node("a", 1)], 10) == []
    for now in range(12, 20, 2):
        assert seen.look([node("a", 1)], now) == []
    assert seen.look([node("a", 1)], 20) == [node("a", 1)]


def test_time_in_which_nobody_looked_is_no_silence() -> None:
    seen = sightings()
    seen.look([node("a", 0)], 0)
    # The store was away, or this process was paused.
    assert seen.look([node("a", 0)], 1000) == []
    assert seen.look([node("a", 0)], 1002) == []


def test_looks_in_quick_succession_count_for_what_they_are() -> None:
    seen = sightings()
    for now in range(9):
        assert seen.look([node("a", 0)], now) == []
    assert seen.look([node("a", 0)], 9.5) == []
    assert seen.look([node("a", 0)], 10) == [node("a", 0)]


def test_one_that_went_and_came_back_is_new() -> None:
    seen = sightings()
    for now in range(0, 8, 2):
        seen.look([node("a", 0)], now)
    assert seen.look([], 8) == []
    assert seen.look([node("a", 0)], 10) == []
