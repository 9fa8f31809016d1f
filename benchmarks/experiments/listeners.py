"""Does one inherited listening socket spread connections over processes as SO_REUSEPORT does?

Two uvloop processes accept on one port, either from one socket that both inherited, or each from
its own of a pair with SO_REUSEPORT. Connections come one by one (each is answered before the next
comes), and all at once. Printed: how many of 600 each process got.

No. Three runs, with the inherited one: 368 to 232, 403 to 197, 347 to 253 one by one, and 133 to
467, 335 to 265, 280 to 320 all at once; whoever wakes first takes all it finds. With SO_REUSEPORT
between 291 to 309 and 310 to 290 in either case: the kernel chooses by the connection's addresses.

    python -m benchmarks.experiments.listeners
"""

import asyncio
import os
import signal
import socket
import sys
from typing import cast

import uvloop

PROCESSES = 2
CONNECTIONS = 600


class _Named(asyncio.Protocol):
    """Says which process has the connection."""

    def __init__(self, name: bytes) -> None:
        self._name = name

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        cast("asyncio.Transport", transport).write(self._name)


async def _accept(listener: socket.socket, name: bytes) -> None:
    loop = asyncio.get_running_loop()
    await loop.create_server(lambda: _Named(name), sock=listener, backlog=2048)
    await asyncio.Event().wait()


def _bound(port: int, *, is_one_of_several: bool) -> socket.socket:
    listener = socket.socket()
    if is_one_of_several:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    listener.bind(("127.0.0.1", port))
    return listener


async def _ask(port: int) -> tuple[bytes, asyncio.StreamWriter]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    return await reader.readexactly(1), writer


async def _counted(port: int, *, at_once: bool) -> list[int]:
    if at_once:
        answers = await asyncio.gather(*(_ask(port) for _ in range(CONNECTIONS)))
    else:
        answers = [await _ask(port) for _ in range(CONNECTIONS)]
    for _, writer in answers:
        writer.close()
    names = [name for name, _ in answers]
    return [names.count(str(number).encode()) for number in range(PROCESSES)]


def _measure(*, own_socket_each: bool) -> None:
    first = _bound(0, is_one_of_several=own_socket_each)
    port = first.getsockname()[1]
    listeners = [first] * PROCESSES
    if own_socket_each:
        listeners[1:] = [_bound(port, is_one_of_several=True) for _ in range(PROCESSES - 1)]
    for listener in listeners:
        listener.listen(2048)
    children = []
    for number, listener in enumerate(listeners):
        if not (child := os.fork()):
            uvloop.run(_accept(listener, str(number).encode()))
        children.append(child)
    try:
        what = "SO_REUSEPORT" if own_socket_each else "one inherited"
        for at_once in (False, True):
            counts = asyncio.run(_counted(port, at_once=at_once))
            how = "all at once" if at_once else "one by one"
            sys.stdout.write(f"{what:14} {how:12} {counts}\n")
    finally:
        for child in children:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
        for listener in listeners:
            listener.close()


if __name__ == "__main__":
    for own_socket_each in (False, True):
        _measure(own_socket_each=own_socket_each)
