"""The gateway's front door without a network: bytes in, and what it decided about them out."""

import asyncio
import re
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

from uvicorn.config import Config
from uvicorn.server import ServerState

from fuzz.connections import MemoryTransport
from trunkline.aio.deadlines import Deadlines
from trunkline.gateway import door, first_look
from trunkline.gateway.limits import ConnectionLimits
from trunkline.gateway.passes import Passes
from trunkline.gateway.seen_heads import SeenHeads
from trunkline.gateway.settings import GatewaySettings
from trunkline.gateway.sweep import Sweep
from trunkline.telemetry.metrics import Metrics

_STATUS = re.compile(rb"HTTP/1\.1 ([0-9]{3}) ")
_TURNS = 30

#: What heads and bodies are made of, good and bad.
PIECES = (
    b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n",
    b"POST /a?b=c HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhello",
    b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
    b"GET /ws HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n",
    b"POST / HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n"
    b"Content-Length: 5\r\n\r\n",
    b"POST / HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n"
    b"Transfer-Encoding: chunked\r\n\r\n",
    b"GET ", b"POST ", b"/path", b" HTTP/1.1\r\n", b" HTTP/1.0\r\n", b"\r\n", b"\n", b"\r", b" ",
    b"Host: x\r\n", b"Content-Length: 5\r\n", b"Content-Length: 99999999999999999999\r\n",
    b"Transfer-Encoding: chunked\r\n", b"Transfer-Encoding: gzip\r\n", b"Connection: close\r\n",
    b"Connection: keep-alive, Upgrade\r\n", b"Upgrade: websocket\r\n", b"Upgrade: h2c\r\n",
    b"5\r\n", b"0\r\n\r\n", b"0\r\nTrailer: 1\r\n\r\n", b"hello", b"5;ext=1\r\nhello\r\n", b"\0",
    b"Expect: 100-continue\r\n", b" folded\r\n", b"A: \xff\r\n",
    b"GET /ws?a=b HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n",
    b"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n",
    b"Sec-WebSocket-Key: BBBBBBBBBBBBBBBBBBBBBB==\r\n",
    b"sec-websocket-key:", b"Authorization: Bearer one.two\r\n", b"Authorization: Bearer 3\r\n",
)  # fmt: skip


@dataclass
class Decision:
    """What became of a connection.

    Attributes:
        requests: The requests that reached the application, with their bodies.
        upgrade: The upgrade it became: its method, path, query and sorted headers, and the bytes
            behind its head.
        statuses: What was answered.
        is_closed: Whether the connection was closed.
    """

    requests: list[tuple[Any, ...]] = field(default_factory=list)
    upgrade: tuple[Any, ...] | None = None
    statuses: list[bytes] = field(default_factory=list)
    is_closed: bool = False


class _Upgrade:
    """Stands for what an upgrade goes on as."""

    def __init__(self, request: Any, transport: Any, *_: Any, place: Any) -> None:
        self.request = request
        self.rest = bytearray()
        self.place = place

    def begin(self, early: bytes, *_: Any) -> None:
        self.rest += early

    def data_received(self, data: bytes) -> None:
        self.rest += data

    def connection_lost(self, _: Exception | None) -> None:
        self.place.release()


class FrontDoorHarness:
    """Doors, one after the other."""

    def __init__(self) -> None:
        settings = GatewaySettings()
        #: Heads stay there from one decision to the next.
        self.seen = SeenHeads()
        self._services: Any = SimpleNamespace(
            settings=settings,
            limits=ConnectionLimits(settings),
            sweep=Sweep(),
            seen=self.seen,
            passes=Passes(),
            admission=None,
            metrics=Metrics(),
            count_refusal=lambda _: None,
        )
        self._config = Config(
            self._app, ws="none", lifespan="off", log_config=None, interface="asgi3",
            proxy_headers=False, access_log=False,
        )  # fmt: skip
        self._config.load()
        self._decision = Decision()

    async def _app(self, scope: Any, receive: Any, send: Any) -> None:
        body = b""
        while (message := await receive())["type"] == "http.request":
            body += message["body"]
            if not message["more_body"]:
                break
        self._decision.requests.append(
            (scope["method"], scope["raw_path"], scope["query_string"], scope["headers"], body,
             message["type"])
        )  # fmt: skip
        await send({"type": "http.response.start", "status": 200,
                    "headers": [(b"content-length", b"0")]})  # fmt: skip
        await send({"type": "http.response.body", "body": b""})

    async def decide(self, pieces: list[bytes]) -> Decision:
        """Feed the pieces without a pause in between, and tell what was decided."""
        failures: list[dict[str, Any]] = []
        asyncio.get_running_loop().set_exception_handler(lambda _, told: failures.append(told))
        # A deadline's timer is of one loop.
        self._services.heads_due = Deadlines(self._services.settings.head_timeout_s)
        decision = self._decision = Decision()
        original = door.Upgrade
        door.Upgrade = first_look.Upgrade = _Upgrade  # type: ignore[misc, assignment]
        try:
            transport = MemoryTransport()
            transport.protocol = protocol = first_look.first_look(
                self._config, ServerState(), {}, services=self._services
            )
            protocol.connection_made(transport)
            for piece in pieces:
                if transport.is_closed:
                    break
                transport.protocol.data_received(piece)
            # Whoever waits for more of a body is told that no more will come.
            for _ in range(_TURNS):
                await asyncio.sleep(0)
            decision.is_closed = transport.is_closed
            transport.protocol.connection_lost(None)
            for _ in range(_TURNS):
                await asyncio.sleep(0)
        finally:
            door.Upgrade = first_look.Upgrade = original  # type: ignore[misc]
        assert not failures, failures
        assert not self._services.limits.places
        last = transport.protocol
        if isinstance(last, _Upgrade):
            asked = last.request
            decision.upgrade = (
                asked.method, asked.path, asked.query, sorted(asked.headers), bytes(last.rest)
            )  # fmt: skip
        decision.statuses = _STATUS.findall(transport.written)
        return decision
