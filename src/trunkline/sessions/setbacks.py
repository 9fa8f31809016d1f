"""Sessions whose agents fail again and again: how long each waits for its next start.

A start takes processors from everybody on the machine, and so does the end of what it started. An
agent that is at its limit, or ends in an error, as soon as it runs, with a client that comes back
at once, would have the machine do little else. So the first failure costs nothing, and each
further one in a row a longer wait.
"""

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from trunkline.protocol.errors import SessionFailingError
from trunkline.protocol.ids import SessionKey

#: The wait after the second failure in a row; each further one doubles it.
FIRST_WAIT_S = 5.0


@dataclass(frozen=True, slots=True)
class _Row:
    """Failures of one session, one after the other."""

    failures: int
    last_at: float
    ready_at: float


class Setbacks:
    """What failed lately, by the directory of each session."""

    def __init__(self, most_s: float, clock: Callable[[], float] = time.monotonic) -> None:
        """Prepare.

        Args:
            most_s: The longest wait. An agent that ran for so long, or wasn't started for twice as
                long, begins anew. 0: nobody waits.
            clock: Tells the seconds.
        """
        self._most_s = most_s
        self._clock = clock
        # In the order of the last failures, so that the oldest are found first.
        self._rows: dict[str, _Row] = {}

    def note(self, home: str, begun_at: float, tell: Callable[[str, str], None]) -> None:
        """Note that a session's agent failed.

        Args:
            home: The session's directory.
            begun_at: Since when it ran, by the clock.
            tell: Takes an event and a sentence, if the next start waits.
        """
        if self._most_s <= 0:
            return
        now = self._clock()
        self._forget_old(now)
        row = self._rows.pop(home, None)
        failures = 1 if row is None or now - begun_at >= self._most_s else row.failures + 1
        wait_s = 0.0
        if failures > 1:
            # A power that is bounded, or it grows until it is no number any more.
            doublings = min(failures - 2, math.ceil(math.log2(self._most_s + 1)))
            wait_s = min(FIRST_WAIT_S * 2**doublings, self._most_s)
        self._rows[home] = _Row(failures, now, now + wait_s)
        if wait_s:
            tell(
                "StartDelayed",
                f"it failed {failures} times in a row, and isn't started again for {wait_s:g} s "
                "(TRUNKLINE_SESSIONS_RESTART_WAIT_MAX_S)",
            )

    def refuse(self, key: SessionKey, home: str) -> None:
        """Refuse to start a session's agent before its time.

        Raises:
            SessionFailingError: If it is to wait.
        """
        row = self._rows.get(home)
        if row is None:
            return
        left_s = row.ready_at - self._clock()
        if left_s > 0:
            raise SessionFailingError(
                f"the session's agent failed {row.failures} times in a row, and is started again "
                f"in {math.ceil(left_s)} s. `trunkline monitor {key.agent} --session-id "
                f"{key.session_id}` shows why it failed",
                retry_after_s=math.ceil(left_s),
            ).by_limit("restart_wait_max_s")

    def is_failing(self, home: str) -> bool:
        """Return whether a session's agent failed more than once in a row."""
        row = self._rows.get(home)
        return row is not None and row.failures > 1

    def forgive(self, home: str) -> None:
        """Begin anew: somebody has seen to the session."""
        self._rows.pop(home, None)

    def described(self) -> dict[str, list[float]]:
        """Return what is known of all of them as plain data for `take_over`."""
        return {home: [row.failures, row.last_at, row.ready_at] for home, row in self._rows.items()}

    def take_over(self, described: Mapping[str, Sequence[float]]) -> None:
        """Go on from what another process of this machine knows, by the same clock."""
        for home, (failures, last_at, ready_at) in described.items():
            self._rows[home] = _Row(int(failures), last_at, ready_at)

    def _forget_old(self, now: float) -> None:
        for home, row in list(self._rows.items()):
            if now - row.last_at < 2 * self._most_s:
                break
            del self._rows[home]
