"""One coarse clock for everything that only time decides.

Ages, silence, rates and stalls are looked at about once a second instead of being timed one by
one, so that a frame costs nothing for them.
"""

import asyncio
import logging
import time
from collections.abc import Callable
from typing import Protocol

from trunkline.gateway.settings import GatewaySettings
from trunkline.telemetry.metrics import Metrics

_log = logging.getLogger("trunkline.gateway")
_INTERVAL_S = 1.0
_LEAST_INTERVAL_S = 0.02
#: Looks within the shortest of the times that are to be held.
_LOOKS = 4
#: A round is spread over so many turns: nobody waits while all of them are looked at.
_SLICES = 10
_MIX = 0x9E3779B1


class Swept(Protocol):
    """What wants to be looked at."""

    def look(self, now: float) -> None:
        """Do what is due at ``now``, in seconds of the monotonic clock."""


class Sweep:
    """Looks at each of its members once in ``interval_s``."""

    def __init__(
        self,
        interval_s: float = _INTERVAL_S,
        *,
        stalled_reader_s: float = 0.0,
        count_stall: Callable[[], None] = lambda: None,
    ) -> None:
        """Make one without members.

        Args:
            interval_s: How often each is looked at.
            stalled_reader_s: How long a reader may take nothing; 0 for as long as it likes.
            count_stall: Counts one that took longer.
        """
        self.interval_s = interval_s
        self.stalled_reader_s = stalled_reader_s
        self.count_stall = count_stall
        self._slices: tuple[set[Swept], ...] = tuple(set() for _ in range(_SLICES))
        self._next = 0
        self._timer: asyncio.TimerHandle | None = None

    @classmethod
    def for_settings(cls, settings: GatewaySettings, metrics: Metrics) -> "Sweep":
        """Return one that is as fine as the shortest time in the settings needs."""
        times = (settings.max_connection_s, settings.idle_connection_s, settings.stalled_reader_s)
        least = min((each for each in times if each), default=_INTERVAL_S * _LOOKS)
        return cls(
            min(_INTERVAL_S, max(least / _LOOKS, _LEAST_INTERVAL_S)),
            stalled_reader_s=settings.stalled_reader_s,
            count_stall=metrics.refusals.labels("stalled_reader_s").inc,
        )

    def add(self, member: Swept) -> None:
        """Look at it from now on."""
        self._slice_of(member).add(member)
        if self._timer is None:
            self._start()

    def discard(self, member: Swept) -> None:
        """Look at it no more. Twice is fine."""
        self._slice_of(member).discard(member)

    def _slice_of(self, member: Swept) -> set[Swept]:
        # An object's hash is its place in memory, which goes in even steps.
        return self._slices[(hash(member) * _MIX >> 16) % _SLICES]

    def _start(self) -> None:
        loop = asyncio.get_running_loop()
        self._timer = loop.call_later(self.interval_s / _SLICES, self._tick)

    def _tick(self) -> None:
        self._timer = None
        now = time.monotonic()
        members = self._slices[self._next]
        self._next = (self._next + 1) % _SLICES
        for member in tuple(members):
            try:
                member.look(now)
            except Exception:  # noqa: BLE001 - one that fails must not end the clock for all
                _log.exception("looking at %r failed", member)
        if any(self._slices):
            self._start()
