"""Listening and stopping: uvicorn, with our WebSocket protocol, signals and drain."""

import asyncio
import contextlib
import functools
import logging
import os
import signal
import socket
import stat
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

import uvicorn
from starlette.types import ASGIApp

from trunkline.agentserver._http import BoundedHttp
from trunkline.agentserver._logging import LOGGER_NAME
from trunkline.agentserver._stopping import Stopping
from trunkline.agentserver._ws_protocol import WebSocketConnection
from trunkline.agentserver._ws_settings import WebSocketSettings

logger = logging.getLogger(LOGGER_NAME)

_SIGNALS: Final = (signal.SIGTERM, signal.SIGINT)
_BACKLOG: Final = 2048
_SOCKET_MODE: Final = 0o600
#: Longer than a gateway keeps an idle connection, so that it is never the one surprised.
_KEEP_ALIVE_S: Final = 75
_POLL_S: Final = 0.02
#: How long cancelled handlers get to clean up.
_CANCEL_GRACE_S: Final = 1.0
#: On top of the two graceful timeouts, before the process is ended from outside the loop.
_WATCHDOG_MARGIN_S: Final = 3.0


class AgentServer(uvicorn.Server):
    """One host being served.

    A first SIGTERM or SIGINT drains: handlers are told and may end by themselves for a while.
    Then it stops listening, closes WebSockets with 1001, lets requests finish within the grace
    period, cancels what is left and runs the shutdown handler. A second one ends the process
    at once.
    """

    def __init__(
        self,
        app: ASGIApp,
        settings: WebSocketSettings,
        *,
        stopping: Stopping,
        on_start: Callable[[], None],
        on_stop: Callable[[], None],
        owns_process: bool,
    ) -> None:
        """Prepare.

        Args:
            app: The ASGI application.
            settings: Limits and times of its WebSockets.
            stopping: How to stop.
            on_start: Called when connections are taken and signals are heeded.
            on_stop: Called when the first signal arrives, before anything is closed.
            owns_process: Whether the process may be ended when something refuses to stop.
        """
        super().__init__(
            uvicorn.Config(
                app,
                http=BoundedHttp,
                ws=functools.partial(  # type: ignore[arg-type]
                    WebSocketConnection, settings=settings, draining=stopping.draining
                ),
                interface="asgi3",
                lifespan="on",
                log_config=None,
                access_log=False,
                proxy_headers=False,
                server_header=False,
                date_header=False,
                timeout_keep_alive=_KEEP_ALIVE_S,
                backlog=_BACKLOG,
            )
        )
        self._stopping = stopping
        self._on_start = on_start
        self._on_stop = on_stop
        self._owns_process = owns_process
        self._stop = asyncio.Event()
        self._hurry = asyncio.Event()

    async def serve(self, sockets: list[socket.socket] | None = None) -> None:
        """Serve until :meth:`stop`, a signal, or cancellation; then drain."""
        self.config.load()
        self.lifespan = self.config.lifespan_class(self.config)
        self._stopping.draining.clear()
        with self.capture_signals():
            await self.startup(sockets)
            self._on_start()
            try:
                await self._stop.wait()
            finally:
                self.stop()
                await self.shutdown(sockets)

    def stop(self) -> None:
        """Begin to drain. Call it on the loop's thread; twice is fine."""
        if not self._stop.is_set():
            # Before anything is closed: who asks finds out why.
            self._stopping.draining.set()
            self._on_stop()
            self._stop.set()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Drain, and run the application's shutdown. Takes a bounded time."""
        if self._owns_process:
            self._watch_exit()
        state = self.server_state
        # Still listening, so that probes see that the host isn't ready; and whatever is open
        # goes on, while it knows that it should come to its end.
        await self._wait_until(lambda: not state.tasks, self._stopping.drain_s)
        for server in self.servers:
            server.close()
        for sock in sockets or ():
            sock.close()
        for connection in list(state.connections):
            connection.shutdown()
        await self._wait_until(
            lambda: not (state.connections or state.tasks), self._stopping.grace_s
        )
        await self._cancel_rest()
        await self.lifespan.shutdown()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Handle the stopping signals on the loop, where a handler may touch it."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        loop = asyncio.get_running_loop()
        previous = {number: signal.getsignal(number) for number in _SIGNALS}
        for number in _SIGNALS:
            loop.add_signal_handler(number, self._on_signal, number)
        try:
            yield
        finally:
            for number, handler in previous.items():
                loop.remove_signal_handler(number)
                signal.signal(number, handler)

    def _on_signal(self, number: int) -> None:
        if not self._stop.is_set():
            logger.info("%s: draining", signal.Signals(number).name)
            self.stop()
        elif self._owns_process:
            _exit_now(128 + number, "second signal: ending at once")
        else:
            self._hurry.set()

    async def _wait_until(self, is_done: Callable[[], bool], seconds: float) -> None:
        # Not `asyncio.timeout`: before Python 3.11.4 it doesn't end in a task that is cancelled.
        loop = asyncio.get_running_loop()
        deadline = loop.time() + seconds
        # Objects of uvicorn's come and go in its sets, and none tells of its going.
        while not (is_done() or self._hurry.is_set()) and (left := deadline - loop.time()) > 0:  # noqa: ASYNC110
            await asyncio.sleep(min(left, _POLL_S))

    async def _cancel_rest(self) -> None:
        tasks = set(self.server_state.tasks)
        if tasks:
            logger.warning("%d requests outlasted the grace period and are cancelled", len(tasks))
            for task in tasks:
                task.cancel("the grace period is over")
            await asyncio.wait(tasks, timeout=_CANCEL_GRACE_S)
        for connection in list(self.server_state.connections):
            connection.transport.abort()

    def _watch_exit(self) -> None:
        # A handler may swallow its cancellation, or sit in a thread nobody can interrupt.
        patience = self._stopping.drain_s + 2 * self._stopping.grace_s + _WATCHDOG_MARGIN_S
        timer = threading.Timer(
            patience, _exit_now, (1, f"still running {patience:g} s after the signal: ending")
        )
        timer.daemon = True
        timer.start()


@contextlib.contextmanager
def listening(host: str, port: int, socket_path: str) -> Iterator[socket.socket]:
    """Hold a bound socket: the Unix socket if a path is given, else TCP.

    Raises:
        OSError: If the address can't be had.
    """
    if not socket_path:
        with _listen_tcp(host, port) as sock:
            yield sock
        return
    path = Path(socket_path)
    with _listen_unix(path) as sock:
        try:
            yield sock
        finally:
            path.unlink(missing_ok=True)


def _listen_tcp(host: str, port: int) -> socket.socket:
    family, _, _, _, address = socket.getaddrinfo(
        host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )[0]
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind(address)
        sock.listen(_BACKLOG)
    except OSError:
        sock.close()
        raise
    return sock


def _listen_unix(path: Path) -> socket.socket:
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        if path.exists() and stat.S_ISSOCK(path.stat().st_mode):
            _remove_if_stale(path)
        sock.bind(str(path))
        # Nobody can connect between these lines: that needs listen().
        path.chmod(_SOCKET_MODE)
        sock.listen(_BACKLOG)
    except OSError:
        sock.close()
        raise
    return sock


def _remove_if_stale(path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        try:
            probe.connect(str(path))
        except ConnectionRefusedError:
            path.unlink()


def _exit_now(status: int, why: str) -> None:
    logger.warning("%s", why)
    logging.shutdown()
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):
            stream.flush()
    os._exit(status)
