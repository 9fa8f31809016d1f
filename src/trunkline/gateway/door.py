"""The first to see a connection: bounds every request's head, and turns upgrades into relays.

Ordinary HTTP stays with uvicorn's own protocol, which this is a subclass of: one parser reads
each head, on a fresh connection and on a kept-alive one alike.
"""

import asyncio
import logging
import os
from dataclasses import dataclass
from enum import Enum, auto
from typing import Any, Literal

import httptools
from uvicorn.config import Config
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle
from uvicorn.server import ServerState

from trunkline.aio.light import LightTransport
from trunkline.aio.sockets import unsent_bytes
from trunkline.gateway.heads import check_head, wanted_upgrade
from trunkline.gateway.limits import Place
from trunkline.gateway.requests import UpgradeRequest, new_request_id
from trunkline.gateway.responses import refusal
from trunkline.gateway.services import GatewayServices
from trunkline.gateway.unread_bodies import framing_of, parser_of_body
from trunkline.gateway.upgrade import Upgrade
from trunkline.protocol import headers
from trunkline.protocol.errors import (
    HeadTimeoutError,
    HeadTooLargeError,
    InvalidRequestError,
    TrunklineError,
)

_log = logging.getLogger("trunkline.gateway")
#: What a header costs besides its name and value: ``": "`` and CR LF.
_HEADER_OVERHEAD = 4
_LINGER_S = 2.0
_LINGER_BYTES = 512 * 1024
#: What is left of a body this small is awaited when its request was answered without it: clients
#: write a head and its body one after the other, and believe that the connection can be used.
_SMALL_BODY_BYTES = 64 * 1024


