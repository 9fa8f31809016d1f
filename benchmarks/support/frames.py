"""WebSocket bytes made by hand, so that a benchmark's own ends cost next to nothing."""

import base64
import hashlib

KEY = b"dGhlIHNhbXBsZSBub25jZQ=="
HEAD_END = b"\r\n\r\n"
_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
_BINARY = 0x82
_MASKED = 0x80
#: A mask of zeros is as good as another to whoever relays, and lets an echo skip unmasking.
_MASK = b"\0\0\0\0"


def _header(length: int, masked: int) -> bytes:
    if length < 126:
        return bytes((_BINARY, masked | length))
    if length < 1 << 16:
        return bytes((_BINARY, masked | 126)) + length.to_bytes(2)
    return bytes((_BINARY, masked | 127)) + length.to_bytes(8)


def masked_frame(payload: bytes) -> bytes:
    """Return a client's frame."""
    return _header(len(payload), _MASKED) + _MASK + payload


def plain_frame(payload: bytes) -> bytes:
    """Return a server's frame."""
    return _header(len(payload), 0) + payload


def split_masked(buffer: bytes | bytearray) -> tuple[bytes, int] | None:
    """Return the payload of a client's frame and the frame's size, or None if it isn't whole."""
    if len(buffer) < 2:
        return None
    length, start = buffer[1] & 0x7F, 2
    if length == 126:
        length, start = int.from_bytes(buffer[2:4]), 4
    elif length == 127:
        length, start = int.from_bytes(buffer[2:10]), 10
    start += len(_MASK)
    end = start + length
    return (bytes(buffer[start:end]), end) if len(buffer) >= end else None


def upgrade_head(path: str, headers: dict[str, str]) -> bytes:
    """Return a client's upgrade request."""
    lines = [
        f"GET {path} HTTP/1.1",
        "Host: localhost",
        "Connection: Upgrade",
        "Upgrade: websocket",
        "Sec-WebSocket-Version: 13",
        f"Sec-WebSocket-Key: {KEY.decode()}",
        *(f"{name}: {value}" for name, value in headers.items()),
    ]
    return "\r\n".join(lines).encode() + HEAD_END


def switching_protocols(key: bytes) -> bytes:
    """Return a server's answer to an upgrade."""
    accept = base64.b64encode(hashlib.sha1(key + _GUID, usedforsecurity=False).digest())
    return (
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Accept: " + accept + HEAD_END
    )
