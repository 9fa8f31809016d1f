"""uvicorn as the platform runs it: our front door, our signals, our ready line."""

import asyncio
import contextlib
import functools
import signal
import socket
from collections.abc import Callable, Iterator
from typing import Any, Protocol, cast

import uvicorn
from starlette.types import ASGIApp

from trunkline.aio.accepting import Acceptor
from trunkline.gateway.door import FrontDoor
from trunkline.gateway.drain import Drain
from trunkline.gateway.first_look import first_look
from trunkline.gateway.services import GatewayServices
from trunkline.platform.certificate import Certificate
from trunkline.protocol.errors import TrunklineError

_BACKLOG = 2048
#: What the system keeps for a client besides what is on its way.
_UNSENT_BYTES = 256 * 1024


class ListenError(TrunklineError):
    """The address can't be listened on."""

    code = "cannot_listen"


def listen(host: str, port: int) -> socket.socket:
    """Return a listening socket's first half: bound, not yet accepting.

    Raises:
        ListenError: Saying what is in the way and what to do.
    """
    return _bound(host, port, is_one_of_several=False)


def listen_often(host: str, port: int, number: int) -> list[socket.socket]:
    """Return several sockets for one port, among which the system spreads new connections.

    Each has a queue of its own, which outlives the process that accepts from it as long as
    another has the socket open, too.

    Raises:
        ListenError: Saying what is in the way and what to do.
    """
    # Several may share the port if all of them say so. Somebody else's would then be no error,
    # and get a part of our connections.
    probe = listen(host, port)
    port = probe.getsockname()[1]
    probe.close()
    return [_bound(host, port, is_one_of_several=True) for _ in range(number)]


def _bound(host: str, port: int, *, is_one_of_several: bool) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if is_one_of_several:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    if (lowat := getattr(socket, "TCP_NOTSENT_LOWAT", None)) is not None:
        # Accepted connections inherit it. Without it each client that doesn't read makes the
        # system keep some megabytes for it, and its memory for all connections has an end.
        sock.setsockopt(socket.IPPROTO_TCP, lowat, _UNSENT_BYTES)
    try:
        sock.bind((host, port))
    except OSError as exc:
        sock.close()
        raise ListenError(
            f"can't listen on {host}:{port}: {exc.strerror}; choose another with --host and --port "
            "(--port 0 takes any that is free)"
        ) from exc
    return sock


def url_of(sock: socket.socket, *, is_encrypted: bool = False) -> str:
    """Return where a bound socket is reached from this machine."""
    host, port = sock.getsockname()[:2]
    if host in ("0.0.0.0", "::"):  # noqa: S104 - compared, not bound
        host = "127.0.0.1"
    scheme = "https" if is_encrypted else "http"
    return f"{scheme}://{f'[{host}]' if ':' in host else host}:{port}"


class Others(Protocol):
    """Other processes that accept connections at the same address."""

    @property
    def is_drained(self) -> bool:
        """Whether none of them relays anything any more."""

    async def serve(self) -> None:
        """Have them accept connections; return when they do."""

    def stop_accepting(self) -> None:
        """Have them leave the listening sockets to other processes."""

    def drain(self) -> None:
        """Have them end what is open. They go on to accept, and refuse."""

    async def end(self) -> None:
        """Have them end, or wait until this process may: everything is drained here."""


class NoOthers:
    """This process alone accepts connections."""

    is_drained = True

    async def serve(self) -> None:
        pass

    def stop_accepting(self) -> None:
        pass

    def drain(self) -> None:
        pass

    async def end(self) -> None:
        pass


