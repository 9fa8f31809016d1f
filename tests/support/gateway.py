"""A real gateway on loopback, in front of agents that a test writes itself."""

import asyncio
import contextlib
import datetime as dt
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from starlette.applications import Starlette
from websockets.asyncio.client import ClientConnection, connect

from trunkline.auth.admission import Admission
from trunkline.auth.caller import Caller
from trunkline.auth.issuer import DevelopmentIssuer
from trunkline.auth.pseudonym import Pseudonyms
from trunkline.auth.rates import Rates, RateSettings
from trunkline.auth.settings import AuthSettings
from trunkline.auth.verify import TokenVerifier, development
from trunkline.gateway.invocations import Invocations
from trunkline.gateway.peers import Peers
from trunkline.gateway.routes import Projects
from trunkline.gateway.services import GatewayServices
from trunkline.gateway.settings import GatewaySettings
from trunkline.gateway.ticket_office import TicketOffice
from trunkline.platform.app import build_app
from trunkline.platform.certificate import Certificate
from trunkline.platform.health import Health
from trunkline.platform.server import Server, listen
from trunkline.protocol.errors import AgentNotFoundError, TrunklineError
from trunkline.protocol.ids import NodeId, SessionKey
from trunkline.runtimes.interface import Address, ExitStatus
from trunkline.store.records import NodeRecord, TicketRecord
from trunkline.telemetry.metrics import Metrics

NEW_PATH = "/api/projects/default/agents/echo/endpoint/protocols/invocations_ws?api-version=v1"
OLD_PATH = (
    "/api/projects/agents/endpoint/protocols/invocations_ws?project_name=default&agent_name=echo"
    "&foundry_features=HostedAgents=V1Preview"
)


class FakeLease:
    """A lease on an agent that a test runs."""

    def __init__(self, sessions: "FakeSessions", key: SessionKey) -> None:
        self._sessions = sessions
        self.key = key
        self.version = SimpleNamespace(version="1")
        self.log = SimpleNamespace(
            event=sessions._event, connections=SimpleNamespace(append=sessions.ended.append)
        )

    @property
    def address(self) -> Address:
        return self._sessions.address

    def rests_with(self, sleeper: object) -> None:
        """Sleep never."""

    def stay_awake(self, why: str) -> None:
        """Be awake as ever."""

    def connection_ended(self, event: dict[str, Any], words: str) -> None:
        self.log.connections.append(event)
        self.log.event("ConnectionClosed", words)
        self.release()

    async def wait_exited(self) -> ExitStatus:
        return await asyncio.shield(self._sessions.exited)

    def used_by(self, request_id: str, address: str, version: str, began_at: float) -> None:
        pass

    def let_go(self) -> None:
        pass

    def release(self) -> None:
        self._sessions.held.discard(self)
        if not self._sessions.held:
            self._sessions.all_returned.set()


class FakeSessions:
    """Stands for the session directory: every session is the test's one agent."""

    def __init__(self, address: Address) -> None:
        self.address = address
        self.is_passed_on = False
        #: What the next caller who names no session gets.
        self.ready: SessionKey | None = None
        self.exited: asyncio.Future[ExitStatus] = asyncio.get_running_loop().create_future()
        self.held: set[FakeLease] = set()
        self.all_returned = asyncio.Event()
        self.asked: list[tuple[SessionKey, Caller, str]] = []
        #: How many of these got what they asked for without waiting.
        self.at_once = 0
        self.error: TrunklineError | None = None
        self.gate = asyncio.Event()
        self.gate.set()
        self.events: list[tuple[str, str]] = []
        self.ended: list[dict[str, Any]] = []
        self.closed = asyncio.Event()

    def acquire_now(self, key: SessionKey, caller: Caller, *, protocol: str) -> FakeLease | None:
        is_there = self.gate.is_set() and self.error is None and key.agent == "echo"
        if not is_there:
            return None
        self.asked.append((key, caller, protocol))
        self.at_once += 1
        return self._lease(key)

    async def acquire(
        self, key: SessionKey, caller: Caller, *, protocol: str, is_named: bool = True
    ) -> FakeLease:
        self.asked.append((key, caller, protocol))
        await self.gate.wait()
        if self.error is not None:
            raise self.error
        if key.agent != "echo":
            raise AgentNotFoundError(f"no agent {key.agent!r}")
        if not is_named and self.ready is not None:
            key, self.ready = self.ready, None
        return self._lease(key)

    def _lease(self, key: SessionKey) -> FakeLease:
        lease = FakeLease(self, key)
        self.held.add(lease)
        self.all_returned.clear()
        return lease

    def _event(self, reason: str, message: str) -> None:
        self.events.append((reason, message))
        if reason == "ConnectionClosed":
            self.closed.set()


class FakeStore:
    """The part of a store that a gateway asks."""

    def __init__(self) -> None:
        self.nodes: dict[NodeId, NodeRecord] = {}
        self.tickets: dict[str, TicketRecord] = {}

    async def add_ticket(self, record: TicketRecord, now: dt.datetime) -> None:
        self.tickets[record.digest] = record

    async def take_ticket(self, digest: str) -> TicketRecord | None:
        return self.tickets.pop(digest, None)

    async def ping(self) -> None:
        return None

    async def find_node(self, node: NodeId) -> NodeRecord | None:
        return self.nodes.get(node)


