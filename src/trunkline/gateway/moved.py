"""What a relay is while it moves from one process to another, and its sockets' arrival there."""

import asyncio
import socket
from dataclasses import dataclass
from typing import cast


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
        self._lost: list[Exception | None] = []
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
        self._lost.append(exc)

    def tell(self, protocol: asyncio.Protocol) -> None:
        """Tell the protocol that took over what it missed."""
        if self._early:
            protocol.data_received(bytes(self._early))
        if self._has_eof and not protocol.eof_received():
            self.transport.close()
        for exc in self._lost:
            protocol.connection_lost(exc)


async def arrive(fd: int) -> Arrival:
    """Give a moved connection's descriptor to this event loop."""
    sock = socket.socket(fileno=fd)
    sock.setblocking(False)
    _, arrival = await asyncio.get_running_loop().connect_accepted_socket(Arrival, sock)
    return arrival
