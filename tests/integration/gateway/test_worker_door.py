"""The door of a worker, where no connection can be given to the process that serves requests."""

import asyncio
import errno
import os
from typing import Any

from uvicorn.server import ServerState

from tests.support.gateway import running_gateway
from tests.unit.gateway.answers import assert_refused
from trunkline.gateway.worker_door import WorkerDoor
from trunkline.runtimes.interface import Address


async def test_who_cannot_be_passed_on_is_told_to_try_again() -> None:
    async with running_gateway(Address(path="/nobody-listens-here.sock")) as gateway:
        services = gateway.services

        def pass_on(*_: Any) -> None:
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

        def new_door() -> WorkerDoor:
            config = gateway.server.config
            return WorkerDoor(config, ServerState(), {}, services=services, pass_on=pass_on)

        server = await asyncio.get_running_loop().create_server(new_door, "127.0.0.1", 0)
        async with server:
            port = server.sockets[0].getsockname()[1]
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(b"POST /api/x HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc")
            assert_refused(await reader.read(), 503, "unavailable", "Too many open files")
            writer.close()
        while services.limits.places:
            await gateway.answers()
