"""How long each part of stopping may take."""

from dataclasses import dataclass
from typing import Final, Self

from trunkline.agentserver._draining import Draining

#: For what comes after the graceful times: cancelled handlers, the end of the process.
_MARGIN_S: Final = 2.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Stopping:
    """Who is told of it, and how long each part may take."""

    draining: Draining
    """Set when stopping begins."""

    drain_s: float
    """From the first signal until the listener closes and WebSockets are sent 1001."""

    grace_s: int
    """From then on, for what is open; and again for the shutdown handler."""

    @classmethod
    def within(cls, limit_s: float, *, draining: Draining, drain_s: float, grace_s: int) -> Self:
        """Fit into the time after which the process will be killed.

        What is cut first is draining, down to half of the time there is, and then grace.

        Args:
            limit_s: Seconds from the first signal; 0 if nobody kills.
            draining: See above.
            drain_s: As the agent's author wants it.
            grace_s: The same.
        """
        total_s = limit_s - min(_MARGIN_S, limit_s / 4)
        if limit_s > 0 and total_s < drain_s + 2 * grace_s:
            drain_s = min(drain_s, total_s - min(2 * grace_s, total_s / 2))
            grace_s = min(grace_s, int((total_s - drain_s) / 2))
        return cls(draining=draining, drain_s=drain_s, grace_s=grace_s)
