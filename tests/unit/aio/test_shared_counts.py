"""What several processes count together: here several views of the same memory."""

import os
from collections.abc import Callable, Iterator

import pytest

from trunkline.aio.shared_counts import SharedCounts
from trunkline.auth.rates import SharedRate
from trunkline.gateway.limits import ConnectionLimits
from trunkline.gateway.settings import GatewaySettings
from trunkline.protocol.errors import RateLimitedError, TooManyConnectionsError, UnavailableError
from trunkline.protocol.ids import AgentName, ProjectName, SessionId, SessionKey

View = Callable[[int], SharedCounts]


@pytest.fixture
def view() -> Iterator[View]:
    made = [SharedCounts.made(3)]

    def new(column: int) -> SharedCounts:
        made.append(SharedCounts(os.dup(made[0].file), columns=3, column=column))
        return made[-1]

    yield new
    for each in made:
        each.close()
        each.close()


def test_counts_are_the_sum_of_all_columns(view: View) -> None:
    tables = [view(column).counted(1) for column in range(3)]
    assert [table.add("k", 1) for table in tables] == [1, 2, 3]
    assert tables[0].add("k", -1) == 2
    assert tables[0].add("other", 1) == 1
    assert view(0).counted(2).add("k", 1) == 1


def test_who_is_gone_counts_no_more(view: View) -> None:
    first, second = view(1), view(2)
    for table in range(4):
        first.counted(table).add("k", 5)
        second.counted(table).add("k", 1)
    second.forget(1)
    assert [second.counted(table).add("k", 0) for table in range(4)] == [1, 1, 1, 1]


def test_times_are_everybodys(view: View) -> None:
    view(1).times(0).set("k", 12.5)
    assert view(2).times(0).get("k") == 12.5
    assert view(2).times(0).get("j") == 0
    assert view(2).times(1).get("k") == 0


def test_tables_do_not_overlap(view: View) -> None:
    shared = view(0)
    for table in range(4):
        shared.times(table).set("k", float(table + 1))
        for column in range(3):
            view(column).counted(table).add("k", 10 * table + column + 1)
    for table in range(4):
        assert shared.times(table).get("k") == table + 1
        assert shared.counted(table).add("k", 0) == 3 * (10 * table + 2)


def limits(shared: SharedCounts, **settings: int) -> ConnectionLimits:
    return ConnectionLimits(GatewaySettings(**settings), shared)  # type: ignore[arg-type]


def test_connections_are_limited_in_all_processes_together(view: View) -> None:
    one, other = (limits(view(column), max_connections=3) for column in (1, 2))
    places = [one.new_place("a"), other.new_place("b"), one.new_place("c")]
    for place in places:
        assert place is not None
    late = other.new_place("d")
    assert late is not None
    with pytest.raises(UnavailableError, match="max_connections"):
        other.check(late)
    late.release()
    late.release()
    assert places[0] is not None
    places[0].release()
    late = other.new_place("d")
    assert late is not None
    other.check(late)


def test_a_process_with_few_descriptors_takes_fewer(view: View) -> None:
    one = limits(view(1), max_connections=100)
    one.most = 1
    assert one.new_place("a") is not None
    late = one.new_place("b")
    assert late is not None
    with pytest.raises(UnavailableError, match="1 connections are open"):
        one.check(late)


def test_of_each_only_so_many(view: View) -> None:
    settings = {
        "max_connections_per_address": 2,
        "max_connections_per_identity": 2,
        "max_connections_per_session": 2,
    }
    sides = [limits(view(column), **settings) for column in (1, 2)]
    key = SessionKey(ProjectName("p"), AgentName("a"), SessionId("s"))
    takers: list[Callable[[ConnectionLimits], object]] = [
        lambda side: side.addresses.take("192.0.2.1"),
        lambda side: side.identities.take("somebody"),
        lambda side: side.sessions.take(key),
    ]
    for number, take in enumerate(takers):
        take(sides[0])
        take(sides[1])
        for side in sides:
            with pytest.raises(TooManyConnectionsError):
                take(side)
        tally = (sides[0].addresses, sides[0].identities, sides[0].sessions)[number]
        tally.give_back(("192.0.2.1", "somebody", key)[number])
        take(sides[1])


def test_what_moves_in_counts_even_if_it_is_too_much(view: View) -> None:
    one, other = (limits(view(column), max_connections_per_identity=1) for column in (1, 2))
    key = SessionKey(ProjectName("p"), AgentName("a"), SessionId("s"))
    given = {"peer": "a", "address": None, "identity": "me", "session": True}
    first, second = one.moved_place(given, key), other.moved_place(given, key)
    with pytest.raises(TooManyConnectionsError):
        one.identities.take("me")
    first.release()
    second.release()
    one.identities.take("me")


def test_a_rate_is_everybodys_too(view: View) -> None:
    now = [1000.0]
    sides = [
        SharedRate(2, "upgrades_per_address", "this address", full_at=view(column).times(0))
        for column in (1, 2)
    ]
    for side in sides:
        side._clock = lambda: now[0]
    for number in range(20):
        sides[number % 2].take("a")
    for side in sides:
        with pytest.raises(RateLimitedError) as caught:
            side.take("a")
        assert caught.value.retry_after_s == 1
    sides[0].take("b")
    now[0] += 0.5
    sides[1].take("a")
    with pytest.raises(RateLimitedError):
        sides[0].check("a")
    for _ in range(50):
        sides[0].count("a")
    now[0] += 0.5
    sides[0].check("a")


def test_a_rate_that_is_no_limit_counts_nothing(view: View) -> None:
    rate = SharedRate(0, "upgrades_per_address", "this address", full_at=view(1).times(0))
    for _ in range(100):
        rate.take("a")
