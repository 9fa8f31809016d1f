"""Callers that say something once a second, and know when the answer was there.

A caller's process waits for a core like any other, and more so while a platform starts beside it.
So each answer has two times: when the kernel had it, and when the caller looked.
"""

import select
import socket
import struct
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

from benchmarks.support.frames import HEAD_END, masked_frame, plain_frame, upgrade_head

#: From asm-generic/socket.h. What comes with it is two words: seconds and nanoseconds.
_SO_TIMESTAMPNS = 35
_STAMP = struct.Struct("@qq")
_FRAME_BYTES = 640
_PING = b"\x89\x00"
_PONG = b"\x8a\x80\0\0\0\0"
_READ_BYTES = 65536
_POLL_S = 0.002
_TIMEOUT_S = 60.0
_SECOND_NS = 1_000_000_000


class LostError(Exception):
    """An answer didn't come, or wasn't the next one, or the connection ended."""


@dataclass
class Heard:
    """What callers saw in some time; all in milliseconds."""

    kernel_ms: list[float] = field(default_factory=list)
    """For each answer, from the call that sent the question until the kernel had the answer."""
    callers_ms: list[float] = field(default_factory=list)
    """The same until the caller had it."""
    late_ms: float = 0.0
    """By how much the callers' own process was late at most: it had to wait for a core."""
    seconds: float = 0.0


def _payload(number: int) -> bytes:
    return number.to_bytes(8).ljust(_FRAME_BYTES, b"v")


class _Caller:
    def __init__(self, port: int, path: str, token: str) -> None:
        self.sock = socket.create_connection(("127.0.0.1", port), timeout=_TIMEOUT_S)
        self.sock.sendall(upgrade_head(path, {"Authorization": f"Bearer {token}"}))
        head = b""
        while HEAD_END not in head:
            head += self.sock.recv(1)
            if not head.startswith(b"HTTP/1.1 101 "[: len(head)]):
                raise LostError(f"the upgrade was answered with {self.sock.recv(_READ_BYTES)!r}")
        self.sock.setsockopt(socket.SOL_SOCKET, _SO_TIMESTAMPNS, 1)
        self.sock.setblocking(False)
        self._sent = self._received = 0
        self._sent_at: deque[int] = deque()
        self._rest = bytearray()

    @property
    def is_waiting(self) -> bool:
        return bool(self._sent_at)

    def ask(self) -> None:
        frame = masked_frame(_payload(self._sent))
        self._sent_at.append(time.time_ns())
        if self.sock.send(frame) != len(frame):
            raise LostError("the connection takes nothing")
        self._sent += 1

    def hear(self, heard: Heard) -> None:
        data, ancillary, _, _ = self.sock.recvmsg(_READ_BYTES, socket.CMSG_SPACE(_STAMP.size))
        now_ns = time.time_ns()
        if not data:
            raise LostError("the connection ended")
        self._rest += data
        for _, kind, stamp in ancillary:
            if kind == _SO_TIMESTAMPNS:
                seconds, nanoseconds = _STAMP.unpack(stamp)
                came_ns = seconds * _SECOND_NS + nanoseconds
        while self._rest:
            if self._rest.startswith(_PING):
                del self._rest[: len(_PING)]
                self.sock.send(_PONG)
                continue
            expected = plain_frame(_payload(self._received))
            if not expected.startswith(self._rest[: len(expected)]):
                raise LostError(f"not answer {self._received}: {bytes(self._rest[:20])!r}")
            if len(self._rest) < len(expected):
                return
            del self._rest[: len(expected)]
            self._received += 1
            sent_ns = self._sent_at.popleft()
            heard.kernel_ms.append((came_ns - sent_ns) / 1e6)
            heard.callers_ms.append((now_ns - sent_ns) / 1e6)


class Callers:
    """Callers that take turns, so that each speaks once a second."""

    def __init__(self, port: int, path: str, token: str, *, count: int, sessions: int) -> None:
        """Connect them.

        Args:
            port: The platform's.
            path: Where its agent is, without the session.
            token: Who they are.
            count: How many there are.
            sessions: Among how many sessions they are spread.
        """
        self._poll = select.epoll()
        self._callers: list[_Caller] = []
        self._by_file: dict[int, _Caller] = {}
        for number in range(count):
            session = f"&agent_session_id=caller-{number % sessions}"
            caller = _Caller(port, path + session, token)
            self._callers.append(caller)
            self._by_file[caller.sock.fileno()] = caller
            self._poll.register(caller.sock, select.EPOLLIN)

    def talk(self, is_over: Callable[[], bool]) -> Heard:
        """Ask until it is over, and wait for the last answers.

        Raises:
            LostError: If anything was lost.
        """
        heard, turn = Heard(), 0
        begun = time.monotonic()
        while not is_over():
            before = time.monotonic()
            due = int((before - begun) * len(self._callers))
            while turn < due:
                self._callers[turn % len(self._callers)].ask()
                turn += 1
            asked = time.monotonic()
            for file, _ in self._poll.poll(_POLL_S):
                self._by_file[file].hear(heard)
            # What it did takes a while, too; but that is a millisecond, and not a hundred.
            heard.late_ms = max(heard.late_ms, (time.monotonic() - asked - _POLL_S) * 1000)
            heard.late_ms = max(heard.late_ms, (asked - before) * 1000)
        heard.seconds = time.monotonic() - begun
        deadline = time.monotonic() + _TIMEOUT_S
        while any(caller.is_waiting for caller in self._callers):
            if time.monotonic() > deadline:
                raise LostError("an answer didn't come")
            for file, _ in self._poll.poll(_POLL_S):
                self._by_file[file].hear(heard)
        return heard

    def close(self) -> None:
        """End all connections."""
        self._poll.close()
        for caller in self._callers:
            caller.sock.close()
