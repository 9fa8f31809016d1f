"""Connections that the event loop has little to do with, without transports of the loop's own.

They are for what somebody else reads and writes for almost all of its life, as the compiled pump
does with an agent's connection. What the loop makes a transport of, and keeps for it, is a fifth of
what such a connection takes in memory: with one of these an idle one of the gateway's takes 4.3 KiB
instead of 5.5. It is a socket and a few fields, and is watched only while it is read or has
something unsent.
"""

import asyncio
import select
import socket
from collections.abc import Callable
from typing import Any, Final

_READ_BYTES: Final = 64 * 1024
_HIGH_BYTES: Final = 64 * 1024
_AT_ONCE: Final = 64


class Lookout:
    """Sees which of many sockets have something to read. For one event loop, and on Linux.

    The loop watches one descriptor for all of them, so that watching a socket, and no more
    watching it, is one call to the system each, where the loop's own ``add_reader`` makes six.
    """

    def __init__(self) -> None:
        self._epoll: select.epoll | None = None
        self._loop: asyncio.AbstractEventLoop
        self._readers: dict[int, Callable[[], None]] = {}
        # One for all, because reading into bytes makes as many of them as might come.
        self._room = memoryview(bytearray(_READ_BYTES))

    def add(self, fd: int, read: Callable[[], None]) -> None:
        """Have ``read`` called whenever a descriptor has something to read, or is at its end."""
        if self._epoll is None:
            self._epoll = select.epoll()
            self._loop = asyncio.get_running_loop()
            self._loop.add_reader(self._epoll.fileno(), self._look)
        self._epoll.register(fd, select.EPOLLIN)
        self._readers[fd] = read

    def discard(self, fd: int) -> None:
        """Watch a descriptor no more, before it is closed."""
        assert self._epoll is not None
        del self._readers[fd]
        self._epoll.unregister(fd)

    def read(self, connected: socket.SocketType) -> bytes:
        """Return what a socket has; nothing if it is at its end.

        Raises:
            OSError: What reading raises.
        """
        size = connected.recv_into(self._room)
        return bytes(self._room[:size])

    def close(self) -> None:
        """Let go of the loop's descriptor, unless a socket is watched still. Again is fine."""
        if self._epoll is not None and not self._readers:
            self._loop.remove_reader(self._epoll.fileno())
            self._epoll.close()
            self._epoll = None

    def _look(self) -> None:
        assert self._epoll is not None
        for fd, _ in self._epoll.poll(0, _AT_ONCE):
            # What was read before it may have ended it.
            if (read := self._readers.get(fd)) is not None:
                read()


class LightTransport(asyncio.Transport):
    """A transport as :class:`asyncio.Transport` describes it, of a connected stream socket."""

    __slots__ = (
        "_has_eof",
        "_high",
        "_is_closing",
        "_is_full",
        "_is_over",
        "_is_reading",
        "_lookout",
        "_loop",
        "_protocol",
        "_socket",
        "_unsent",
    )

    def __init__(
        self, connected: socket.SocketType, protocol: asyncio.Protocol, lookout: Lookout
    ) -> None:
        """Tell the protocol that there is a connection, and read from it.

        Args:
            connected: The connection, which is this transport's to close; it doesn't block.
            protocol: What is told what comes.
            lookout: Watches it.
        """
        self._lookout = lookout
        self._loop = asyncio.get_running_loop()
        self._socket = connected
        self._protocol: asyncio.BaseProtocol = protocol
        self._unsent: bytearray | None = None
        self._high = _HIGH_BYTES
        self._is_reading = False
        #: Whether the protocol was told that as much waits to be sent as may.
        self._is_full = False
        self._has_eof = False
        self._is_closing = False
        #: Whether nothing is read or sent any more, and the protocol is being told.
        self._is_over = False
        protocol.connection_made(self)
        self.resume_reading()

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return self._socket if name == "socket" else default

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        self._protocol = protocol

    def get_protocol(self) -> asyncio.BaseProtocol:
        return self._protocol

    def is_closing(self) -> bool:
        return self._is_closing

    def is_reading(self) -> bool:
        return self._is_reading

    def pause_reading(self) -> None:
        if self._is_reading:
            self._is_reading = False
            self._lookout.discard(self._socket.fileno())

    def resume_reading(self) -> None:
        if not (self._is_reading or self._has_eof or self._is_closing):
            self._is_reading = True
            self._lookout.add(self._socket.fileno(), self._read)

    def _read(self) -> None:
        try:
            data = self._lookout.read(self._socket)
        except (BlockingIOError, InterruptedError):
            return
        except OSError as exc:
            self._end(exc)
            return
        protocol = self._protocol
        assert isinstance(protocol, asyncio.Protocol)
        try:
            if data:
                protocol.data_received(data)
                return
            self.pause_reading()
            self._has_eof = True
            if not protocol.eof_received():
                self.close()
        except BaseException as exc:
            # The loop says what it was.
            self._end(exc if isinstance(exc, Exception) else None)
            raise

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """As of any transport; ``low`` is always a quarter of ``high``."""
        self._high = _HIGH_BYTES if high is None else high

    def get_write_buffer_size(self) -> int:
        return 0 if self._unsent is None else len(self._unsent)

    def write(self, data: bytes | bytearray | memoryview) -> None:
        if self._is_closing or not data:
            return
        if self._unsent is not None:
            self._unsent += data
        else:
            sent = self._send(data)
            if sent == len(data) or self._is_over:
                return
            self._unsent = bytearray(memoryview(data)[sent:])
            self._loop.add_writer(self._socket.fileno(), self._send_rest)
        if len(self._unsent) > self._high and not self._is_full:
            self._is_full = True
            self._protocol.pause_writing()

    def _send(self, data: bytes | bytearray | memoryview) -> int:
        try:
            return self._socket.send(data)
        except (BlockingIOError, InterruptedError):
            return 0
        except OSError as exc:
            self._end(exc)
            return 0

    def _send_rest(self) -> None:
        assert self._unsent is not None
        del self._unsent[: self._send(self._unsent)]
        if self._is_over:
            return
        left = len(self._unsent)
        if not left:
            self._unsent = None
            self._loop.remove_writer(self._socket.fileno())
        if self._is_full and left <= self._high // 4:
            self._is_full = False
            self._protocol.resume_writing()
        if self._is_closing and self._unsent is None:
            self._end(None)

    def close(self) -> None:
        if not self._is_closing:
            self.pause_reading()
            self._is_closing = True
            if self._unsent is None:
                self._end(None)

    def abort(self) -> None:
        self._end(None)

    def _end(self, exc: Exception | None) -> None:
        if self._is_over:
            return
        self.pause_reading()
        if self._unsent is not None:
            self._loop.remove_writer(self._socket.fileno())
            self._unsent = None
        self._is_closing = self._is_over = True
        # Whoever called this isn't to be told in the middle of it.
        self._loop.call_soon(self._lost, exc)

    def _lost(self, exc: Exception | None) -> None:
        try:
            self._protocol.connection_lost(exc)
        finally:
            self._socket.close()
            # It refers back to this.
            self._protocol = asyncio.BaseProtocol()
