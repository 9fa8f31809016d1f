"""Who watches the frames of a connection."""

from typing import Protocol


class FrameTap(Protocol):
    """Is told of every frame of a connection, in the order they were on the wire.

    It is called on the event loop, between a frame's arrival and its use: it must not wait.
    """

    def opened(self, session_id: str) -> None:
        """Take note that the upgrade was answered; the first frame comes after it."""

    def sent(self, opcode: int, payload: bytes, *, is_final: bool) -> None:
        """Take a frame that is about to be sent (opcodes of RFC 6455 section 11.8)."""

    def received(self, opcode: int, payload: bytes, *, is_final: bool) -> None:
        """Take a frame that has just arrived."""

    def lost(self, code: int, reason: str) -> None:
        """Take note that the connection is over, and by which code."""