class _Part(Enum):
    """Where in a message the bytes are that come next."""

    QUIET = auto()
    HEAD = auto()
    BODY = auto()


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a connection comes from that another process has, which passes its bytes on."""

    client: tuple[str, int]
    scheme: Literal["http", "https"]


class _RefusedError(Exception):
    """Ends a read whose connection was refused. The parser turns it into an error of its own."""


class FrontDoor(HttpToolsProtocol):
    """uvicorn's HTTP protocol under the gateway's limits.

    A message goes through three parts: its head, its body, and the quiet until the next one.
    Both limits hold for the head, and the size limit for whatever of a body isn't payload:
    chunk headers and trailers.
    """

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
        #: Who is at the other end, and whether by TLS, if another process has the connection.
        self.origin: Origin | None = None
        self._place: Place | None = None
        self._head_timer: asyncio.TimerHandle | None = None
        #: Runs while the rest of a small body is awaited that wasn't needed for the answer.
        self._body_timer: asyncio.TimerHandle | None = None
        self._part = _Part.QUIET
        #: Bytes of the head, or of what isn't payload behind it, that came in whole reads.
        self._overhead_bytes = 0
        #: The head as it came, while it isn't whole; None if other bytes came with it.
        self._beginning: bytes | None = b""
        #: Bytes of the head's lines that the parser has completed.
        self._parsed_bytes = 0
        self._header_count = 0
        self._wanted_upgrade: bytes | None = None
        self._upgrade_is_known = False
        #: Where the body ends of a request that the parser gives no body.
        self._unread_body: bytes | None = None
        #: Whether this read held more than one part, or payload: then it isn't all overhead.
        self._read_is_mixed = False
        self._refused = False
        self._linger_bytes = 0
        # What the last look saw waiting for the client, and since when it doesn't get less.
        self._waiting_seen = 0
        self._stalled_since = 0.0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        if self.origin is not None:
            self.client, self.scheme = self.origin.client, self.origin.scheme
        if not self._has_room():
            self._services.metrics.refusals.labels("max_connections").inc()
            transport.abort()
            return
        self._services.sweep.add(self)
        # A connection that says nothing at all is bounded by the same deadline.
        self._start_head_timer()
        try:
            self._check_connection()
        except TrunklineError as error:
            self._refuse(error)

    def take_over(
        self, transport: asyncio.Transport, place: Place, *, head_due: float, data: bytes
    ) -> None:
        """Serve a connection that somebody else has begun to.

        Args:
            transport: The connection.
            place: Its share of the limits.
            head_due: When its first head has to be whole, by the loop's clock.
            data: What has come so far.
        """
        self._place = place
        self._head_timer = self.loop.call_at(head_due, self._head_is_late)
        transport.set_protocol(self)
        if isinstance(transport, LightTransport):
            transport.gather_writes()
        self.connection_made(transport)
        if data:
            self.data_received(data)

    def _has_room(self) -> bool:
        """Count the connection; tell whether there is room for at least refusing it."""
        if self._place is None:
            self._place = self._services.limits.new_place(self.client[0] if self.client else "")
        return self._place is not None

    def _check_connection(self) -> None:
        """Refuse it if there are too many.

        Raises:
            TrunklineError: Then.
        """
        assert self._place is not None
        self._services.limits.check(self._place)

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_head_timer()
        if self._body_timer is not None:
            self._body_timer.cancel()
        self._services.sweep.discard(self)
        if self._place is not None:
            self._place.release()
        super().connection_lost(exc)

    def detach(self) -> tuple[int, bytes] | None:
        """Let go of a connection between two requests, or in the head of the next.

        Returns:
            A duplicate of its descriptor, and what has come of that head. None if more is under
            way, TLS ends here or in another process, or there is no descriptor for it. Then
            nothing has changed.
        """
        transport = self.transport
        beginning = self._beginning if self._part is _Part.HEAD else b""
        is_busy = self._part is _Part.BODY or self._is_answering() or self._refused
        if is_busy or beginning is None:
            return None
        if transport.is_closing() or transport.get_write_buffer_size():
            return None
        if transport.get_extra_info("ssl_object") is not None or self.origin is not None:
            return None
        try:
            file = os.dup(transport.get_extra_info("socket").fileno())
        except OSError:
            # The system has no descriptors for it.
            return None
        transport.set_protocol(asyncio.Protocol())
        # Whoever is told of its end here cleans up what is here, and touches the client no more.
        transport.abort()
        self.connection_lost(None)
        return file, beginning

    def look(self, now: float) -> None:
        """Give up a client that takes nothing of its answer, also of one whose end is written."""
        waiting = self.transport.get_write_buffer_size()
        if not waiting:
            self._waiting_seen = 0
            return
        # The system's own buffer is large: a slow reader may be at work on it for long.
        waiting += unsent_bytes(self.transport)
        if not 0 < self._waiting_seen <= waiting:
            self._stalled_since = now
        self._waiting_seen = waiting
        if 0 < self._settings.stalled_reader_s <= now - self._stalled_since:
            _log.warning(
                "connection cut: the client read nothing for %g s (stalled_reader_s): address=%s",
                self._settings.stalled_reader_s,
                self.client[0] if self.client else "-",
            )
            self._services.sweep.count_stall()
            self.transport.abort()

    def _start_head_timer(self) -> None:
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
            ).by_limit("head_timeout_s")
        )

    def _refuse(self, error: TrunklineError) -> None:
        if self._refused or self.transport.is_closing():
            return
        self._refused = True
        self._services.count_refusal(error)
        self._stop_head_timer()
        # With an answer to an earlier request under way, a further one would be read as its body.
        if self._is_answering():
            self.transport.close()
        else:
            self.transport.write(refusal(error, (headers.REQUEST_ID, new_request_id())))
            self._linger()

    def _linger(self) -> None:
        # Closing with bytes unread makes TCP reset the connection, and the client may lose the
        # answer to the reset. What still comes is thrown away for a moment instead.
        if self.transport.can_write_eof():
            self.transport.write_eof()
            self._head_timer = self.loop.call_later(_LINGER_S, self.transport.close)
        else:
            self.transport.close()

    def _is_answering(self) -> bool:
        cycle: RequestResponseCycle | None = self.cycle
        return cycle is not None and not cycle.response_complete

    def _refuse_large_head(self) -> None:
        self._refuse(
            HeadTooLargeError(
                f"the request's head is over {self._settings.max_head_bytes} bytes (max_head_bytes)"
            ).by_limit("max_head_bytes")
        )

    def data_received(self, data: bytes) -> None:
        if self._refused:
            self._linger_bytes += len(data)
            if self._linger_bytes > _LINGER_BYTES:
                self.transport.close()
            return
        self._unset_keepalive_if_required()
        if self._part is _Part.QUIET:
            # Also for what the parser passes over before a request, such as empty lines.
            self._start_head_timer()
        self._read_is_mixed = False
        left = data
        while left:
            try:
                self.parser.feed_data(left)
                break
            except httptools.HttpParserUpgrade as exc:
                left = left[exc.args[0] :]
                if self._should_upgrade():
                    self._upgrade(left)
                    return
                self._go_on_without_upgrade()
            except httptools.HttpParserError:
                self._refuse(InvalidRequestError("this isn't an HTTP request"))
                return
        # A line that isn't complete is nowhere but in the parser: count what came.
        self._overhead_bytes = 0 if self._read_is_mixed else self._overhead_bytes + len(data)
        if self._overhead_bytes > self._settings.max_head_bytes:
            self._refuse_large_head()
        elif self._part is _Part.HEAD:
            is_known = self._beginning is not None and not self._read_is_mixed
            self._beginning = (self._beginning or b"") + data if is_known else None

    def _go_on_without_upgrade(self) -> None:
        # Nobody here speaks what else a request may ask for, so HTTP goes on behind it (RFC 9110
        # section 7.8). One that isn't answered would give its answer's place to another's.
        framing, self._unread_body = self._unread_body, None
        if framing is not None and not self._refused:
            self.parser = parser_of_body(self, framing)

    def on_message_begin(self) -> None:
        if self._refused:
            # A read may hold hundreds of requests. Those behind the one that was refused aren't
            # even taken apart.
            raise _RefusedError
        # It may follow a body in the same read, at the end of which the wait for it has begun.
        self._unset_keepalive_if_required()
        super().on_message_begin()
        # Bytes that came before it in the same read belong to another message.
        self._read_is_mixed = self._read_is_mixed or self._part is _Part.BODY
        self._part = _Part.HEAD
        self._beginning = b""
        self._parsed_bytes = 0
        self._header_count = 0
        self._upgrade_is_known = False
        self._start_head_timer()

    def on_url(self, url: bytes) -> None:
        self._parsed_bytes += len(url)
        super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        self._parsed_bytes += len(name) + len(value) + _HEADER_OVERHEAD
        self._header_count += 1
        if self._header_count > self._settings.max_headers:
            self._refuse(
                HeadTooLargeError(
                    f"the request has more than {self._settings.max_headers} headers (max_headers)"
                ).by_limit("max_headers")
            )
        elif self._parsed_bytes <= self._settings.max_head_bytes:
            # The parser tells of trailers in the same way. They are no headers (RFC 9110 section
            # 6.5.1): nobody says behind a body who asks, for whom, or from where.
            if self._part is _Part.HEAD:
                super().on_header(name, value)
        elif self._part is _Part.BODY:
            self._refuse_large_head()

    def on_headers_complete(self) -> None:
        self._part = _Part.BODY
        self._beginning = b""
        self._read_is_mixed = True
        self._stop_head_timer()
        if self._parsed_bytes > self._settings.max_head_bytes:
            self._refuse_large_head()
        if self._refused:
            return
        try:
            self._check_caller()
            self._check_waiting()
            check_head(self.parser.get_http_version(), self.headers)
        except TrunklineError as error:
            self._refuse(error)
            return
        if self.parser.should_upgrade() and not self._should_upgrade():
            self._unread_body = framing_of(self.headers)
        self.begin_request()

    def begin_request(self) -> None:
        """Serve the request whose head is whole, unless it is an upgrade."""
        super().on_headers_complete()

    def _check_caller(self) -> None:
        """Refuse an address that keeps coming with bad tokens.

        Raises:
            TrunklineError: Then.
        """
        peer = self.client[0] if self.client else ""
        try:
            check_failures(self._services, peer, self.url)
        except TrunklineError as error:
            self._services.audit.add(
                self.parser.get_method().decode("ascii").lower(),
                error.status,
                place=(None, None, None),
                caller=None,
                address=peer,
                request_id=new_request_id(),
            )
            raise

    def _check_waiting(self) -> None:
        most = self._settings.max_pipelined_requests
        if len(self.pipeline) >= most:
            raise InvalidRequestError(
                f"{most} requests wait on the connection already (max_pipelined_requests)"
            ).by_limit("max_pipelined_requests")

    def on_body(self, body: bytes) -> None:
        self._read_is_mixed = True
        if not self._refused:
            super().on_body(body)

    def on_message_complete(self) -> None:
        if self._unread_body is not None:
            # So says a parser that gives it no body.
            return
        self._part = _Part.QUIET
        self._read_is_mixed = True
        if self._refused:
            return
        super().on_message_complete()
        if self._body_timer is not None:
            self._body_timer.cancel()
            self._body_timer = None
            self.timeout_keep_alive_task = self.loop.call_later(
                self.timeout_keep_alive, self.timeout_keep_alive_handler
            )

    def on_response_complete(self) -> None:
        super().on_response_complete()
        # The body that is coming in may be that of a request behind the one just answered.
        is_unread = self._part is _Part.BODY and not self._is_answering()
        if not is_unread or self._refused or self.transport.is_closing():
            return
        if self._has_small_body():
            self._unset_keepalive_if_required()
            self._body_timer = self.loop.call_later(_LINGER_S, self._give_up_body)
        else:
            self._give_up_body()

    def _has_small_body(self) -> bool:
        given = dict(self.headers)
        # RFC 9110 section 10.1.1: who waits for leave to send it may not send it any more.
        is_sent = b"expect" not in given
        return is_sent and int(given.get(b"content-length", _LINGER_BYTES)) <= _SMALL_BODY_BYTES

    def _give_up_body(self) -> None:
        # The answer is out, and the rest of the request's body may never come: there can be
        # no further request behind it.
        self._body_timer = None
        if not self.transport.is_closing():
            self._refused = True
            self._unset_keepalive_if_required()
            self._linger()

    def _get_upgrade(self) -> bytes | None:
        # It is asked for several times, and only once the head is whole.
        if not self._upgrade_is_known:
            self._wanted_upgrade = wanted_upgrade(self.parser.get_http_version(), self.headers)
            self._upgrade_is_known = True
        return self._wanted_upgrade

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
            request = UpgradeRequest.of_target(self.parser.get_method(), self.url, self.headers)
        except TrunklineError as error:
            self._refuse(error)
            return
        self.connections.discard(self)
        self._services.sweep.discard(self)
        assert self._place is not None
        upgrade = Upgrade(
            request, self.transport, self._services, self.connections, place=self._place
        )
        self.transport.set_protocol(upgrade)
        # It refers back to this, and neither is needed any more: without this both would stay
        # until a garbage collection.
        self.parser = None  # type: ignore[assignment]
        upgrade.begin(rest)


def check_failures(services: GatewayServices, peer: str, target: bytes) -> None:
    """Refuse whoever floods the platform with bad tokens, here, where it costs least.

    Whom a proxy brings is told apart from it later.

    Args:
        services: The rates, and the proxies there are.
        peer: Who has connected. It has to connect again.
        target: What is asked for.

    Raises:
        RateLimitedError: If too many of its were bad.
    """
    if target.startswith(b"/api/") and not services.limits.proxies.trusts(peer):
        services.rates.failures_by_address.check(peer)
