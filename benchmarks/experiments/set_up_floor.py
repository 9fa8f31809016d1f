"""What does a connection cost to set up in Python, if nothing is asked of it?

1.22 times nginx's CPU (1.22 to 1.26), 1.19 with its end, 0.93 of its rate, in a run in which the
gateway needed 8.7 times as much: uvloop makes nginx's system calls at nearly nginx's price. So what
a set-up costs above that is what is asked of it, in some seven hundred Python calls, and neither
the event loop nor the kernel.
"""

import asyncio
from typing import Any

from benchmarks.experiments.serving import serve_protocols
from trunkline.gateway._pump import Pump

PUMP = Pump(max_frame_bytes=2**20, read_bytes=65536)
TASKS: set[asyncio.Task[None]] = set()
KEPT: dict[int, tuple[Any, Any]] = {}


def fd_of(transport: Any) -> int:
    found: int = transport.get_extra_info("socket").fileno()
    return found


class Client(asyncio.Protocol):
    """Takes a head, and nothing of it is looked at."""

    def __init__(self, upstream: int) -> None:
        self._upstream = upstream

    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        task = asyncio.create_task(self._connect(data))
        TASKS.add(task)
        task.add_done_callback(TASKS.discard)

    async def _connect(self, head: bytes) -> None:
        loop = asyncio.get_running_loop()
        transport, _ = await loop.create_connection(
            lambda: Agent(self.transport), "127.0.0.1", self._upstream
        )
        transport.write(head)


class Agent(asyncio.Protocol):
    """Passes the answer on, and has the pump do the rest."""

    def __init__(self, client: Any) -> None:
        self._client = client

    def connection_made(self, transport: Any) -> None:
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._client.write(data)
        for transport in (self._client, self._transport):
            transport.pause_reading()
        if not KEPT:
            asyncio.get_running_loop().add_reader(PUMP.fileno(), end_what_ended)
        number = PUMP.add((fd_of(self._client), 0, 0, 0), (fd_of(self._transport), 0, 0, 0))
        KEPT[number] = self._client, self._transport


def end_what_ended() -> None:
    """Cut what the pump gives back: one end went away."""
    for number in PUMP.take_out():
        PUMP.remove(number)
        for transport in KEPT.pop(number):
            transport.abort()


if __name__ == "__main__":
    serve_protocols(Client)
