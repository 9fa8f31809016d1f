"""Starts and ends a host of no agent's, in an interpreter that is to be forked.

What a process does for the first time takes longer, and where it was forked, it takes memory of its
own: code is made quick when it has run a few times, caches are filled, and pages that were shared
are copied when they are first written to. A platform that forks sessions has all that done before
there is one. Nothing of an agent's is run, and what is left is as it was before.
"""

import asyncio
import contextlib
import logging
import os
import socket
import tempfile
from base64 import b64encode
from typing import Final

from starlette.websockets import WebSocket

from trunkline.agentserver import _logging as logs
from trunkline.agentserver._host import InvocationAgentServerHost
from trunkline.agentserver._server import AgentServer, listening

_TIMEOUT_S: Final = 5.0
_READINESS: Final = (
    b"GET /readiness HTTP/1.1\r\nHost: localhost\r\nUser-Agent: trunkline\r\nAccept: */*\r\n"
    b"Connection: close\r\n\r\n"
)
_UPGRADE: Final = (
    b"GET /invocations_ws HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\n"
    b"Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: "
    + b64encode(bytes(16))
    + b"\r\n\r\n"
)
#: A text of two bytes and a close with 1000, masked by zeros, and what comes back.
_FRAMES: Final = (
    (b"\x81\x82\0\0\0\0hi", b"\x81\x02hi"),
    (b"\x88\x82\0\0\0\0\x03\xe8", b"\x88\x02\x03\xe8"),
)


class UnexpectedAnswerError(Exception):
    """The host said something else than any host does."""


def rehearse() -> None:
    """Start a host, ask it whether it is ready, exchange a frame with it, and stop it.

    Raises:
        Exception: Whatever stands in the way.
    """
    handlers, level = list(logs.log.handlers), logs.log.level
    is_quiet, logging.root.disabled = logging.root.disabled, True
    try:
        with tempfile.TemporaryDirectory() as folder:
            _serve(os.path.join(folder, "s"))
    finally:
        logging.root.disabled = is_quiet
        logs.log.handlers[:] = handlers
        logs.log.setLevel(level)


def _serve(path: str) -> None:
    host = InvocationAgentServerHost(telemetry=False)

    @host.ws_handler
    async def echo(websocket: WebSocket) -> None:
        async for text in websocket.iter_text():
            await websocket.send_text(text)

    logs.write_to_stderr()
    with listening("", 0, path) as sock:
        server = host.server_of(sock)
        # Not with uvloop: what that is made of keeps a pipe.
        with asyncio.Runner() as runner:
            runner.run(_play(server, sock, path))


async def _play(server: AgentServer, sock: socket.socket, path: str) -> None:
    async with asyncio.timeout(_TIMEOUT_S), asyncio.TaskGroup() as group:
        group.create_task(server.serve([sock]))
        try:
            await _ask(path)
        finally:
            server.stop()


async def _ask(path: str) -> None:
    reader, writer = await asyncio.open_unix_connection(path)
    writer.write(_READINESS)
    _expect((await reader.read()).startswith(b"HTTP/1.1 200 "))
    writer.close()
    reader, writer = await asyncio.open_unix_connection(path)
    writer.write(_UPGRADE)
    _expect((await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 101 "))
    for frame, answer in _FRAMES:
        writer.write(frame)
        _expect(await reader.readexactly(len(answer)) == answer)
    writer.close()
    with contextlib.suppress(OSError):
        await writer.wait_closed()


def _expect(is_so: bool) -> None:
    if not is_so:
        raise UnexpectedAnswerError
