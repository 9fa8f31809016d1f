"""The door of a process that takes upgrades only, and gives other requests to one that serves them.

A connection whose first request isn't an upgrade goes there with everything that was read of it,
and stays there. Its descriptor is passed, so nothing is copied, and nobody can say in a header
what isn't so. Where TLS ends here its bytes are passed on instead, through a pair of sockets.
"""

import asyncio
import socket
from collections.abc import Callable
from typing import Any, Final

from uvicorn.config import Config
from uvicorn.server import ServerState

from trunkline.gateway.door import FrontDoor, Origin
from trunkline.gateway.services import GatewayServices
from trunkline.protocol.errors import UnavailableError

_PIPE_BUFFER_BYTES: Final = 64 * 1024

#: Gives a connection to the process that serves requests: what was read of it, its file, and
#: where it is from if the file doesn't tell. The file stays the caller's. OSError is raised if
#: there is no descriptor to send it from.
PassOn = Callable[[bytes, int, Origin | None], None]


class WorkerDoor(FrontDoor):
    """The front door, for upgrades."""

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
        *,
        services: GatewayServices,
        pass_on: PassOn,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop, services=services)
        self._pass_on = pass_on
        #: All that came so far: a head and what was read with it. The limit on heads bounds it.
        self._came: list[bytes] = []
        self._is_for_others = False

    def data_received(self, data: bytes) -> None:
        if self._refused:
            super().data_received(data)
            return
        self._came.append(data)
        super().data_received(data)
        if self._is_for_others and not self.transport.is_closing():
            self._give_away()

    def begin_request(self) -> None:
        if not (self.parser.should_upgrade() and self._should_upgrade()):
            # What the parser finds behind this head is for the other process to look at.
            self._is_for_others = self._refused = True

    def _give_away(self) -> None:
        try:
            self._pass_on_all(b"".join(self._came))
        except OSError as exc:
            # The system has no descriptors for it. What has come was read, so it can be told.
            self._refused = False
            self.transport.resume_reading()
            self._refuse(
                UnavailableError(
                    f"the platform can't serve requests at the moment ({exc.strerror}); try again"
                )
            )
        finally:
            self._came.clear()

    def _pass_on_all(self, came: bytes) -> None:
        transport = self.transport
        if transport.get_extra_info("ssl_object") is None:
            transport.pause_reading()
            self._pass_on(came, transport.get_extra_info("socket").fileno(), None)
            transport.set_protocol(asyncio.Protocol())
            # Whoever is told of its end here cleans up what is here, and touches it no more.
            transport.abort()
            self.connection_lost(None)
            return
        assert self.client is not None
        ours, theirs = socket.socketpair()
        with theirs:
            try:
                self._pass_on(came, theirs.fileno(), Origin(self.client, "https"))
            except BaseException:
                ours.close()
                raise
        pipe = Pipe(transport, ours, self.connections)
        # An error, so that uvicorn leaves the connection open.
        self.connection_lost(ConnectionAbortedError())
        pipe.begin(self._services.tasks.spawn)


class Pipe(asyncio.Protocol):
    """The client's side of a connection whose bytes go on to another process."""

    def __init__(
        self, transport: asyncio.Transport, ours: socket.socket, connections: set[Any]
    ) -> None:
        self._transport = transport
        self._ours = ours
        self._connections = connections
        self._inner: asyncio.Transport | None = None
        transport.pause_reading()
        transport.set_write_buffer_limits(high=_PIPE_BUFFER_BYTES)
        transport.set_protocol(self)
        # The process waits for it before it ends.
        connections.add(self)

    def begin(self, spawn: Callable[..., object]) -> None:
        """Begin to pass bytes on, in a task."""
        spawn(self._connect(), name="pipe")

    async def _connect(self) -> None:
        loop = asyncio.get_running_loop()
        self._ours.setblocking(False)
        inner, _ = await loop.connect_accepted_socket(lambda: _Inner(self._transport), self._ours)
        inner.set_write_buffer_limits(high=_PIPE_BUFFER_BYTES)
        self._inner = inner
        if self._transport.is_closing():
            inner.close()
        else:
            self._transport.resume_reading()

    def shutdown(self) -> None:
        """Uvicorn is stopping: the process that serves the connection ends it."""

    def data_received(self, data: bytes) -> None:
        assert self._inner is not None
        self._inner.write(data)

    def pause_writing(self) -> None:
        if self._inner is not None:
            self._inner.pause_reading()

    def resume_writing(self) -> None:
        if self._inner is not None:
            self._inner.resume_reading()

    def connection_lost(self, exc: Exception | None) -> None:
        self._connections.discard(self)
        if self._inner is not None:
            self._inner.close()


class _Inner(asyncio.Protocol):
    """The side of the process that serves the connection."""

    def __init__(self, client: asyncio.Transport) -> None:
        self._client = client

    def data_received(self, data: bytes) -> None:
        self._client.write(data)

    def pause_writing(self) -> None:
        self._client.pause_reading()

    def resume_writing(self) -> None:
        if not self._client.is_closing():
            self._client.resume_reading()

    def connection_lost(self, exc: Exception | None) -> None:
        self._client.close()
