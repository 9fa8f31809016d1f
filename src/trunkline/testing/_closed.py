"""How a WebSocket ended, as its client and the agent's host saw it."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Closed:
    """The end of a WebSocket.

    Attributes:
        code: The close code the client saw: of the close frame that was sent first; 1005 if
            that had none, 1006 if the connection ended without one (RFC 6455 section 7.1.5).
        reason: The text in that frame.
        by: Who or what ended it, in the words of the host's close event: ``client``,
            ``handler``, ``host``, ``protocol``, ``keepalive``, ``drain`` or ``network``.
    """

    code: int
    reason: str
    by: str

    def __str__(self) -> str:
        reason = f" ({self.reason})" if self.reason else ""
        return f"{self.code}{reason}, by {self.by}"
