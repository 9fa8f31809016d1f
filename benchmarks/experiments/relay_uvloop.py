"""How much of the relay's cost is the event loop's: ``peer.write(data)`` and nothing else?

Most of it. CPU divided by nginx's with 32 connections, 8 rounds on two busy cores: 1.25 at 640
bytes, 1.39 at 16 KiB, where the gateway's own relay on the same loop had 1.52 and 1.23 the same
day. It makes the system calls that nginx makes (6,000 reads and 6,000 writes for 3,000 round trips,
and some 200 waits); the rest is uvloop and the interpreter. Nothing that is done per read in Python
can get below that.
"""

import asyncio
from typing import Any

from benchmarks.experiments.serving import serve_protocols


class Leg(asyncio.Protocol):
    def __init__(self, upstream: int | None) -> None:
        self.upstream = upstream
        self.peer: Leg | None = None
        self.early = b""

    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        if self.upstream is not None:
            self.task = asyncio.get_running_loop().create_task(self.connect(self.upstream))

    async def connect(self, upstream: int) -> None:
        _, peer = await asyncio.get_running_loop().create_connection(
            lambda: type(self)(None), "127.0.0.1", upstream
        )
        self.peer, peer.peer = peer, self
        peer.transport.write(self.early)

    def data_received(self, data: bytes) -> None:
        if self.peer is None:
            self.early += data
        else:
            self.peer.transport.write(data)

    def connection_lost(self, exc: Exception | None) -> None:
        if self.peer is not None:
            self.peer.transport.close()


if __name__ == "__main__":
    serve_protocols(Leg)
