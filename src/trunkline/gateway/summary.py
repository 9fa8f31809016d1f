"""What a relayed connection was, once it is over."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Any


class ClosedBy(StrEnum):
    """Who ended a connection."""

    CLIENT = "client"
    AGENT = "agent"
    LIMIT = "limit"
    DRAIN = "drain"
    REVOCATION = "revocation"
    NETWORK = "network"


@dataclass(frozen=True, slots=True, kw_only=True)
class Tally:
    """What has gone over a connection.

    Attributes:
        frames_in: Frames from the client to the agent; ``frames_out`` the other way.
        bytes_in: Bytes from the client to the agent; ``bytes_out`` the other way.
        age_s: Seconds since the 101.
        quiet_in_s: Seconds since the client's last byte, to about a second; None if it has sent
            none. ``quiet_out_s`` the other way.
    """

    frames_in: int
    frames_out: int
    bytes_in: int
    bytes_out: int
    age_s: float
    quiet_in_s: float | None
    quiet_out_s: float | None

    def fields(self) -> dict[str, Any]:
        """Return its fields by their names."""
        return {name: getattr(self, name) for name in Tally.__slots__}


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary(Tally):
    """What a relayed connection was, told once at its end.

    Attributes:
        by: Who ended it.
        code: The close code the client got or sent; 1006 if there was none.
        reason: The close frame's text.
        limit: The setting that ended it, if it was a limit.
        was_cut: Whether the close handshake wasn't over in time.
    """

    by: ClosedBy
    code: int
    reason: str
    limit: str
    was_cut: bool


def tell_nobody(summary: Summary) -> None:
    """Stand for who was told of an end: that refers back to the relay."""
