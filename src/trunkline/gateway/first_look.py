"""A new connection until its first bytes are there.

Almost all that come to a gateway are upgrades, and their head comes in one piece: such a one goes
straight to its upgrade. Everything else is the front door's, which sees the same bytes under the
same deadline, and alone refuses anything.
"""

import asyncio
import functools
import sys
from collections.abc import Callable
from typing import Any, cast

import httptools
from uvicorn.config import Config
from uvicorn.server import ServerState

from trunkline.aio.light import LightTransport
from trunkline.gateway.door import FrontDoor, check_failures
from trunkline.gateway.heads import check_head, wanted_upgrade
from trunkline.gateway.limits import Place
from trunkline.gateway.passes import Pass, SeenHead, name_of
from trunkline.gateway.requests import UpgradeRequest
from trunkline.gateway.seen_heads import cut
from trunkline.gateway.services import GatewayServices
from trunkline.gateway.upgrade import Upgrade
from trunkline.protocol.errors import TrunklineError


class _Head:
    """Takes what the parser finds in a head."""

    __slots__ = ("headers", "messages", "url")

    def __init__(self) -> None:
        self.messages = 0
        self.url = b""
        self.headers: list[tuple[bytes, bytes]] = []

    def on_message_begin(self) -> None:
        self.messages += 1

    def on_url(self, url: bytes) -> None:
        self.url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        self.headers.append((name.lower(), value))


class FirstLook(asyncio.Protocol):
    """One connection on which nothing has come so far."""

    __slots__ = (
        "_connections",
        "_head_due",
        "_new_door",
        "_place",
        "_services",
        "_transport",
    )

    def __init__(
        self,
        new_door: Callable[[], FrontDoor],
        connections: set[Any],
        services: GatewayServices,
    ) -> None:
        """Prepare.

        Args:
            new_door: Makes the one that serves whatever isn't as usual.
            connections: What uvicorn waits for when it stops, and tells to.
            services: What upgrades need.
        """
        self._new_door = new_door
        self._connections = connections
        self._services = services
        self._transport: asyncio.Transport
        self._place: Place | None = None
        self._head_due = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        services = self._services
        limits = services.limits
        self._place = place = limits.new_place(_address_of(self._transport))
        if place is None:
            services.metrics.refusals.labels("max_connections").inc()
            self._transport.abort()
            return
        # A connection that says nothing at all is bounded by the same deadline.
        self._head_due = services.heads_due.add(self)
        self._connections.add(self)
        try:
            limits.check(place)
        except TrunklineError:
            self._pass_on()

    def connection_lost(self, exc: Exception | None) -> None:
        self._let_go()
        if self._place is not None:
            self._place.release()

    def shutdown(self) -> None:
        """Drain: uvicorn calls this on every connection when it stops."""
        self._transport.close()

    def late(self) -> None:
        """Have the front door refuse it: no whole head came in time."""
        self._pass_on()

    def detach(self) -> tuple[int, bytes] | None:
        """Let go of the connection; as :meth:`FrontDoor.detach`."""
        return self._pass_on().detach()

    def data_received(self, data: bytes) -> None:
        # One that may be over the limit is measured by the front door.
        if len(data) > self._services.settings.max_head_bytes // 2:
            self._pass_on(data)
            return
        services = self._services
        name = name_of(data)
        if name is not None and (found := services.passes.find(name, services.admission)):
            self._upgrade(found.request(name, data), data, name.size, found=found)
            return
        head, seen = cut(data), None
        if head is not None and (request := services.seen.find(head)) is not None:
            size: int = head.size
            if name is not None and (bearer := head.bearer_in(data)) is not None:
                seen = SeenHead(name, bearer)
        elif (parsed := self._parse(data)) is not None:
            request, size = parsed
            if head is not None:
                services.seen.keep(head, request)
        else:
            self._pass_on(data)
            return
        self._upgrade(request, data, size, seen=seen)

    def _parse(self, data: bytes) -> tuple[UpgradeRequest, int] | None:
        head = _Head()
        parser = httptools.HttpRequestParser(head)
        try:
            parser.feed_data(data)
        except httptools.HttpParserUpgrade as exc:
            size: int = exc.args[0]
            request = self._request_of(head, parser)
            return None if request is None else (request, size)
        except httptools.HttpParserError:
            pass
        return None

    def _request_of(
        self, head: _Head, parser: httptools.HttpRequestParser
    ) -> UpgradeRequest | None:
        version = parser.get_http_version()
        if (
            head.messages != 1
            or len(head.headers) > self._services.settings.max_headers
            or wanted_upgrade(version, head.headers) != b"websocket"
        ):
            return None
        try:
            check_head(version, head.headers)
            return UpgradeRequest.of_target(parser.get_method(), head.url, head.headers)
        except TrunklineError:
            return None

    def _may_ask(self, request: UpgradeRequest) -> bool:
        assert self._place is not None
        try:
            check_failures(self._services, self._place.peer, request.path.encode("latin-1"))
        except TrunklineError:
            return False
        return True

    def _upgrade(
        self,
        request: UpgradeRequest,
        data: bytes,
        size: int,
        *,
        found: Pass | None = None,
        seen: SeenHead | None = None,
    ) -> None:
        if not self._may_ask(request):
            self._pass_on(data)
            return
        self._let_go()
        assert self._place is not None
        upgrade = Upgrade(
            request, self._transport, self._services, self._connections, place=self._place
        )
        self._transport.set_protocol(upgrade)
        if isinstance(self._transport, LightTransport):
            # A client has nothing to say before it has its answer.
            self._transport.expect_nothing()
        upgrade.begin(data[size:], found, seen)

    def _pass_on(self, data: bytes = b"") -> FrontDoor:
        self._let_go()
        assert self._place is not None
        door = self._new_door()
        door.take_over(self._transport, self._place, head_due=self._head_due, data=data)
        return door

    def _let_go(self) -> None:
        self._connections.discard(self)
        self._services.heads_due.discard(self)


def _address_of(transport: asyncio.Transport) -> str:
    name = transport.get_extra_info("peername")
    # It has none if the connection has ended already. Many have the same, and each keeps it.
    return sys.intern(name[0]) if isinstance(name, tuple) else ""


def first_look(
    config: Config,
    server_state: ServerState,
    app_state: dict[str, Any],
    _loop: asyncio.AbstractEventLoop | None = None,
    *,
    services: GatewayServices,
    new_door: Callable[..., FrontDoor] = FrontDoor,
) -> FirstLook:
    """Make the protocol of a new connection, as uvicorn asks for it."""
    door = functools.partial(new_door, config, server_state, app_state, _loop, services=services)
    return FirstLook(door, server_state.connections, services)
