"""The first to see a connection: bounds every request's head, and turns upgrades into relays.

Ordinary HTTP stays with uvicorn's own protocol, which this is a subclass of: one parser reads
each head, on a fresh connection and on a kept-alive one alike.
"""

import asyncio
from typing import Any

import httptools
from uvicorn.config import Config
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle
from uvicorn.server import ServerState

from trunkline.gateway.responses import refusal
from trunkline.gateway.services import GatewayServices
from trunkline.gateway.upgrade import Upgrade, UpgradeRequest
from trunkline.protocol.errors import (
    HeadTimeoutError,
    HeadTooLargeError,
    InvalidRequestError,
    TrunklineError,
)

#: What a header costs besides its name and value: ``": "`` and CR LF.
_HEADER_OVERHEAD = 4


class FrontDoor(HttpToolsProtocol):
    """uvicorn's HTTP protocol under the gateway's limits."""

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
        *,
        services: GatewayServices,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self._services = services
        self._settings = services.settings
        self._head_timer: asyncio.TimerHandle | None = None
        self._is_in_head = True
        self._head_bytes = 0
        self._parsed_bytes = 0
        self._refused = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        # A connection that says nothing at all is bounded by the same deadline.
        self._start_head()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_head_timer()
        super().connection_lost(exc)

    def _start_head(self) -> None:
        self._is_in_head = True
        self._head_bytes = 0
        self._parsed_bytes = 0
        if self._head_timer is None:
            self._head_timer = self.loop.call_later(
                self._settings.head_timeout_s, self._head_is_late
            )

    def _stop_head_timer(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _head_is_late(self) -> None:
        self._head_timer = None
        self._refuse(
            HeadTimeoutError(
                f"the request's head wasn't whole after {self._settings.head_timeout_s:g} s "
                "(head_timeout_s)"
            )
        )

    def _refuse(self, error: TrunklineError) -> None:
        if self._refused or self.transport.is_closing():
            return
        self._refused = True
        self._stop_head_timer()
        # With an answer to an earlier request under way, a further one would be read as its body.
        if not self._is_answering():
            self.transport.write(refusal(error))
        self.transport.close()

    def _is_answering(self) -> bool:
        cycle: RequestResponseCycle | None = self.cycle
        return cycle is not None and not cycle.response_complete

    def _refuse_large_head(self) -> None:
        self._refuse(
            HeadTooLargeError(
                f"the request's head is over {self._settings.max_head_bytes} bytes (max_head_bytes)"
            )
        )

    def data_received(self, data: bytes) -> None:
        if self._refused:
            return
        self._unset_keepalive_if_required()
        self._head_bytes += len(data)
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade as exc:
            if self._should_upgrade():
                self._upgrade(data[exc.args[0] :])
            return
        except httptools.HttpParserError:
            self._refuse(InvalidRequestError("this isn't an HTTP request"))
            return
        # Bytes of a header that isn't complete are nowhere but in the parser; count what came.
        if self._is_in_head and self._head_bytes > self._settings.max_head_bytes:
            self._refuse_large_head()

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._start_head()

    def on_url(self, url: bytes) -> None:
        self._parsed_bytes += len(url)
        super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        self._parsed_bytes += len(name) + len(value) + _HEADER_OVERHEAD
        if self._parsed_bytes <= self._settings.max_head_bytes:
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        self._is_in_head = False
        self._stop_head_timer()
        if self._parsed_bytes > self._settings.max_head_bytes:
            self._refuse_large_head()
        if not self._refused:
            super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        if not self._refused:
            super().on_body(body)

    def on_message_complete(self) -> None:
        if not self._refused:
            super().on_message_complete()

    def _should_upgrade_to_ws(self) -> bool:
        return True

    def _upgrade(self, rest: bytes) -> None:
        if self._refused:
            return
        if self._is_answering():
            self._refuse(
                InvalidRequestError("an upgrade can't follow a request that isn't answered yet")
            )
            return
        try:
            url = httptools.parse_url(self.url)
        except httptools.HttpParserInvalidURLError:
            self._refuse(InvalidRequestError("the request's target isn't a path"))
            return
        request = UpgradeRequest(
            self.parser.get_method().decode("ascii"),
            (url.path or b"/").decode("latin-1"),
            (url.query or b"").decode("latin-1"),
            self.headers,
        )
        self.connections.discard(self)
        upgrade = Upgrade(request, self.transport, self._services, self.connections)
        self.transport.set_protocol(upgrade)
        if rest:
            upgrade.data_received(rest)
