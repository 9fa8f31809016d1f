"""Accepts connections for light transports, many in one turn of the event loop.

The loop's own server accepts one in a turn, so that what a turn costs each connection pays for
itself; and it makes a transport of its own for each, which is no use to whoever gives connections
away at once.
"""

import asyncio
import errno
import logging
import socket
from collections.abc import Callable
from typing import Final

from trunkline.aio.light import LightTransport, Lookout

_log = logging.getLogger("trunkline.accepting")
#: So many are accepted before others get their turn: who has connected already, and other
#: processes with the same socket.
_AT_ONCE: Final = 32
_PAUSE_S: Final = 1.0
_WAY_OUT: Final = (
    "; raise the limit on descriptors (`ulimit -n`, LimitNOFILE= of a service), or have fewer "
    "connections"
)
#: What one connection fails with that has ended or that the network took back; see accept(2).
_THAT_ONE: Final = frozenset(
    {
        errno.ECONNABORTED,
        errno.EHOSTDOWN,
        errno.EHOSTUNREACH,
        errno.ENETDOWN,
        errno.ENETUNREACH,
        errno.ENOPROTOOPT,
        errno.EOPNOTSUPP,
        errno.EPERM,
        errno.EPROTO,
    }
)


class Acceptor:
    """Serves a listening socket as :class:`asyncio.Server` does, on Linux."""

    def __init__(
        self,
        listening: socket.socket,
        new_protocol: Callable[[], asyncio.Protocol],
        lookout: Lookout,
        *,
        backlog: int,
    ) -> None:
        """Begin to accept. For the running event loop.

        Args:
            listening: A bound TCP socket, which is this object's to close.
            new_protocol: Makes the protocol of a connection.
            lookout: Watches it and its connections.
            backlog: How many may wait for being accepted.
        """
        listening.setblocking(False)
        # Connections inherit it, which saves each a call to the system.
        listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        listening.listen(backlog)
        self._listening = listening
        # Asked for each time they would be made anew.
        self._kind = int(listening.family), int(listening.type), listening.proto
        self._new_protocol = new_protocol
        self._lookout = lookout
        self._is_closed = False
        self._pause: asyncio.TimerHandle | None = None
        #: Whether it was said that nothing can be accepted, and nothing was since.
        self._is_short = False
        self._go_on()

    @property
    def sockets(self) -> tuple[socket.socket, ...]:
        """The listening socket; none after the end."""
        return () if self._is_closed else (self._listening,)

    def is_serving(self) -> bool:
        """Whether connections are accepted, or will be again."""
        return not self._is_closed

    def close(self) -> None:
        """Accept no more, and close the socket. Connections stay. Twice is fine."""
        if self._is_closed:
            return
        self._is_closed = True
        if self._pause is None:
            self._lookout.discard(self._listening.fileno())
        else:
            self._pause.cancel()
        self._listening.close()

    async def wait_closed(self) -> None:
        """Return: there is nothing to wait for."""

    def _go_on(self) -> None:
        self._pause = None
        self._lookout.add(self._listening.fileno(), self._accept)

    def _accept(self) -> None:
        for _ in range(_AT_ONCE):
            try:
                # Without the object that accept() makes: it takes longer than accepting.
                file, address = self._listening._accept()  # type: ignore[attr-defined] # noqa: SLF001
            except (BlockingIOError, InterruptedError):
                return
            except OSError as exc:
                if exc.errno in _THAT_ONE:
                    continue
                self._wait(exc)
                return
            self._is_short = False
            self._begin(file, address)
            if self._is_closed:
                return

    def _begin(self, file: int, address: object) -> None:
        connected = socket.SocketType(*self._kind, file)
        connected.setblocking(False)
        # Of those that came while others were served the first bytes are here, too.
        LightTransport(
            connected, self._new_protocol(), self._lookout, peername=address, reads_at_once=True
        )

    def _wait(self, error: OSError) -> None:
        # The connection stays in the queue, so that asking again at once would be all that is done.
        if not self._is_short:
            self._is_short = True
            _log.error(
                "no connection can be accepted, which is tried again each %g s: %s%s",
                _PAUSE_S,
                error.strerror,
                _WAY_OUT if error.errno in (errno.EMFILE, errno.ENFILE) else "",
            )
        self._lookout.discard(self._listening.fileno())
        self._pause = asyncio.get_running_loop().call_later(_PAUSE_S, self._go_on)
