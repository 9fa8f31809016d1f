"""HTTP as uvicorn speaks it, with a bound to a request's head: its size, and how long it takes."""

import asyncio
from http import HTTPStatus
from typing import Any, Final

from uvicorn.config import Config
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle
from uvicorn.server import ServerState

from trunkline.agentserver._ws_handshake import plain_refusal

MAX_HEAD_BYTES: Final = 64 * 1024
HEAD_TIMEOUT_S: Final = 10.0
#: What a header costs besides its name and value: ``": "`` and CR LF.
_HEADER_OVERHEAD: Final = 4


class BoundedHttp(HttpToolsProtocol):
    """uvicorn's HTTP protocol; who sends a head too long or too slowly is refused.

    A connection that says nothing at all is bounded by the same deadline. Bodies are not: what
    is too long for a request is the agent's to say.
    """

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self._head_timer: asyncio.TimerHandle | None = None
        self._is_in_head = True
        self._is_refused = False
        self._fed_bytes = 0
        self._parsed_bytes = 0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin, and start the clock."""
        super().connection_made(transport)
        self._start_head()

    def connection_lost(self, exc: Exception | None) -> None:
        """End, and stop the clock."""
        self._stop_timer()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Parse, unless the connection was refused."""
        if self._is_refused:
            return
        if self._is_in_head:
            self._fed_bytes += len(data)
        super().data_received(data)
        # Bytes of a header that isn't complete are nowhere but in the parser; count what came.
        if self._is_in_head and self._fed_bytes > MAX_HEAD_BYTES:
            self._refuse_large_head()

    def on_message_begin(self) -> None:
        """Start the clock for a further request's head."""
        super().on_message_begin()
        # The first head began with the connection; what came of it has been counted.
        if not self._is_in_head:
            self._start_head()

    def on_url(self, url: bytes) -> None:
        """Take part of the target."""
        self._parsed_bytes += len(url)
        super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        """Take a header, unless there is too much already."""
        self._parsed_bytes += len(name) + len(value) + _HEADER_OVERHEAD
        # Trailers come here, too, and are no headers (RFC 9110 section 6.5.1).
        if self._is_in_head and self._parsed_bytes <= MAX_HEAD_BYTES:
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """Let the request begin."""
        self._is_in_head = False
        self._stop_timer()
        if self._parsed_bytes > MAX_HEAD_BYTES:
            self._refuse_large_head()
        if not self._is_refused:
            super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """Take part of the body."""
        if not self._is_refused:
            super().on_body(body)

    def on_message_complete(self) -> None:
        """Take note that the request is whole."""
        if not self._is_refused:
            super().on_message_complete()

    def handle_websocket_upgrade(self) -> None:
        """Hand the connection over, and let go of it."""
        if self._is_refused:
            return
        if self._is_answering():
            # The answers to both would be mixed up on the wire.
            self._refuse(HTTPStatus.BAD_REQUEST, "an upgrade can't overtake an open request")
            return
        super().handle_websocket_upgrade()
        # The parser and this object know each other; apart, both are freed at once.
        self.parser = None  # type: ignore[assignment]

    def send_400_response(self, msg: str) -> None:
        """Refuse what isn't HTTP."""
        self._refuse(HTTPStatus.BAD_REQUEST, msg)

    def _is_answering(self) -> bool:
        cycle: RequestResponseCycle | None = self.cycle
        return cycle is not None and not cycle.response_complete

    def _start_head(self) -> None:
        self._is_in_head = True
        self._fed_bytes = 0
        self._parsed_bytes = 0
        if self._head_timer is None:
            self._head_timer = self.loop.call_later(HEAD_TIMEOUT_S, self._head_is_late)

    def _stop_timer(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _head_is_late(self) -> None:
        self._head_timer = None
        self._refuse(
            HTTPStatus.REQUEST_TIMEOUT,
            f"the request's head was not whole within {HEAD_TIMEOUT_S:g} s",
        )

    def _refuse_large_head(self) -> None:
        self._refuse(
            HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE,
            f"the request's head is over {MAX_HEAD_BYTES} bytes",
        )

    def _refuse(self, status: HTTPStatus, message: str) -> None:
        if self._is_refused or self.transport.is_closing():
            return
        self._is_refused = True
        self._stop_timer()
        # With an answer to an earlier request under way, a further one would be read as its body.
        if not self._is_answering():
            self.transport.write(plain_refusal(status, message))
        self.transport.close()
