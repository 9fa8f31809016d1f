"""What a relay is while it moves from one process to another, and its sockets' arrival there."""

import asyncio
import socket
from dataclasses import dataclass
from typing import cast

from trunkline.aio.light import LightTransport, Lookout


@dataclass(frozen=True, slots=True)
class MovedLeg:
    """One connection of a relay on which nothing special happens.

    Attributes:
        fd: A duplicate of its descriptor, for whoever gets this to close.
        left: Bytes that the frame read from it last still has.
        frames: Frames read from it so far; ``bytes_read`` likewise.
        active_at: When bytes last came, as :func:`time.monotonic` counts, to about a second.
        rest: Bytes read from it that its peer knows nothing of yet.
        unsent: Bytes read from it, in whole headers, that its peer has yet to be sent.
    """

    fd: int
    left: int
    frames: int
    bytes_read: int
    active_at: float
    rest: bytes
    unsent: bytes


@dataclass(frozen=True, slots=True)
class MovedRelay:
    """All there is to a relay: its two connections, and since when."""

    downstream: MovedLeg
    upstream: MovedLeg
    started_at: float


class Arrival(asyncio.Protocol):
    """A moved connection until its relay is there. It keeps what comes in between."""

    def __init__(self) -> None:
        self._early = bytearray()
        self._has_eof = False
        self._has_ended = False
        self.transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        # No bound: it is a few turns of the event loop.
        self._early += data

    def eof_received(self) -> bool:
        self._has_eof = True
        return True

    def connection_lost(self, exc: Exception | None) -> None:
        self._has_ended = True

    def settle(self, lookout: Lookout) -> asyncio.Transport:
        """Return its transport, which somebody else takes over in this turn of the loop.

        If the connection has ended on the way, it is one that tells so as any other does, a turn
        later: of its own nothing can even be asked any more.
        """
        if self._has_ended:
            LightTransport(socket.socket(), self, lookout).abort()
        return self.transport

    def tell(self, protocol: asyncio.Protocol) -> None:
        """Tell the protocol that took over what it missed."""
        if self._early:
            protocol.data_received(bytes(self._early))
        if self._has_eof and not protocol.eof_received():
            self.transport.close()


async def arrive(fd: int, lookout: Lookout | None = None) -> Arrival:
    """Give a moved connection's descriptor to this event loop.

    Args:
        fd: The descriptor, which is the connection's from here on.
        lookout: Watches the connection, if the event loop will have little to do with it.
    """
    sock = socket.socket(fileno=fd)
    sock.setblocking(False)
    if lookout is not None:
        arrival = Arrival()
        LightTransport(sock, arrival, lookout)
        return arrival
    _, arrival = await asyncio.get_running_loop().connect_accepted_socket(Arrival, sock)
    return arrival
