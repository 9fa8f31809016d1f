"""Hosts on real sockets, in this process and as processes of their own."""

import asyncio
import contextlib
import logging
import os
import sys
import textwrap
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import Any

import pytest
from websockets.asyncio.client import ClientConnection, connect

from trunkline.agentserver import InvocationAgentServerHost
from trunkline.agentserver._server import AgentServer, listening

FIELD = "azure.ai.agentserver.invocations_ws."


@dataclass
class Served:
    """A host that serves in this process."""

    app: InvocationAgentServerHost
    server: AgentServer
    port: int
    task: asyncio.Task[None]

    def connect(self, path: str = "/invocations_ws", **options: Any) -> connect:
        options.setdefault("compression", None)
        options.setdefault("ping_interval", None)
        return connect(f"ws://127.0.0.1:{self.port}{path}", **options)

    async def raw(self, path: str = "/invocations_ws") -> "RawClient":
        client = RawClient(*await asyncio.open_connection("127.0.0.1", self.port))
        await client.upgrade(path)
        return client

    async def http(self, head: bytes) -> bytes:
        """Send a request and return all of the answer, which has to end the connection."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        writer.write(head)
        answer = await reader.read()
        writer.close()
        await writer.wait_closed()
        return answer


@dataclass
class RawClient:
    """A client that does what a WebSocket library would not."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    head: bytes = b""

    async def upgrade(self, path: str, extra: bytes = b"") -> None:
        self.writer.write(
            b"GET %b HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\n"
            b"Connection: keep-alive, Upgrade\r\nSec-WebSocket-Version: 13\r\n"
            b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n%b\r\n" % (path.encode(), extra)
        )
        self.head = await self.reader.readuntil(b"\r\n\r\n")

    def send(self, opcode: int, payload: bytes = b"", *, fin: bool = True, rsv: int = 0) -> None:
        self.writer.write(client_frame(opcode, payload, fin=fin, rsv=rsv))

    async def frame(self) -> tuple[int, bytes]:
        first, second = await self.reader.readexactly(2)
        size = second & 0x7F
        if size == 126:
            size = int.from_bytes(await self.reader.readexactly(2))
        elif size == 127:
            size = int.from_bytes(await self.reader.readexactly(8))
        return first & 0x0F, await self.reader.readexactly(size)

    async def close_code(self) -> int:
        """Read up to the close frame and return its code."""
        while True:
            opcode, payload = await self.frame()
            if opcode == 8:
                return int.from_bytes(payload[:2])

    async def leave(self) -> None:
        self.writer.close()
        with contextlib.suppress(OSError):
            await self.writer.wait_closed()


def client_frame(opcode: int, payload: bytes, *, fin: bool = True, rsv: int = 0) -> bytes:
    """Return a frame as a client sends it; masked with zeros, which changes nothing."""
    first = (0x80 if fin else 0) | rsv | opcode
    size = len(payload)
    if size < 126:
        head = bytes((first, 0x80 | size))
    elif size < 65536:
        head = bytes((first, 0xFE)) + size.to_bytes(2)
    else:
        head = bytes((first, 0xFF)) + size.to_bytes(8)
    return head + b"\0\0\0\0" + payload


@contextlib.asynccontextmanager
async def serve(handler: Callable[..., Any] | None = None, **options: Any) -> AsyncIterator[Served]:
    app = InvocationAgentServerHost(**options)
    if handler is not None:
        app.ws_handler(handler)
    with listening("127.0.0.1", 0, "") as sock:
        server = app._server(sock, owns_process=False)
        task = asyncio.create_task(server.serve([sock]))
        try:
            yield Served(app, server, sock.getsockname()[1], task)
        finally:
            server.stop()
            await task


class Events(logging.Handler):
    """Collects close events, and lets a test wait for one."""

    def __init__(self) -> None:
        super().__init__()
        self.queue: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self.errors: list[logging.LogRecord] = []

    def emit(self, record: logging.LogRecord) -> None:
        if record.levelno >= logging.ERROR:
            self.errors.append(record)
        fields = {
            key.removeprefix(FIELD): value
            for key, value in vars(record).items()
            if key.startswith(FIELD)
        }
        if fields:
            self.queue.put_nowait(fields)

    async def next(self) -> dict[str, Any]:
        return await self.queue.get()


@pytest.fixture
def events():
    logger = logging.getLogger("azure.ai.agentserver")
    handler = Events()
    level = logger.level
    logger.setLevel(logging.INFO)
    logger.addHandler(handler)
    yield handler
    logger.removeHandler(handler)
    logger.setLevel(level)


@dataclass
class HostProcess:
    """A host in a process of its own, listening on a Unix socket."""

    process: asyncio.subprocess.Process
    socket_path: str
    lines: list[str] = field(default_factory=list)

    async def line_with(self, text: str) -> str:
        """Return the next line of output that has ``text`` in it."""
        assert self.process.stdout is not None
        async for raw in self.process.stdout:
            line = raw.decode().rstrip()
            self.lines.append(line)
            if text in line:
                return line
        raise AssertionError(f"{text!r} never came; the output was {self.lines}")

    async def connect(self, path: str = "/invocations_ws") -> ClientConnection:
        return await connect(
            f"ws://agent{path}",
            unix=True,
            path=self.socket_path,
            compression=None,
            ping_interval=None,
        )


@pytest.fixture
async def start_host(tmp_path):
    """Start hosts from source text; what is left of them at the end is killed."""
    processes = []

    async def start(source: str, **env: str) -> HostProcess:
        script = tmp_path / f"agent{len(processes)}.py"
        script.write_text(textwrap.dedent(source))
        socket_path = str(tmp_path / f"agent{len(processes)}.sock")
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            str(script),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            env={**os.environ, "TRUNKLINE_AGENT_SOCKET": socket_path, **env},
        )
        host = HostProcess(process, socket_path)
        processes.append(process)
        await host.line_with("agent host listening on")
        return host

    yield start
    for process in processes:
        if process.returncode is None:
            process.kill()
        # Reads the output to its end, so that the pipe is closed when this returns.
        await process.communicate()
