"""Freezes a session's agent while it has nothing to do, and wakes it.

An agent is frozen when for ``suspend_after_s`` nothing but signs of life went over its
connections, no request was under way, it has used next to no processor time, and it has neither
had nor opened a connection through its proxy. What such an agent may have left is a timer that
has yet to run, and nobody can see that from outside: so it is frozen only where its author or the
operator says that it may be.
"""

import asyncio
import time
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, Protocol

from trunkline.protocol.errors import SessionNotReadyError
from trunkline.runtimes.interface import Doing, Freezer, FreezerFailedError
from trunkline.telemetry.metrics import Metrics

#: A definition's variable; it wins over the platform's setting.
VARIABLE = "TRUNKLINE_SUSPEND_AFTER_S"
#: An agent that uses more of one processor than this does something of its own accord. An idle
#: event loop with a server's timers on it uses a tenth of it.
IDLE_CPU_SHARE = 0.01
_LONGEST_LOOK_S = 1.0
_LOOKS = 4
#: How long the kernel may take to freeze one, which takes it a millisecond.
_FREEZING_S = 0.5
_FREEZING_LOOK_S = 0.01


class Traffic(NamedTuple):
    """What went over a connection so far, both ways together."""

    frames: int
    """Frames that aren't signs of life."""
    size: int
    """Bytes of all of them."""


class Sleeper(Protocol):
    """A connection to an agent, as far as the agent's sleep goes."""

    def traffic(self) -> Traffic | None:
        """Return what went over it; None while it is no time to sleep."""

    def fall_asleep(self, wake: Callable[[str], None]) -> bool:
        """Do without the agent from here on; call ``wake`` with the cause when it is needed.

        Returns:
            Whether that can be done. If not, nothing has changed.
        """

    def wake(self) -> None:
        """Go on with the agent. One that isn't asleep stays as it is."""


class Connections(Protocol):
    """What is open to an agent."""

    @property
    def leases(self) -> int:
        """How many connections and requests there are."""

    @property
    def sleepers(self) -> Mapping[Any, Sleeper]:
        """Those of them that are connections which know how to sleep."""


def suspend_after_s(definition: Mapping[str, Any], default_s: float) -> float:
    """Return after how long without a frame a version's agents may be frozen; 0 for never.

    Raises:
        SessionNotReadyError: If the definition says something that isn't a time.
    """
    own = (definition.get("environment_variables") or {}).get(VARIABLE)
    if own is None:
        return default_s
    try:
        seconds = float(own)
        if not 0 <= seconds < float("inf"):
            raise ValueError
    except ValueError:
        raise SessionNotReadyError(f"{VARIABLE} is {own!r}; give seconds, or 0 for never") from None
    return seconds


class Suspension:
    """Watches one running agent, and freezes it while it may be."""

    def __init__(
        self,
        connections: Connections,
        freezer: Freezer,
        after_s: float,
        *,
        may_freeze: Callable[[], bool],
        tell: Callable[[str, str], None],
        metrics: Metrics,
    ) -> None:
        """Prepare.

        Args:
            connections: What is open to it.
            freezer: Freezes it.
            after_s: For how long it must have had nothing to do.
            may_freeze: Whether it may be frozen at all for now.
            tell: Takes events for the session's log.
            metrics: Where sleeping is counted.
        """
        self._connections = connections
        self._freezer = freezer
        self._after_s = after_s
        self._may_freeze = may_freeze
        self._tell = tell
        self._metrics = metrics
        self._is_asleep = False
        self._woken = asyncio.Event()
        self._frozen_at: float | None = None
        self._has_told_failure = False

    async def run(self) -> None:
        """Watch until cancelled."""
        interval_s = min(_LONGEST_LOOK_S, self._after_s / _LOOKS)
        since: float | None = None
        size = 0
        signs: tuple[object, ...] | None = None
        doing = self._freezer.doing()
        while True:
            await asyncio.sleep(interval_s)
            now, last_size = time.monotonic(), size
            signs_now, size = self._look()
            if since is None or signs_now is None or signs_now != signs:
                since, signs, doing = now, signs_now, self._freezer.doing()
                continue
            # An agent's ping, say, is answered before it sleeps: it can't see the answer then.
            if now - since < self._after_s or size != last_size or not self._may_freeze():
                continue
            doing_now = self._freezer.doing()
            if _does_nothing(doing, doing_now, now - since) and await self._fall_asleep(
                signs, now - since
            ):
                await self._woken.wait()
            since = None

    def _look(self) -> tuple[tuple[object, ...] | None, int]:
        """Return what differs after anything was said, None if now isn't the time, and bytes."""
        sleepers = self._connections.sleepers
        if len(sleepers) != self._connections.leases:
            return None, 0
        found = {sleeper: sleeper.traffic() for sleeper in sleepers.values()}
        known = {sleeper: traffic for sleeper, traffic in found.items() if traffic is not None}
        if len(known) < len(found):
            return None, 0
        frames = tuple((id(sleeper), traffic.frames) for sleeper, traffic in known.items())
        return frames, sum(traffic.size for traffic in known.values())

    async def _fall_asleep(self, signs: tuple[object, ...] | None, quiet_s: float) -> bool:
        self._is_asleep = True
        self._woken.clear()
        sleepers = tuple(self._connections.sleepers.values())
        if not all(sleeper.fall_asleep(self.wake) for sleeper in sleepers):
            self.wake("")
            return False
        try:
            self._freezer.freeze()
        except FreezerFailedError as error:
            self.wake("")
            if not self._has_told_failure:
                self._has_told_failure = True
                self._tell("NotFrozen", f"it can't be frozen: {error}")
            return False
        give_up_at = time.monotonic() + _FREEZING_S
        is_frozen = False
        while self._is_asleep and not is_frozen and time.monotonic() < give_up_at:
            # Once more after it is, so that what it said in the last moment has been read.
            is_frozen = self._freezer.is_frozen
            await asyncio.sleep(_FREEZING_LOOK_S)
        if not self._is_asleep:
            return False
        if not is_frozen or self._look()[0] != signs:
            self.wake("")
            return False
        self._frozen_at = time.monotonic()
        self._metrics.sessions_frozen.inc()
        self._tell(
            "Frozen",
            f"nothing was said for {quiet_s:.0f} s, and it did nothing (suspend_after_s); it goes "
            "on at the next frame or request",
        )
        return True

    def wake(self, why: str) -> None:
        """Have the agent go on, if it sleeps.

        Args:
            why: What needs it, for the session's log.
        """
        if not self._is_asleep:
            return
        self._is_asleep = False
        self._freezer.thaw()
        for sleeper in tuple(self._connections.sleepers.values()):
            sleeper.wake()
        self._woken.set()
        if self._frozen_at is not None:
            slept_s = time.monotonic() - self._frozen_at
            self._frozen_at = None
            self._metrics.sessions_frozen.dec()
            self._metrics.session_thaws.inc()
            self._tell("Woken", f"by {why}, after {slept_s:.1f} s")


def _does_nothing(before: Doing, after: Doing, quiet_s: float) -> bool:
    """Whether an agent has done nothing of its own accord in between."""
    if before.cpu_s is None or after.cpu_s is None:
        return False
    if after.connections_out or after.connections_made != before.connections_made:
        return False
    return after.cpu_s - before.cpu_s <= IDLE_CPU_SHARE * quiet_s
