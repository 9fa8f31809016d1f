"""Connections that the event loop has little to do with, without transports of the loop's own.

They are for what somebody else reads and writes for almost all of its life, as the compiled pump
does with a client's connection and its agent's. What the loop makes a transport of, and keeps for
it, takes a good part of the time that a connection is set up in, and of the memory that it takes
when it is idle. One of these is a socket and a few fields, and is watched only while it is read or
has something unsent.
"""

import asyncio
import select
import socket
from collections.abc import Callable, Iterable
from typing import Any, Final

from trunkline.aio.deadlines import Deadlines

#: As the loop's own transports, so that a request with a body of some size comes in one piece:
#: whoever answers it early and closes with bytes unread has TCP reset the connection.
_READ_BYTES: Final = 256 * 1024
_HIGH_BYTES: Final = 64 * 1024
_AT_ONCE: Final = 64
#: How long nothing has to come for those to be right that expect nothing.
_LATER_S: Final = 0.05


class Lookout:
    """Sees which of many sockets have something to read. For one event loop, and on Linux.

    The loop watches one descriptor for all of them, so that watching a socket, and no more
    watching it, is one call to the system each, where the loop's own ``add_reader`` makes six.
    """

    def __init__(self) -> None:
        self._epoll: select.epoll | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._readers: dict[int, Callable[[], None]] = {}
        #: Those that are to be watched if what they wait for takes long.
        self.later = Deadlines(_LATER_S)
        # One for all, because reading into bytes makes as many of them as might come.
        self._room = memoryview(bytearray(_READ_BYTES))

    @property
    def loop(self) -> asyncio.AbstractEventLoop:
        """The event loop. Asking asyncio for it is a call to the system each time."""
        if self._loop is None:
            self._loop = asyncio.get_running_loop()
        return self._loop

    def add(self, fd: int, read: Callable[[], None]) -> None:
        """Have ``read`` called whenever a descriptor has something to read, or is at its end."""
        if self._epoll is None:
            self._epoll = select.epoll()
            self.loop.add_reader(self._epoll.fileno(), self._look)
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
            self.loop.remove_reader(self._epoll.fileno())
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
        "_expects_nothing",
        "_gathers",
        "_has_eof",
        "_has_written_eof",
        "_high",
        "_is_closing",
        "_is_full",
        "_is_gathering",
        "_is_over",
        "_is_reading",
        "_is_watched",
        "_lookout",
        "_low",
        "_peername",
        "_protocol",
        "_socket",
        "_unsent",
    )

    def __init__(
        self,
        connected: socket.SocketType,
        protocol: asyncio.Protocol,
        lookout: Lookout,
        *,
        peername: Any = None,
        reads_at_once: bool = False,
    ) -> None:
        """Tell the protocol that there is a connection, and read from it.

        Args:
            connected: The connection, which is this transport's to close; it doesn't block.
            protocol: What is told what comes.
            lookout: Watches it.
            peername: Who is at the other end, if that is known: while the protocol is told of the
                connection the system isn't asked for it.
            reads_at_once: Whether something may be here already: then it is read before the
                connection is watched.
        """
        self._lookout = lookout
        self._socket = connected
        self._protocol: asyncio.BaseProtocol = protocol
        self._peername = peername
        self._unsent: bytearray | None = None
        self._high = _HIGH_BYTES
        self._low = _HIGH_BYTES // 4
        self._is_reading = True
        #: Whether the lookout tells when there is something to read.
        self._is_watched = False
        self._expects_nothing = False
        #: Whether the protocol was told that as much waits to be sent as may.
        self._is_full = False
        self._gathers = False
        #: Whether what is unsent is sent at the end of this turn, and not when there is room.
        self._is_gathering = False
        self._has_eof = False
        self._has_written_eof = False
        self._is_closing = False
        #: Whether nothing is read or sent any more, and the protocol is being told.
        self._is_over = False
        protocol.connection_made(self)
        self._peername = None
        if reads_at_once and self._is_reading:
            self._read()
        self._watch()

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        if name == "socket":
            return self._socket
        try:
            if name == "peername":
                return self._peername or self._socket.getpeername()
            if name == "sockname":
                return self._socket.getsockname()
        except OSError:
            # It has ended.
            pass
        return default

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        """As of any transport. What `gather_writes` asked for was the last protocol's wish."""
        self._protocol = protocol
        self._gathers = False
        self._flush()

    def get_protocol(self) -> asyncio.BaseProtocol:
        return self._protocol

    def is_closing(self) -> bool:
        return self._is_closing

    def is_reading(self) -> bool:
        return self._is_reading

    def pause_reading(self) -> None:
        self._is_reading = False
        if self._is_watched:
            self._is_watched = False
            self._lookout.discard(self._socket.fileno())
        elif self._expects_nothing:
            self._expects_nothing = False
            self._lookout.later.discard(self)

    def resume_reading(self) -> None:
        if self._has_eof or self._is_closing:
            return
        self._is_reading = True
        if self._expects_nothing:
            self._lookout.later.discard(self)
            self.late()
        else:
            self._watch()

    def expect_nothing(self) -> None:
        """Read nothing for a moment, unless it is watched already, or reading is resumed.

        For one of which nothing should come until something else has happened, which pauses its
        reading: if that happens soon, it needn't be watched in between. If it is watched, that
        goes on.
        """
        if self._is_reading and not (self._is_watched or self._expects_nothing):
            self._expects_nothing = True
            self._lookout.later.add(self)

    def late(self) -> None:
        """Watch it: what it waits for takes long."""
        self._expects_nothing = False
        self._watch()

    def _watch(self) -> None:
        if self._is_reading and not (self._is_watched or self._expects_nothing):
            self._is_watched = True
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
        if high is None:
            high = _HIGH_BYTES if low is None else 4 * low
        if low is None:
            low = high // 4
        if not high >= low >= 0:
            raise ValueError(f"high ({high}) must be at least low ({low}), and low at least 0")
        self._high, self._low = high, low

    def get_write_buffer_limits(self) -> tuple[int, int]:
        return self._low, self._high

    def get_write_buffer_size(self) -> int:
        return 0 if self._unsent is None else len(self._unsent)

    def gather_writes(self) -> None:
        """Send what is written in one turn of the loop together, until there is another protocol.

        For one that writes an answer's head and its body one after the other.
        """
        self._gathers = True

    def write(self, data: bytes | bytearray | memoryview) -> None:
        if self._has_written_eof:
            raise RuntimeError("nothing can be written after the end")
        if self._is_closing or not data:
            return
        if self._unsent is not None:
            self._unsent += data
        elif self._gathers:
            self._unsent = bytearray(data)
            self._is_gathering = True
            self._lookout.loop.call_soon(self._flush)
        else:
            sent = self._send(data)
            if sent == len(data) or self._is_over:
                return
            self._send_later(bytearray(memoryview(data)[sent:]))
        if self.get_write_buffer_size() > self._high:
            self._flush()
            self._tell_if_full()

    def writelines(self, list_of_data: Iterable[bytes | bytearray | memoryview]) -> None:
        self.write(b"".join(list_of_data))

    def can_write_eof(self) -> bool:
        return True

    def write_eof(self) -> None:
        if not (self._has_written_eof or self._is_closing):
            self._has_written_eof = True
            self._flush()
            if self._unsent is None:
                self._emptied()

    def _tell_if_full(self) -> None:
        if not self._is_full and self.get_write_buffer_size() > self._high:
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

    def _send_later(self, data: bytearray) -> None:
        self._unsent = data
        self._lookout.loop.add_writer(self._socket.fileno(), self._send_rest)

    def _flush(self) -> None:
        """Send what was gathered; what there is no room for waits as everything else does."""
        if not self._is_gathering:
            return
        assert self._unsent is not None
        self._is_gathering = False
        data, self._unsent = self._unsent, None
        del data[: self._send(data)]
        if self._is_over:
            return
        if data:
            self._send_later(data)
        else:
            self._emptied()

    def _send_rest(self) -> None:
        assert self._unsent is not None
        del self._unsent[: self._send(self._unsent)]
        if self._is_over:
            return
        left = len(self._unsent)
        if not left:
            self._unsent = None
            self._lookout.loop.remove_writer(self._socket.fileno())
        if self._is_full and left <= self._low:
            self._is_full = False
            self._protocol.resume_writing()
        if self._unsent is None:
            self._emptied()

    def _emptied(self) -> None:
        """Do what was to follow everything that was written."""
        if self._is_closing:
            self._end(None)
        elif self._has_written_eof:
            try:
                self._socket.shutdown(socket.SHUT_WR)
            except OSError as exc:
                self._end(exc)

    def take_unsent(self) -> bytes:
        """Return what was written and isn't sent, and send it no more.

        For somebody else who goes on with the connection, or to be written again. What the
        protocol was told of how full it is holds no longer.
        """
        if self._unsent is None:
            return b""
        if not self._is_gathering:
            self._lookout.loop.remove_writer(self._socket.fileno())
        unsent, self._unsent = bytes(self._unsent), None
        self._is_gathering = self._is_full = False
        return unsent

    def close(self) -> None:
        if not self._is_closing:
            self.pause_reading()
            self._is_closing = True
            self._flush()
            if self._unsent is None:
                self._end(None)

    def abort(self) -> None:
        self._end(None)

    def _end(self, exc: Exception | None) -> None:
        if self._is_over:
            return
        self.pause_reading()
        if self._unsent is not None:
            if not self._is_gathering:
                self._lookout.loop.remove_writer(self._socket.fileno())
            self._unsent = None
        self._is_gathering = False
        self._is_closing = self._is_over = True
        # Whoever called this isn't to be told in the middle of it.
        self._lookout.loop.call_soon(self._lost, exc)

    def _lost(self, exc: Exception | None) -> None:
        try:
            self._protocol.connection_lost(exc)
        finally:
            self._socket.close()
            # It refers back to this.
            self._protocol = asyncio.BaseProtocol()
