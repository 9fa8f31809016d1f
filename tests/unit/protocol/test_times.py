"""Times as texts."""

import datetime as dt

from hypothesis import given, strategies as st

from trunkline.protocol.times import rfc3339, rfc3339_of

ZONES = st.sampled_from([dt.UTC, dt.timezone(dt.timedelta(hours=5, minutes=30))])


def test_a_time_as_it_is_written() -> None:
    at = dt.datetime(2026, 1, 2, 3, 4, 5, 6, dt.UTC)
    assert rfc3339(at) == "2026-01-02T03:04:05.000006Z"


@given(st.integers(0, 7_000_000_000_000_000), ZONES)
def test_it_is_the_same_time(micros: int, zone: dt.tzinfo) -> None:
    at = (dt.datetime(1970, 1, 1, tzinfo=dt.UTC) + dt.timedelta(microseconds=micros)).astimezone(
        zone
    )
    assert rfc3339(at) == at.astimezone(dt.UTC).isoformat(timespec="microseconds").replace(
        "+00:00", "Z"
    )


@given(st.integers(0, 7_000_000_000_000_000))
def test_nanoseconds_are_the_same_time(micros: int) -> None:
    at = dt.datetime(1970, 1, 1, tzinfo=dt.UTC) + dt.timedelta(microseconds=micros)
    assert rfc3339_of(micros * 1000 + 999) == rfc3339(at)
