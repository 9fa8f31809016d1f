"""What the candidate relays share: listen, connect each client to the upstream, say the port."""

import argparse
import asyncio
import json
import socket
from collections.abc import Callable
from typing import Any

import uvloop

#: Takes both connected, non-blocking sockets.
Join = Callable[[socket.socket, socket.socket], None]


def upstream_port() -> int:
    """Return the port the program was told to relay to."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--upstream", type=int, required=True)
    port: int = parser.parse_args().upstream
    return port


def say_port(port: int) -> None:
    print(json.dumps({"port": port}), flush=True)


def serve_protocols(client: Callable[[int], asyncio.BaseProtocol]) -> None:
    """Serve with one protocol per client; it connects to the upstream itself."""
    upstream = upstream_port()

    async def serve() -> None:
        server = await asyncio.get_running_loop().create_server(
            lambda: client(upstream), "127.0.0.1", 0, backlog=2048
        )
        say_port(server.sockets[0].getsockname()[1])
        await server.serve_forever()

    uvloop.run(serve())


def serve_sockets(join: Join) -> None:
    """Serve with plain sockets that a loop of the candidate's own relays between."""
    upstream = upstream_port()

    async def serve() -> None:
        loop = asyncio.get_running_loop()
        with socket.create_server(("127.0.0.1", 0), backlog=2048) as listener:
            listener.setblocking(False)
            say_port(listener.getsockname()[1])
            while True:
                down, _ = await loop.sock_accept(listener)
                up = socket.create_connection(("127.0.0.1", upstream))
                for sock in (down, up):
                    sock.setblocking(False)
                    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                join(down, up)

    uvloop.run(serve())


def unused(*_: Any) -> None:
    """Take anything and do nothing."""
