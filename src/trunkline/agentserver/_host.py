"""The class agents are written with."""

import asyncio
import contextlib
import inspect
import logging
import socket
import time
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any, Final, TypeVar

from starlette.applications import Starlette
from starlette.routing import BaseRoute, Match, WebSocketRoute
from starlette.types import ASGIApp, Scope

from trunkline.agentserver import _logging as logs
from trunkline.agentserver._checks import (
    check_coroutine_function,
    check_one_argument,
    check_size,
    check_type,
    name_of,
    origin,
    own_version,
)
from trunkline.agentserver._config import (
    AgentConfig,
    check_grace,
    check_seconds,
    telemetry_variables,
)
from trunkline.agentserver._draining import Draining
from trunkline.agentserver._failures import tell
from trunkline.agentserver._invocations import NoSuchRoute, RequestHandler, http_routes
from trunkline.agentserver._middleware import HostHeaders, ServerVersion
from trunkline.agentserver._server import AgentServer, listening
from trunkline.agentserver._stopping import Stopping
from trunkline.agentserver._telemetry import Telemetry
from trunkline.agentserver._tracing import Tracing
from trunkline.agentserver._websocket import PATH, WebSocketHandler, WebSocketRouteApp
from trunkline.agentserver._ws_settings import WebSocketSettings

logger = logging.getLogger(logs.LOGGER_NAME)

_H = TypeVar("_H", bound=Callable[..., Any])

_MIB: Final = 1024 * 1024


