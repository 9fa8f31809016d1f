"""A server's protocol without a network: bytes go in, and what it does is looked at."""

import asyncio
import atexit
import contextlib
import re
import socket
from collections.abc import Iterable
from typing import Any

_STATUS_LINE = re.compile(rb"HTTP/1\.1 [1-5][0-9][0-9] [^\r\n]*\r\n")
_SETTLE_TURNS = 12
_MOST_WRITTEN = 256 * 1024
#: The frame library writes to the socket itself when it can; what it wrote is read back here.
_SOCKET, _OTHER_END = socket.socketpair()
_SOCKET.setblocking(False)
_OTHER_END.setblocking(False)
for _end in (_SOCKET, _OTHER_END):
    # For as long as the process is there; left to its end, it would be warned of.
    atexit.register(_end.close)


class MemoryTransport(asyncio.Transport):
    """Keeps what is written, and forgets nothing of what is asked of it."""

    def __init__(self) -> None:
        super().__init__()
        self.written = bytearray()
        self.is_closed = False
        self.is_reading_paused = False
        self.protocol: Any = None

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        if name in ("peername", "sockname"):
            return ("127.0.0.1", 1)
        return _SOCKET if name == "socket" else default

    def set_protocol(self, protocol: Any) -> None:
        self.protocol = protocol

    def get_protocol(self) -> Any:
        return self.protocol

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.collect()
        if not self.is_closed:
            self.written += bytes(data)
            # No more than a few KiB are ever sent in, and everything here only echoes.
            assert len(self.written) < _MOST_WRITTEN, self.written[-200:]

    def collect(self) -> None:
        """Take over what was written past the transport."""
        with contextlib.suppress(BlockingIOError):
            while data := _OTHER_END.recv(65536):
                self.written += data

    def writelines(self, parts: Iterable[bytes | bytearray | memoryview]) -> None:
        for part in parts:
            self.write(part)

    def close(self) -> None:
        self.is_closed = True

    abort = close

    def is_closing(self) -> bool:
        return self.is_closed

    def pause_reading(self) -> None:
        self.is_reading_paused = True

    def resume_reading(self) -> None:
        self.is_reading_paused = False

    def is_reading(self) -> bool:
        return not self.is_reading_paused

    def can_write_eof(self) -> bool:
        return True

    def write_eof(self) -> None:
        pass

    def get_write_buffer_size(self) -> int:
        return 0

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        pass


def feed(protocol: Any, transport: MemoryTransport, data: bytes) -> None:
    """Hand bytes to whatever protocol the transport has now."""
    current = transport.protocol or protocol
    if isinstance(current, asyncio.BufferedProtocol):
        rest = memoryview(data)
        while rest and not transport.is_closed:
            room = memoryview(transport.protocol.get_buffer(-1))
            size = min(len(room), len(rest))
            room[:size] = rest[:size]
            transport.protocol.buffer_updated(size)
            rest = rest[size:]
            if rest and not isinstance(transport.protocol, asyncio.BufferedProtocol):
                transport.protocol.data_received(bytes(rest))
                return
    else:
        current.data_received(data)


async def settle() -> None:
    """Let everything that can go on go on."""
    for _ in range(_SETTLE_TURNS):
        await asyncio.sleep(0)


def check_answer(written: bytes, *, must_be_http: bool) -> None:
    """Fail if what a peer was sent isn't a well-formed beginning, or says too much."""
    assert b"Traceback" not in written, written[:500]
    if written and must_be_http:
        assert _STATUS_LINE.match(written), written[:200]
    head, end, rest = bytes(written).partition(b"\r\n\r\n")
    if head.startswith(b"HTTP/1.1 101 ") and end:
        check_frames(rest)


def check_frames(data: bytes) -> None:
    """Fail if these aren't a server's frames (RFC 6455 section 5.2), the last one perhaps cut."""
    at = 0
    while at + 2 <= len(data):
        first, second = data[at], data[at + 1]
        opcode, length = first & 0x0F, second & 0x7F
        assert not first & 0x70, f"a reserved bit at {at}"
        assert not second & 0x80, f"a server's frame is masked at {at}"
        assert opcode in (0, 1, 2, 8, 9, 10), f"opcode {opcode} at {at}"
        at += 2
        if length == 126:
            length = int.from_bytes(data[at : at + 2])
            at += 2
        elif length == 127:
            length = int.from_bytes(data[at : at + 8])
            at += 8
        if opcode == 8 and length:
            assert 2 <= length <= 125, f"a close frame of {length} bytes"
            code = int.from_bytes(data[at : at + 2])
            assert 1000 <= code <= 4999, f"close code {code}"
            assert code not in (1004, 1005, 1006, 1015), f"close code {code}"
            data[at + 2 : at + length].decode()
        at += length
