"""A client's half of WebSocket framing (RFC 6455 section 5.2), with no I/O.

It is written apart from the parser that the host uses, so that the two check each other.
"""

import secrets
from collections.abc import Iterator
from dataclasses import dataclass
from enum import IntEnum
from typing import Final

_FIN: Final = 0x80
_MASKED: Final = 0x80
_OPCODE: Final = 0x0F
_RESERVED: Final = 0x70
_SIZE: Final = 0x7F
_MAX_CONTROL_BYTES: Final = 125


class Opcode(IntEnum):
    """What a frame carries."""

    CONTINUATION = 0x0
    TEXT = 0x1
    BINARY = 0x2
    CLOSE = 0x8
    PING = 0x9
    PONG = 0xA


class BrokenFrameError(Exception):
    """The agent's host sent what no server may send."""


@dataclass(frozen=True, slots=True)
class Frame:
    """One whole frame from the server."""

    opcode: Opcode
    is_last: bool
    payload: bytes


def client_frame(opcode: Opcode, payload: bytes) -> bytes:
    """Return one whole masked frame."""
    size = len(payload)
    if size <= _MAX_CONTROL_BYTES:
        head = bytes((_FIN | opcode, _MASKED | size))
    elif size < 1 << 16:
        head = bytes((_FIN | opcode, _MASKED | 126)) + size.to_bytes(2)
    else:
        head = bytes((_FIN | opcode, _MASKED | 127)) + size.to_bytes(8)
    mask = secrets.token_bytes(4)
    # As one large number: a loop over bytes would take seconds for a large message.
    key = int.from_bytes((mask * (size // 4 + 1))[:size])
    return head + mask + (int.from_bytes(payload) ^ key).to_bytes(size)


class FrameReader:
    """Finds the frames in what a server sends, however it was cut up on the way."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes) -> Iterator[Frame]:
        """Yield the frames that ``data`` completes.

        Raises:
            BrokenFrameError: If the server breaks the protocol.
        """
        self._buffer += data
        while (frame := self._next()) is not None:
            yield frame

    def _next(self) -> Frame | None:
        buffer = self._buffer
        if len(buffer) < 2:
            return None
        first, second = buffer[0], buffer[1]
        if first & _RESERVED or second & _MASKED:
            raise BrokenFrameError("a reserved bit is set, or a server's frame is masked")
        size, start = second & _SIZE, 2
        if size > _MAX_CONTROL_BYTES:
            start = 4 if size == 126 else 10
            if len(buffer) < start:
                return None
            size = int.from_bytes(buffer[2:start])
        if len(buffer) < start + size:
            return None
        payload = bytes(buffer[start : start + size])
        del buffer[: start + size]
        try:
            opcode = Opcode(first & _OPCODE)
        except ValueError:
            raise BrokenFrameError(f"there is no opcode {first & _OPCODE}") from None
        return Frame(opcode, bool(first & _FIN), payload)
