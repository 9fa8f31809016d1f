"""Carries bytes between a socket of ours and one of somebody else, without looking at them."""

import asyncio
import socket
from typing import cast

from trunkline.aio.tasks import TaskOwner
from trunkline.runtimes.process.sandbox.control import Control

_HIGH_WATER_BYTES = 64 * 1024


class Leg(asyncio.Protocol):
    """One of two connections whose bytes go to the other."""

    def __init__(self) -> None:
        self.peer: Leg | None = None
        self.transport: asyncio.Transport | None = None
        #: What was read before there was a peer: little, because reading is paused until then.
        self.early = bytearray()
        self.has_early_end = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)
        self.transport.set_write_buffer_limits(high=_HIGH_WATER_BYTES)

    def data_received(self, data: bytes) -> None:
        if self.peer is not None and self.peer.transport is not None:
            self.peer.transport.write(data)
        elif self.transport is not None:
            # uvloop goes on reading once when it is paused in connection_made().
            self.early += data
            self.transport.pause_reading()

    def eof_received(self) -> bool:
        if self.peer is None:
            self.has_early_end = True
        else:
            self.peer.end_writing()
        return True

    def end_writing(self) -> None:
        """Tell the other side that no more comes."""
        if self.transport is not None and self.transport.can_write_eof():
            self.transport.write_eof()

    def connection_lost(self, exc: Exception | None) -> None:
        peer, self.peer = self.peer, None
        if peer is not None and peer.transport is not None:
            peer.transport.close()

    def pause_writing(self) -> None:
        if self.peer is not None and self.peer.transport is not None:
            self.peer.transport.pause_reading()

    def resume_writing(self) -> None:
        if self.peer is not None and self.peer.transport is not None:
            self.peer.transport.resume_reading()


def join(accepted: Leg, made: Leg) -> None:
    """Let the bytes of each go to the other from here on."""
    accepted.peer, made.peer = made, accepted
    assert accepted.transport is not None
    assert made.transport is not None
    if accepted.early:
        made.transport.write(bytes(accepted.early))
        accepted.early.clear()
    if accepted.has_early_end:
        made.end_writing()
    accepted.transport.resume_reading()


class PortBridge:
    """A Unix socket whose connections end at a port inside a sandbox.

    So an agent that knows nothing but ``PORT`` is reached like any other.
    """

    def __init__(self, control: Control, port: int, tasks: TaskOwner) -> None:
        self._control = control
        self._port = port
        self._tasks = tasks
        self._server: asyncio.Server | None = None
        self._legs: set[Leg] = set()

    async def open(self, path: str) -> None:
        """Listen at a path.

        Raises:
            OSError: If that can't be done.
        """
        loop = asyncio.get_running_loop()
        self._server = await loop.create_unix_server(self._accept, path)

    def stop_listening(self) -> None:
        """Take no more connections; those that are open go on."""
        if self._server is not None:
            self._server.close()
            self._server = None

    def close(self) -> None:
        """Stop listening and end what is open. Twice is fine."""
        self.stop_listening()
        for leg in list(self._legs):
            if leg.transport is not None:
                leg.transport.abort()

    def _accept(self) -> "_Accepted":
        return _Accepted(self)

    def connect_inside(self, leg: "_Accepted") -> None:
        """Connect a leg that was accepted."""
        self._legs.add(leg)
        self._tasks.spawn(self._connect(leg), name="sandbox:bridge")

    def forget(self, leg: Leg) -> None:
        """A leg is gone."""
        self._legs.discard(leg)

    async def _connect(self, leg: "_Accepted") -> None:
        assert leg.transport is not None
        sock = await self._control.connect(self._port)
        if sock is None or leg.transport.is_closing():
            if sock is not None:
                sock.close()
            leg.transport.abort()
            return
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        other = Leg()
        await asyncio.get_running_loop().create_connection(lambda: other, sock=sock)
        if leg.transport.is_closing():
            assert other.transport is not None
            other.transport.abort()
            return
        join(leg, other)


class _Accepted(Leg):
    """The leg whose connection was accepted; it waits for the other."""

    def __init__(self, bridge: PortBridge) -> None:
        super().__init__()
        self._bridge = bridge

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        assert self.transport is not None
        self.transport.pause_reading()
        self._bridge.connect_inside(self)

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self._bridge.forget(self)
