"""How often each address and each identity may ask for something. Pure, except for the clock."""

import math
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Final

from trunkline.aio.shared_counts import SharedCounts, TimeTable
from trunkline.auth.networks import network_of
from trunkline.protocol.errors import RateLimitedError

#: How many seconds' worth may come at once.
_BURST_S: Final = 10.0
#: Whoever was remembered longest ago is forgotten first, and begins anew.
_MAX_REMEMBERED: Final = 20_000


@dataclass(frozen=True, slots=True, kw_only=True)
class RateSettings:
    """How many a second, in each process of the platform, whose workers count together.

    Ten seconds' worth may come at once; who comes more often is refused with 429 and told when to
    come again. 0 is no limit. An address of IPv6 counts as its /64.
    """

    upgrades_per_address: float = 200.0
    """WebSocket upgrades from one address."""

    upgrades_per_identity: float = 100.0
    """WebSocket upgrades of one identity."""

    sessions_per_identity: float = 20.0
    """Sessions that one identity makes, by connecting, calling or asking for them."""

    calls_per_address: float = 400.0
    """HTTP requests from one address."""

    calls_per_identity: float = 200.0
    """Calls of the control plane by one identity."""

    failures_per_address: float = 50.0
    """Requests from one address whose token or ticket isn't good. When there were more, what comes
    from it is refused without being looked at until there is room again: making a platform verify
    bad tokens is cheap for whoever sends them, and not for it."""

    def __post_init__(self) -> None:
        for each in fields(self):
            if getattr(self, each.name) < 0:
                raise ValueError(f"{each.name} must not be negative")


class Rate:
    """A token bucket for each of those that one limit is for."""

    def __init__(
        self,
        per_s: float,
        setting: str,
        whose: str,
        *,
        clock: Callable[[], float] = time.monotonic,
        counts_as: Callable[[str], str] = str,
    ) -> None:
        self._per_s = per_s
        self._counts_as = counts_as
        self._most = max(per_s * _BURST_S, 1.0)
        self._setting = setting
        self._whose = whose
        self._clock = clock
        #: What was left, and when.
        self._left: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def take(self, key: str) -> None:
        """Count one.

        Raises:
            RateLimitedError: If there were too many.
        """
        if self._per_s:
            key, now = self._counts_as(key), self._clock()
            left = self._left_at(now, key)
            if left < 1:
                raise self._refusal(left)
            self._set(key, left, now)

    def check(self, key: str) -> None:
        """Refuse if there were too many.

        Raises:
            RateLimitedError: If there were.
        """
        if self._per_s and (left := self._left_at(self._clock(), self._counts_as(key))) < 1:
            raise self._refusal(left)

    def _refusal(self, left: float) -> RateLimitedError:
        return RateLimitedError(
            f"{self._whose} asks too often: {self._per_s:g} a second may be "
            f"({self._setting}); try again later",
            retry_after_s=math.ceil((1 - left) / self._per_s),
        ).by_limit(self._setting)

    def count(self, key: str) -> None:
        """Count one, whether or not there were too many."""
        if self._per_s:
            key, now = self._counts_as(key), self._clock()
            self._set(key, self._left_at(now, key), now)

    def _set(self, key: str, left: float, now: float) -> None:
        self._left[key] = max(left - 1, 0.0), now
        self._left.move_to_end(key)
        if len(self._left) > _MAX_REMEMBERED:
            self._left.popitem(last=False)

    def _left_at(self, now: float, key: str) -> float:
        found = self._left.get(key)
        if found is None:
            return self._most
        left, at = found
        return min(left + (now - at) * self._per_s, self._most)

    def __len__(self) -> int:
        return len(self._left)


class SharedRate(Rate):
    """A rate of several processes of one machine: what counts is how often all were asked."""

    def __init__(
        self,
        per_s: float,
        setting: str,
        whose: str,
        *,
        full_at: TimeTable,
        counts_as: Callable[[str], str] = str,
    ) -> None:
        super().__init__(per_s, setting, whose, counts_as=counts_as)
        #: When each bucket is full again: all there is to know of it.
        self._full_at = full_at

    def _set(self, key: str, left: float, now: float) -> None:
        missing = min(self._most - left + 1, self._most)
        self._full_at.set(key, now + missing / self._per_s)

    def _left_at(self, now: float, key: str) -> float:
        return self._most - max(self._full_at.get(key) - now, 0.0) * self._per_s


class Rates:
    """Every limit there is."""

    def __init__(self, settings: RateSettings, shared: SharedCounts | None = None) -> None:
        """Begin with nobody having asked for anything.

        Args:
            settings: What may be.
            shared: What is counted in where several processes take upgrades. What only one of
                them takes is counted there alone.
        """
        address, identity = "this address", "this identity"

        def rate(table: int, setting: str, whose: str) -> Rate:
            per_s: float = getattr(settings, setting)
            counts_as = network_of if whose is address else str
            if shared is None:
                return Rate(per_s, setting, whose, counts_as=counts_as)
            return SharedRate(
                per_s, setting, whose, full_at=shared.times(table), counts_as=counts_as
            )

        self.upgrades_by_address = rate(0, "upgrades_per_address", address)
        self.upgrades_by_identity = rate(1, "upgrades_per_identity", identity)
        self.failures_by_address = rate(2, "failures_per_address", address)
        self.sessions_by_identity = Rate(
            settings.sessions_per_identity, "sessions_per_identity", identity
        )
        self.calls_by_address = Rate(
            settings.calls_per_address, "calls_per_address", address, counts_as=network_of
        )
        self.calls_by_identity = Rate(settings.calls_per_identity, "calls_per_identity", identity)
