"""Times as the platform writes them. Pure."""

import datetime as dt
import functools


def rfc3339(at: dt.datetime) -> str:
    """Return a time in UTC with six digits of a second: ``2026-01-02T03:04:05.000006Z``.

    Args:
        at: The time; it knows its zone.
    """
    # A busy process writes thousands a second.
    return f"{_second(int(at.timestamp()))}.{at.microsecond:06d}Z"


def rfc3339_of(nanoseconds: int) -> str:
    """Return what :func:`rfc3339` returns, for less.

    Args:
        nanoseconds: The time since 1970 in UTC, as `time.time_ns` tells it.
    """
    seconds, rest = divmod(nanoseconds, 1_000_000_000)
    return f"{_second(seconds)}.{rest // 1000:06d}Z"


@functools.lru_cache(64)
def _second(seconds: int) -> str:
    return dt.datetime.fromtimestamp(seconds, dt.UTC).strftime("%Y-%m-%dT%H:%M:%S")
