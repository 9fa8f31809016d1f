"""How one WebSocket went and ended. The server fills it in, the host reports it."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from trunkline.protocol.close import CloseCode

#: Where the ASGI scope of a WebSocket served by our own protocol class holds its Ending.
EXTENSION: Final = "trunkline.ending"

_RESERVED = frozenset({1004, CloseCode.NO_STATUS, CloseCode.ABNORMAL})


class ClosedBy(StrEnum):
    """Who or what ended a WebSocket."""

    CLIENT = "client"
    HANDLER = "handler"
    HOST = "host"
    PROTOCOL = "protocol"
    KEEPALIVE = "keepalive"
    DRAIN = "drain"
    NETWORK = "network"


@dataclass(slots=True)
class Ending:
    """The first cause wins: what comes later is only its consequence.

    Attributes:
        code: The close code that was sent or received first.
        closed_by: Whose doing it was; empty until there is an end.
        is_abandoned: Whether the handler was cancelled because its client had left and it
            hadn't noticed.
        received_messages: Messages that came in whole, read by the handler or not.
        received_bytes: Their payload.
        sent_messages: Messages that were accepted for sending.
        sent_bytes: Their payload.
    """

    code: int = CloseCode.NORMAL
    closed_by: str = ""
    is_abandoned: bool = False
    received_messages: int = 0
    received_bytes: int = 0
    sent_messages: int = 0
    sent_bytes: int = 0

    @property
    def is_settled(self) -> bool:
        """Whether the WebSocket has come to its end."""
        return self.closed_by != ""

    def settle(self, code: int, closed_by: ClosedBy) -> None:
        """Note the end, unless there was one already."""
        if not self.is_settled:
            self.code = code
            self.closed_by = closed_by.value


def is_sendable(code: int) -> bool:
    """Tell whether a close frame may carry ``code`` (RFC 6455 section 7.4)."""
    return (1000 <= code <= 1014 and code not in _RESERVED) or 3000 <= code <= 4999