class Server(uvicorn.Server):
    """One uvicorn server behind :class:`FirstLook` and :class:`FrontDoor`."""

    def __init__(
        self,
        app: ASGIApp,
        services: GatewayServices,
        *,
        on_ready: Callable[[], None],
        on_drain: Callable[[], None],
        certificate: Certificate | None = None,
        on_reload: Callable[[], object] = lambda: None,
    ) -> None:
        """Prepare a server.

        Args:
            app: What ordinary requests are for.
            services: What upgrades need.
            on_ready: Called once it accepts connections.
            on_drain: Called at the first SIGTERM or SIGINT.
            certificate: With one, connections are encrypted.
            on_reload: Called at every SIGUSR2.
        """
        http = cast("type[asyncio.Protocol]", self.protocol_for(services))
        super().__init__(
            uvicorn.Config(
                app,
                http=http,
                ws="none",
                lifespan="off",
                backlog=_BACKLOG,
                access_log=False,
                server_header=False,
                proxy_headers=False,
                log_config=None,
                timeout_graceful_shutdown=int(services.settings.drain_timeout_s) + 1,
            )
        )
        self._services = services
        self._on_ready = on_ready
        self._on_drain = on_drain
        self._on_reload = on_reload
        #: Whoever accepts connections for the same application, too.
        self.others: Others = NoOthers()
        #: Whether agents end with this process.
        self.has_agents = True
        self._is_draining = False
        self._certificate = certificate

    def protocol_for(self, services: GatewayServices) -> Callable[..., asyncio.Protocol]:
        """Return what makes the protocol of a new connection."""
        return functools.partial(first_look, services=services)

    @property
    def is_draining(self) -> bool:
        """Whether it was told to stop."""
        return self._is_draining

    @property
    def connections(self) -> set[Any]:
        """Every connection: HTTP, upgrades, relays."""
        return self.server_state.connections

    def new_door(self) -> FrontDoor:
        """Make the protocol of a connection that didn't come through the listening socket."""
        return FrontDoor(self.config, self.server_state, {}, services=self._services)

    def stop_accepting(self) -> None:
        """Leave the listening socket to another process that has it, too."""
        self.others.stop_accepting()
        for server in self.servers:
            server.close()

    def stop_for_successor(self, deadline: float) -> None:
        """Finish the requests that are under way, and end: another process serves.

        Args:
            deadline: Until when, by the loop's clock.
        """
        left_s = max(deadline - asyncio.get_running_loop().time(), 0.0)
        self.config.timeout_graceful_shutdown = int(left_s) + 1
        self.should_exit = True

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        if self._certificate is not None:
            await self._start_encrypted(sockets or [], self._certificate)
        elif self._services.carrier.is_available:
            self._start_light(sockets or [])
        else:
            await super().startup(sockets)
        await self.others.serve()
        self._on_ready()

    @property
    def _new_protocol(self) -> Callable[[], asyncio.Protocol]:
        """What makes the protocol of a connection, as uvicorn asks for one."""
        return functools.partial(
            cast("Any", self.config.http_protocol_class),
            config=self.config,
            server_state=self.server_state,
            app_state={},
        )

    def _start_light(self, sockets: list[socket.socket]) -> None:
        # The compiled pump has these connections for nearly all of their life.
        make, lookout = self._new_protocol, self._services.lookout
        accepting = [Acceptor(sock, make, lookout, backlog=_BACKLOG) for sock in sockets]
        self.servers = cast("list[asyncio.base_events.Server]", accepting)
        self.started = True

    async def _start_encrypted(
        self, sockets: list[socket.socket], certificate: Certificate
    ) -> None:
        # As uvicorn does it, which leaves a minute for each handshake.
        settings = self._services.settings
        loop = asyncio.get_running_loop()
        make = self._new_protocol
        self.servers = [
            await loop.create_server(
                make,
                sock=sock,
                ssl=certificate.context,
                backlog=_BACKLOG,
                ssl_handshake_timeout=settings.head_timeout_s,
                ssl_shutdown_timeout=settings.close_timeout_s,
            )
            for sock in sockets
        ]
        self._services.tasks.spawn(
            certificate.watch(settings.tls_reload_interval_s), name="certificate"
        )
        self.started = True

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        try:
            await super().shutdown(sockets)
        finally:
            self._services.carrier.close()
            self._services.lookout.close()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Drain and stop at the first signal, and stop at once at the second.

        uvicorn's own would raise the signal again after serving, which ends the process before
        the sessions are stopped.
        """
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self.stop)
        loop.add_signal_handler(signal.SIGUSR2, self._on_reload)
        try:
            yield
        finally:
            for number in (signal.SIGTERM, signal.SIGINT):
                loop.remove_signal_handler(number)
            # Its default would end the process; the sessions are still to be stopped.
            signal.signal(signal.SIGUSR2, signal.SIG_IGN)

    def stop(self) -> None:
        """Drain, and end; at once, if it is asked for a second time."""
        if self._is_draining:
            self.force_exit = self.should_exit = True
            return
        self._is_draining = True
        self._on_drain()
        self.others.drain()
        self._services.tasks.spawn(self._drain(), name="drain")

    async def _drain(self) -> None:
        # Still listening: who asks is told that it is over, and where to look is /readyz.
        state = self.server_state
        drain = Drain(
            self._services,
            state.connections,
            is_quiet=lambda: not state.tasks and self.others.is_drained,
            tells_agents=self.has_agents,
        )
        try:
            await drain.run()
        finally:
            await self.others.end()
            self.config.timeout_graceful_shutdown = int(drain.left_s) + 1
            self.should_exit = True
