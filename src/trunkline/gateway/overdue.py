"""The limits on one connection that only time decides: age, silence, rate and stalls."""

from typing import NamedTuple

from trunkline.gateway.leg import Leg
from trunkline.gateway.settings import GatewaySettings
from trunkline.protocol.close import CloseCode


class Overdue(NamedTuple):
    """A limit that a connection is over."""

    code: CloseCode
    limit: str
    reason: str


class TimeLimits:
    """Holds the limits of one connection, looked at about once a second."""

    # There is one for every connection, most of them idle.
    __slots__ = ("_looked_at", "_settings", "frames_seen", "started_at")

    def __init__(self, settings: GatewaySettings, started_at: float) -> None:
        """Begin to count.

        Args:
            settings: The limits.
            started_at: When the connection began.
        """
        self._settings = settings
        self.started_at = started_at
        self._looked_at = started_at
        #: The client's frames at the last look.
        self.frames_seen = 0

    def overdue(self, client: Leg, agent: Leg, quiet_s: float, now: float) -> Overdue | None:
        """Return what the connection is over, if anything."""
        settings = self._settings
        if 0 < settings.max_connection_s <= now - self.started_at:
            return self._over(
                CloseCode.GOING_AWAY,
                "max_connection_s",
                "connections last {} s (max_connection_s); connect again with the same session id",
            )
        if 0 < settings.idle_connection_s <= quiet_s:
            return self._over(
                CloseCode.GOING_AWAY,
                "idle_connection_s",
                "not a byte for {} s (idle_connection_s); connect again with the same session id",
            )
        if settings.max_frames_per_s:
            frames = client.scanner.frames - self.frames_seen
            # A second's worth may come at once.
            if frames > settings.max_frames_per_s * max(now - self._looked_at, 1.0):
                return self._over(
                    CloseCode.POLICY_VIOLATION,
                    "max_frames_per_s",
                    "more than {} frames a second (max_frames_per_s)",
                )
            self.frames_seen, self._looked_at = client.scanner.frames, now
        for leg, who in ((client, "client"), (agent, "agent")):
            if 0 < settings.stalled_reader_s <= leg.stalled_s(now):
                return self._over(
                    CloseCode.TRY_AGAIN_LATER,
                    "stalled_reader_s",
                    f"the {who} read nothing for {{}} s (stalled_reader_s)",
                )
        return None

    def _over(self, code: CloseCode, limit: str, words: str) -> Overdue:
        return Overdue(code, limit, words.format(f"{getattr(self._settings, limit):g}"))