class InvocationAgentServerHost(Starlette):
    """Hosts one agent: its WebSocket handler, its HTTP handlers, and what surrounds them.

    The object is an ASGI application. :meth:`run` serves it::

        app = InvocationAgentServerHost()

        @app.ws_handler
        async def talk(websocket):
            async for text in websocket.iter_text():
                await websocket.send_text(text)

        app.run()
    """

    def __init__(  # noqa: PLR0913 - keyword-only, and each is one line of the reference
        self,
        *,
        openapi_spec: dict[str, Any] | None = None,
        asyncapi_spec_json: dict[str, Any] | None = None,
        asyncapi_spec_yaml: str | None = None,
        applicationinsights_connection_string: str | None = None,
        graceful_shutdown_timeout: int | None = None,
        drain_timeout_s: float = 0.0,
        log_level: str | None = None,
        access_log: logging.Logger | None = logger,
        access_log_format: str | None = None,
        configure_observability: Callable[..., object] | None = logs.set_log_level,
        routes: Sequence[BaseRoute] | None = None,
        telemetry: bool | None = None,
        ws_keepalive_interval_s: float | None = None,
        ws_max_message_bytes: int = 16 * _MIB,
        ws_max_queued_bytes: int = 4 * _MIB,
        ws_disconnect_grace_s: float | None = 3.0,
        ws_close_timeout_s: float = 5.0,
        **starlette_options: Any,
    ) -> None:
        """Read the environment and prepare the routes; nothing is opened yet.

        Args:
            openapi_spec: Served at ``/invocations/docs/openapi.json``.
            asyncapi_spec_json: Served at ``/invocations/docs/asyncapi.json``.
            asyncapi_spec_yaml: Served as it is at ``/invocations/docs/asyncapi.yaml``.
            applicationinsights_connection_string: Handed to ``configure_observability``.
            graceful_shutdown_timeout: Seconds for what is open at the end, and again for the
                shutdown handler; 0 doesn't call it.
            drain_timeout_s: How long WebSockets and requests may go on after the first signal
                before WebSockets are closed; ``/readiness`` answers 503 meanwhile.
            log_level: Level of the host's log, by name.
            access_log: Gets two lines per HTTP request; None for no such lines.
            access_log_format: Taken so that code written for other hosts runs; the lines
                have one form.
            configure_observability: Called once, with ``connection_string``, ``log_level``
                and ``enable_sensitive_data``; None for nothing.
            routes: Further routes; the host's own come first.
            telemetry: Whether the host makes spans and metrics. If not given, it does if the
                ``OTEL_*`` variables say where to; True does so also with what the agent's own
                code has set up; False never does.
            ws_keepalive_interval_s: Seconds between pings, 0 for none; if not given,
                ``WS_KEEPALIVE_INTERVAL``, and if that isn't set, 30.
            ws_max_message_bytes: A longer message ends its WebSocket with 1009.
            ws_max_queued_bytes: How much may wait for a handler before reading stops.
            ws_disconnect_grace_s: How long a handler may go without noticing that its client
                left before it is cancelled; None never cancels.
            ws_close_timeout_s: How long a client may take to answer a close frame.
            starlette_options: What else Starlette's constructor takes.

        Raises:
            TypeError: If an argument is of the wrong type, or unknown.
            ValueError: If an argument or an environment variable has an impossible value.
        """
        del access_log_format
        check_type("openapi_spec", openapi_spec, dict)
        check_type("asyncapi_spec_json", asyncapi_spec_json, dict)
        check_type("asyncapi_spec_yaml", asyncapi_spec_yaml, str)
        check_type("telemetry", telemetry, bool)
        config = AgentConfig.from_env()
        self._config = config
        self._draining = Draining()
        drain_s = check_seconds("drain_timeout_s", drain_timeout_s, allow_zero=True)
        self._stopping = Stopping.within(
            config.stop_timeout_s,
            draining=self._draining,
            drain_s=drain_s,
            grace_s=config.graceful_shutdown_timeout
            if graceful_shutdown_timeout is None
            else check_grace(graceful_shutdown_timeout),
        )
        if self._stopping.drain_s < drain_s:
            logger.warning(
                "drain_timeout_s is %g s, and the platform ends this process %g s after its first "
                "signal: WebSockets will get %g s",
                drain_s,
                config.stop_timeout_s,
                self._stopping.drain_s,
            )
        self._ws_settings = WebSocketSettings(
            keepalive_interval_s=config.ws_keepalive_interval_s
            if ws_keepalive_interval_s is None
            else check_seconds("ws_keepalive_interval_s", ws_keepalive_interval_s, allow_zero=True),
            max_message_bytes=check_size("ws_max_message_bytes", ws_max_message_bytes),
            max_queued_bytes=check_size("ws_max_queued_bytes", ws_max_queued_bytes),
            disconnect_grace_s=None
            if ws_disconnect_grace_s is None
            else check_seconds("ws_disconnect_grace_s", ws_disconnect_grace_s, allow_zero=True),
            close_timeout_s=check_seconds(
                "ws_close_timeout_s", ws_close_timeout_s, allow_zero=False
            ),
        )
        self._version = ServerVersion(own_version())
        self._access_log = access_log
        self._tracing = Tracing()
        self._telemetry = Telemetry(telemetry, telemetry_variables(), config)
        self._ws_handler: WebSocketHandler | None = None
        self._ws_route: WebSocketRoute | None = None
        self._http_handlers: dict[str, RequestHandler] = {}
        self._shutdown_fn: Callable[[], Any] | None = None
        self._shutdown_began = 0.0
        self._pre_shutdown_callbacks: list[Callable[[], object]] = []
        self._author_lifespan = starlette_options.pop("lifespan", None)
        own_routes = http_routes(
            self,
            openapi=openapi_spec,
            asyncapi_json=asyncapi_spec_json,
            asyncapi_yaml=asyncapi_spec_yaml,
        )
        super().__init__(
            routes=[*own_routes, *(routes or ())],
            lifespan=_lifespan,
            **starlette_options,
        )
        self.router.default = NoSuchRoute(self._version)
        logs.observe(
            configure_observability,
            connection_string=applicationinsights_connection_string
            or config.appinsights_connection_string,
            log_level=logs.check_level(log_level),
            enable_sensitive_data=config.capture_message_content,
        )

    # What the environment said

    @property
    def config(self) -> AgentConfig:
        """The environment as it was when this object was made."""
        return self._config

    @property
    def ws_ping_interval(self) -> float:
        """``WS_KEEPALIVE_INTERVAL`` as it was set, or 0; see ``ws_keepalive_interval_s``."""
        return self._config.ws_ping_interval

    # Handlers

    def ws_handler(self, handler: _H) -> _H:
        """Make a coroutine function with one argument the handler of WebSockets.

        The host accepts before it calls, and closes after it returned.
        """
        check_coroutine_function(handler, "ws_handler")
        check_one_argument(handler)
        if self._ws_handler is not None:
            logger.warning(
                "ws_handler: overwriting previously registered handler %s with %s",
                name_of(self._ws_handler),
                name_of(handler),
            )
        else:
            app = WebSocketRouteApp(
                self._find_ws_handler,
                self._config.session_id,
                self._version,
                self._tracing,
                self._telemetry,
                self._draining,
            )
            self._ws_route = WebSocketRoute(PATH, app, name="invocations_ws")
            self.router.routes.append(self._ws_route)
        self._ws_handler = handler
        return handler

    def invoke_handler(self, handler: _H) -> _H:
        """Make a coroutine function the handler of ``POST /invocations``."""
        return self._take_http_handler("invoke", handler)

    #: Another name of :meth:`invoke_handler`.
    invocation_handler = invoke_handler

    def get_invocation_handler(self, handler: _H) -> _H:
        """Make a coroutine function the handler of ``GET /invocations/{id}``."""
        return self._take_http_handler("get", handler)

    def cancel_invocation_handler(self, handler: _H) -> _H:
        """Make a coroutine function the handler of ``POST /invocations/{id}/cancel``."""
        return self._take_http_handler("cancel", handler)

    def shutdown_handler(self, handler: _H) -> _H:
        """Make a function what runs once at the end, after everything else is closed."""
        self._shutdown_fn = handler
        return handler

    def register_pre_shutdown_callback(self, callback: Callable[[], object]) -> None:
        """Have ``callback`` called when stopping begins, before anything is closed.

        Callbacks run in the order they were registered; one that raises stops no other.
        """
        self._pre_shutdown_callbacks.append(callback)

    def register_server_version(self, segment: str) -> None:
        """Add a segment to the ``x-platform-server`` header of every answer."""
        self._version.add(segment)

    # Serving

    def run(self, host: str = "0.0.0.0", port: int | None = None) -> None:  # noqa: S104
        """Serve until the process is told to stop.

        A container is reached from outside itself, so the default is every address.

        Args:
            host: Address to listen on.
            port: Port to listen on; if not given, ``PORT``, else 8088. Neither counts when
                ``TRUNKLINE_AGENT_SOCKET`` names a Unix socket.
        """
        logs.write_to_stderr()
        with contextlib.ExitStack() as stack:
            try:
                sock = stack.enter_context(self._listening(host, port))
            except OSError as error:
                where = self._config.agent_socket or f"{host}:{port or self._config.port}"
                raise SystemExit(f"cannot listen on {where}: {error.strerror or error}") from None
            server = self._server(sock, owns_process=True)
            loop_factory = server.config.get_loop_factory()
            runner = stack.enter_context(asyncio.Runner(loop_factory=loop_factory))
            runner.run(server.serve([sock]))

    async def run_async(self, host: str = "0.0.0.0", port: int | None = None) -> None:  # noqa: S104
        """Serve on the running event loop; see :meth:`run`.

        Cancelling it drains as a signal does, and then raises.

        Raises:
            OSError: If the address can't be had.
        """
        with self._listening(host, port) as sock:
            await self._server(sock, owns_process=False).serve([sock])

    def server_of(self, sock: socket.socket) -> AgentServer:
        """Return what serves this application at a socket, in a process that goes on after it."""
        return self._server(sock, owns_process=False)

    def _listening(
        self, host: str, port: int | None
    ) -> contextlib.AbstractContextManager[socket.socket]:
        wanted = self._config.port if port is None else port
        return listening(host, wanted, self._config.agent_socket)

    def _server(
        self,
        sock: socket.socket | None,
        *,
        owns_process: bool,
        kind: type[AgentServer] = AgentServer,
    ) -> AgentServer:
        address = "nothing" if sock is None else sock.getsockname()
        return kind(
            self,
            self._ws_settings,
            stopping=self._stopping,
            on_start=lambda: self._log_start(address),
            on_stop=self._call_pre_shutdown_callbacks,
            owns_process=owns_process,
        )

    def _log_start(self, address: Any) -> None:
        where = f"{address[0]}:{address[1]}" if isinstance(address, tuple) else address
        config = self._config
        logger.info(
            "agent host listening on %s (agent=%s hosted=%s project=%s grace_s=%d "
            "ws_keepalive_s=%g server=%s)",
            where,
            config.agent_id or "-",
            config.is_hosted,
            origin(config.project_endpoint) or "-",
            self._stopping.grace_s,
            self._ws_settings.keepalive_interval_s,
            self._version.header.decode("latin-1"),
        )

    def find_websocket_app(self, scope: Scope) -> ASGIApp:
        """Return what serves a WebSocket: the handler's route itself if it may be.

        Starlette's own middleware does nothing for a handler whose failures end in the route,
        and every call around a handler costs something for each of its messages.
        """
        if self.user_middleware:
            return self
        for route in self.routes:
            match, found = route.matches(scope)
            if match is Match.FULL:
                if route is not self._ws_route:
                    return self
                scope["app"] = self
                scope["router"] = self.router
                scope.update(found)
                return self._ws_route.app
        return self

    def build_middleware_stack(self) -> ASGIApp:
        """Put the host's headers around everything, failures included."""
        return HostHeaders(super().build_middleware_stack(), self._version, self._access_log)

    # What the routes ask

    @property
    def session_id(self) -> str:
        """The session this process serves, as the environment says; empty if it doesn't."""
        return self._config.session_id

    @property
    def draining(self) -> Draining:
        """Set from the first signal on: ``is_set()`` tells, ``await wait()`` waits for it.

        Handlers find it as ``websocket.state.draining``, too.
        """
        return self._draining

    @property
    def sse_keepalive_interval_s(self) -> float:
        """Seconds of quiet after which an event stream gets a comment; 0 for never."""
        return self._config.sse_keepalive_interval

    @property
    def tracing(self) -> Tracing:
        """Continues callers' traces."""
        return self._tracing

    @property
    def telemetry(self) -> Telemetry:
        """Makes spans and metrics, if it is asked for."""
        return self._telemetry

    def find_handler(self, kind: str) -> RequestHandler | None:
        """Return the HTTP handler registered for ``invoke``, ``get`` or ``cancel``."""
        return self._http_handlers.get(kind)

    def _find_ws_handler(self) -> WebSocketHandler:
        assert self._ws_handler is not None
        return self._ws_handler

    def _take_http_handler(self, kind: str, handler: _H) -> _H:
        check_coroutine_function(handler, f"the handler for {kind}")
        self._http_handlers[kind] = handler
        return handler

    # The end

    def _call_pre_shutdown_callbacks(self) -> None:
        for callback in self._pre_shutdown_callbacks:
            try:
                callback()
            except Exception as error:
                tell(error)
                logger.exception("pre-shutdown callback %s failed", name_of(callback))

    async def _flush_telemetry(self) -> None:
        # Out of what is the shutdown handler's: nobody waits longer for the host than that.
        spent_s = time.monotonic() - self._shutdown_began
        await self._telemetry.flush(self._stopping.grace_s - spent_s)

    async def _shut_down(self) -> None:
        self._shutdown_began = time.monotonic()
        logger.info("shutting down (at most %d s for the shutdown handler)", self._stopping.grace_s)
        if self._shutdown_fn is None or self._stopping.grace_s == 0:
            return
        limit = asyncio.timeout(self._stopping.grace_s)
        try:
            async with limit:
                result = self._shutdown_fn()
                if inspect.isawaitable(result):
                    await result
        except Exception as error:
            tell(error)
            if limit.expired():
                logger.warning(
                    "the shutdown handler did not complete within %d s", self._stopping.grace_s
                )
            else:
                logger.warning("error in shutdown handler %s", name_of(self._shutdown_fn),
                            exc_info=True)  # fmt: skip


@contextlib.asynccontextmanager
async def _lifespan(app: InvocationAgentServerHost) -> AsyncIterator[Any]:
    author = app._author_lifespan  # noqa: SLF001
    async with contextlib.AsyncExitStack() as stack:
        # Last of all, so that nothing is left behind.
        stack.push_async_callback(app._flush_telemetry)  # noqa: SLF001
        state = await stack.enter_async_context(author(app)) if author is not None else None
        # After the author's own, which may have set up OpenTelemetry.
        app.telemetry.start(is_flushed_at_end=True)
        stack.push_async_callback(app._shut_down)  # noqa: SLF001
        yield state
