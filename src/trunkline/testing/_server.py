"""The agent's host with connections made in memory, and an ear for what its handlers raise.

Everything from the first byte on is the host's own: HTTP parsing, handshake, frames, limits,
keep-alive, close codes and drain. Only the listener is missing: a connection is one end of a
socket pair, which is what an agent behind trunkline has, too, apart from its name.
"""

import asyncio
import contextlib
import functools
import socket
from collections.abc import Iterator
from contextvars import Context, ContextVar, copy_context
from dataclasses import dataclass, field
from typing import Any, Final, cast

from starlette.types import ASGIApp, Receive, Scope, Send

from trunkline.agentserver import InvocationAgentServerHost
from trunkline.agentserver._ending import EXTENSION, Ending
from trunkline.agentserver._failures import listener, tell
from trunkline.agentserver._server import AgentServer
from trunkline.testing._errors import NotListeningError


@dataclass(slots=True, eq=False)
class Exchange:
    """What the agent does with one connection.

    Attributes:
        ending: How a WebSocket went, and ended.
        task: In what the handler runs, once it does.
        errors: What was raised.
    """

    ending: Ending = field(default_factory=Ending)
    task: asyncio.Task[Any] | None = None
    errors: list[BaseException] = field(default_factory=list)


#: For what comes between the graceful timeouts: cancelled handlers, telemetry.
_MARGIN_S: Final = 10.0

_exchange: Final[ContextVar[Exchange]] = ContextVar("trunkline_exchange")


class Failures:
    """What the agent's code raised. Each is handed to the test once."""

    def __init__(self) -> None:
        self.all: list[BaseException] = []
        self._handed: list[BaseException] = []

    def tell(self, error: BaseException) -> None:
        """Take note of an exception; twice is fine."""
        if not any(error is known for known in self.all):
            self.all.append(error)
            exchange = _exchange.get(None)
            if exchange is not None:
                exchange.errors.append(error)

    def take(self, exchange: Exchange) -> BaseException | None:
        """Return what a connection failed with, if the test hasn't got it yet."""
        errors = self._new(exchange.errors)
        self._handed += errors
        return errors[0] if errors else None

    def take_rest(self) -> list[BaseException]:
        """Return everything that the test hasn't got yet."""
        errors = self._new(self.all)
        self._handed += errors
        return errors

    def _new(self, errors: list[BaseException]) -> list[BaseException]:
        return [error for error in errors if not any(error is known for known in self._handed)]


class _Watched:
    """The agent as the server sees it: as it is, but what leaves it is heard."""

    def __init__(self, app: InvocationAgentServerHost) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._serve(self._app, scope, receive, send)

    def find_websocket_app(self, scope: Scope) -> ASGIApp:
        return functools.partial(self._serve, self._app.find_websocket_app(scope))

    async def _serve(self, app: ASGIApp, scope: Scope, receive: Receive, send: Send) -> None:
        exchange = _exchange.get(None)
        if exchange is not None:
            exchange.task = asyncio.current_task()
            exchange.ending = scope.get("extensions", {}).get(EXTENSION, exchange.ending)
        try:
            await app(scope, receive, send)
        except Exception as error:
            tell(error)
            raise


class _Listener:
    """Stands where the server keeps its listening sockets."""

    def __init__(self) -> None:
        self.is_open = True

    def close(self) -> None:
        self.is_open = False


class InMemoryServer(AgentServer):
    """Serves whoever is handed to it, and leaves signals to the test."""

    def __init__(self, app: InvocationAgentServerHost, *arguments: Any, **options: Any) -> None:
        super().__init__(cast(ASGIApp, _Watched(app)), *arguments, **options)
        self._listener = _Listener()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Run the agent's startup.

        Raises:
            RuntimeError: If it failed.
        """
        try:
            await super().startup(sockets)
        except SystemExit:
            raise RuntimeError("the startup failed") from None
        self.servers.append(cast(asyncio.Server, self._listener))

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Do nothing: Ctrl-C ends the test, not the agent."""
        yield

    @property
    def longest_stop_s(self) -> float:
        """How long stopping may take, from the signal until the shutdown handler is over."""
        return self._stopping.drain_s + 2 * self._stopping.grace_s + _MARGIN_S

    async def attach(self, sock: socket.socket) -> None:
        """Serve a client. What it causes runs in the caller's context."""
        loop = asyncio.get_running_loop()
        await loop.connect_accepted_socket(
            lambda: self.config.http_protocol_class(  # type: ignore[call-arg]
                config=self.config,
                server_state=self.server_state,
                app_state=self.lifespan.state,
                _loop=loop,
            ),
            sock,
        )

    def check_is_listening(self) -> None:
        """Refuse a connection as an agent that has closed its listener does."""
        if not (self.started and self._listener.is_open):
            raise NotListeningError("the agent has stopped: it takes no connections any more")


def host_context(failures: Failures) -> Context:
    """Return the context the agent runs in: the test's, with an ear for failures."""
    context = copy_context()
    context.run(listener.set, failures.tell)
    return context


def connection_context(host: Context, exchange: Exchange) -> Context:
    """Return the context a connection is served in."""
    context = host.copy()
    context.run(_exchange.set, exchange)
    return context


def make_server(app: InvocationAgentServerHost) -> InMemoryServer:
    """Return a server for an agent, with the settings that the agent has."""
    server = app._server(None, owns_process=False, kind=InMemoryServer)  # noqa: SLF001
    assert isinstance(server, InMemoryServer)
    return server