@dataclass
class Gateway:
    """A running gateway and what a test needs of it."""

    port: int
    sessions: FakeSessions
    server: Server
    issuer: DevelopmentIssuer
    metrics: Metrics
    health: Health
    store: FakeStore
    services: GatewayServices
    serving: asyncio.Task[None] = field(repr=False)

    def token(self, **kwargs: Any) -> str:
        return self.issuer.issue("tester", **kwargs)

    def connect(self, path: str = NEW_PATH, **kwargs: Any) -> connect:
        headers = {"Authorization": f"Bearer {self.token()}"} | kwargs.pop("headers", {})
        kwargs.setdefault("compression", None)
        kwargs.setdefault("proxy", None)
        kwargs.setdefault("max_size", None)
        scheme = "wss" if "ssl" in kwargs else "ws"
        url = f"{scheme}://127.0.0.1:{self.port}{path}"
        return connect(url, additional_headers=headers, **kwargs)

    async def open(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return await asyncio.open_connection("127.0.0.1", self.port)

    async def answers(self) -> None:
        """Wait until the gateway has run through what was sent to it before."""
        reader, writer = await self.open()
        writer.write(b"GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        await reader.read()
        writer.close()

    def upgrade_head(self, path: str = NEW_PATH, *extra: str) -> bytes:
        lines = [
            f"GET {path} HTTP/1.1",
            "Host: x",
            "Connection: Upgrade",
            "Upgrade: websocket",
            "Sec-WebSocket-Version: 13",
            "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
            f"Authorization: Bearer {self.token()}",
            *extra,
        ]
        return "\r\n".join(lines).encode() + b"\r\n\r\n"


@contextlib.asynccontextmanager
async def running_gateway(
    address: Address, *, rates: RateSettings | None = None, **settings: Any
) -> AsyncIterator[Gateway]:
    """Serve on a port of the system's choice until the block ends."""
    with tempfile.TemporaryDirectory(prefix="trunkline-test-") as folder:
        state_dir = Path(folder)
        issuer = DevelopmentIssuer.open(state_dir)
        store = FakeStore()
        sessions, metrics, health = FakeSessions(address), Metrics(), Health(store)  # type: ignore[arg-type]
        gateway_settings = GatewaySettings(**settings)
        auth = AuthSettings()
        admission = Admission(TokenVerifier(auth, development(auth, issuer.jwks())))
        services = GatewayServices(
            settings=gateway_settings,
            projects=Projects(gateway_settings.projects),
            admission=admission,
            pseudonyms=Pseudonyms.open(state_dir),
            sessions=sessions,  # type: ignore[arg-type]
            peers=Peers(store, connect_timeout_s=gateway_settings.connect_timeout_s),  # type: ignore[arg-type]
            metrics=metrics,
            tickets=TicketOffice(store),  # type: ignore[arg-type]
            rates=Rates(rates or RateSettings()),
        )
        app: Starlette = build_app(
            Invocations(services).routes(),
            health=health,
            metrics=metrics,
            issuer=issuer,
            peers=services.peers,
        )
        is_ready = asyncio.Event()

        def drain() -> None:
            health.is_draining = True

        sock = listen("127.0.0.1", 0)
        server = Server(
            app,
            services,
            on_ready=is_ready.set,
            on_drain=drain,
            certificate=Certificate.of(gateway_settings),
        )
        serving = asyncio.create_task(server.serve([sock]))
        await is_ready.wait()
        gateway = Gateway(
            sock.getsockname()[1],
            sessions,
            server,
            issuer,
            metrics,
            health,
            store,
            services,
            serving,
        )
        try:
            yield gateway
        finally:
            if not serving.done():
                server.stop()
                server.stop()
            await serving
            await services.tasks.aclose()
            sock.close()


@contextlib.asynccontextmanager
async def raw_agent(
    handler: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]],
) -> AsyncIterator[Address]:
    """Serve connections as a test likes, on a Unix socket, without any WebSocket library."""
    with tempfile.TemporaryDirectory(prefix="trunkline-test-") as folder:
        path = f"{folder}/agent.sock"

        async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            try:
                await handler(reader, writer)
            finally:
                writer.close()

        server = await asyncio.start_unix_server(handle, path)
        async with server:
            yield Address(path=path)


async def accept_upgrade(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *extra: str
) -> bytes:
    """Read an upgrade's head and answer it with 101; return the head."""
    head = await reader.readuntil(b"\r\n\r\n")
    lines = ["HTTP/1.1 101 Switching Protocols", "Upgrade: websocket", "Connection: Upgrade"]
    # The answer to the sample key of RFC 6455 section 1.3, which these tests' raw clients send.
    lines += ["Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=", *extra]
    writer.write("\r\n".join(lines).encode() + b"\r\n\r\n")
    await writer.drain()
    return head


__all__ = ["NEW_PATH", "OLD_PATH", "ClientConnection", "Gateway", "accept_upgrade", "raw_agent",
           "running_gateway"]  # fmt: skip
