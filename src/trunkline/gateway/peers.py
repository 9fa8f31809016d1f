"""Passes requests on to the process of the platform that runs their session.

Processes that share a store each run some of the sessions, and any of them may be asked about any
session. What is asked of the wrong one goes to the right one as it was sent, token and all, and is
decided there: who may do what, what the agent gets to see, what is written to which log.
"""

import asyncio
import contextlib
import os
import re
import socket
from collections.abc import Coroutine
from typing import Any, Final, Protocol, TypeVar
from weakref import WeakSet

import aiohttp
from multidict import CIMultiDict
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from trunkline.aio.tasks import TaskOwner
from trunkline.gateway import upstream
from trunkline.gateway.requests import MARKING, Marks, UpgradeRequest, marks_in
from trunkline.gateway.responses import CLIENT_CLOSED_REQUEST
from trunkline.gateway.streaming import Call, Streamed, session_on
from trunkline.protocol import headers
from trunkline.protocol.errors import UnavailableError, UpstreamError
from trunkline.protocol.ids import NodeId
from trunkline.sessions.elsewhere import SessionElsewhereError
from trunkline.store.records import NodeRecord

_T = TypeVar("_T")
#: How often a request was passed on. It may be more than once: the session may move while the
#: request is on its way to where it was.
HOPS: Final = "x-trunkline-hops"
_MAX_HOPS = 3
_NUMBER = re.compile(r"[0-9]{1,3}")
#: Where a request's state says whom it is from, as this process sees it.
ADDRESS: Final = "address"
_FORWARDED_FOR: Final = "x-forwarded-for"
#: How often to look whether a process that doesn't answer is still there.
_LOOK_S = 2.0
#: Of one connection, written anew for the next, or looked at once for all.
_DROPPED = headers.HOP_BY_HOP | MARKING | {"host", "expect", "origin", HOPS, _FORWARDED_FOR}
#: A machine that is gone must be noticed: others take over its sessions.
_KEEPALIVE = (
    (socket.SOL_SOCKET, "SO_KEEPALIVE", 1),
    (socket.IPPROTO_TCP, "TCP_KEEPIDLE", 5),
    (socket.IPPROTO_TCP, "TCP_KEEPINTVL", 2),
    (socket.IPPROTO_TCP, "TCP_KEEPCNT", 3),
    (socket.IPPROTO_TCP, "TCP_USER_TIMEOUT", 10_000),
)


class FindsNodes(Protocol):
    """What knows the processes there are."""

    async def find_node(self, node: NodeId) -> NodeRecord | None:
        """Return a process, if it is among them."""


class Peers:
    """The other processes that share the store."""

    def __init__(self, store: FindsNodes, *, connect_timeout_s: float) -> None:
        self._store = store
        self._connect_timeout_s = connect_timeout_s
        #: The connections to each, for as long as somebody has them.
        self._leads: dict[NodeId, WeakSet[asyncio.Transport | socket.socket]] = {}

    def cut(self, node: NodeId) -> None:
        """End every connection to a process that is gone.

        If it was only paused, its system keeps them, and nobody would ever be told.
        """
        for lead in list(self._leads.pop(node, ())):
            # Whoever reads from it finds its end, and does what there is to do.
            with contextlib.suppress(OSError), socket.socket(fileno=_copy_of(lead)) as own:
                own.shutdown(socket.SHUT_RDWR)

    def _remember(self, node: NodeRecord, lead: asyncio.Transport | socket.socket) -> None:
        self._leads.setdefault(node.node, WeakSet()).add(lead)

    async def upgrade(
        self, request: UpgradeRequest, marks: Marks, client: str, error: SessionElsewhereError
    ) -> upstream.Upgraded:
        """Send an upgrade on; return the answer, which may be a refusal.

        Args:
            request: The upgrade.
            marks: What it is known by.
            client: Whom it is from. The other process believes that if it trusts this one
                (``trusted_proxies``).
            error: Where to.

        Raises:
            UnavailableError: If the process can't be reached, or dies before it answers.
        """
        node, hops = await self._find(error, request.header(HOPS.encode()))
        place = node.url.partition("://")[2]
        target = request.path + ("?" + request.query if request.query else "")
        lines = [
            f"GET {target} HTTP/1.1".encode("latin-1"),
            f"host: {place}".encode("latin-1"),
            b"connection: Upgrade",
            b"upgrade: websocket",
            f"{HOPS}: {hops}".encode("latin-1"),
            f"{_FORWARDED_FOR}: {client}".encode("latin-1"),
            *(f"{name}: {value}".encode("latin-1") for name, value in marks.headers()),
        ]
        lines += [
            name + b": " + value
            for name, value in request.headers
            if name.decode("latin-1") not in _DROPPED | {"content-length"}
        ]
        host, _, port = place.rpartition(":")

        async def asking() -> upstream.Upgraded:
            async with asyncio.timeout(self._connect_timeout_s):
                connection = await upstream.connect_peer(host.strip("[]"), int(port))
            keep_alive(connection.transport.get_extra_info("socket"))
            self._remember(node, connection.transport)
            return await connection.ask(b"\r\n".join(lines) + b"\r\n\r\n")

        return await self._asked(asking(), node, error)

    async def forward(self, request: Request, error: SessionElsewhereError) -> Response:
        """Send an HTTP request on; return the answer as it comes.

        If its body was read already, all of it is in ``request.state.body``. Whom it is from is in
        ``request.state.address``, and told as for an upgrade.

        Raises:
            UnavailableError: If the process can't be reached, or dies before it answers.
        """
        node, hops = await self._find(error, request.headers.get(HOPS))
        named: CIMultiDict[str] = CIMultiDict()
        for name, value in request.headers.raw:
            if (text := name.decode("latin-1")) not in _DROPPED:
                # aiohttp writes them in UTF-8: so these come out as they came in.
                named.add(text, value.decode("utf-8", "surrogateescape"))
        named.update(marks_in(request.scope).headers())
        named[HOPS] = str(hops)
        if client := getattr(request.state, ADDRESS, ""):
            named[_FORWARDED_FOR] = client
        query = request.scope["query_string"].decode("latin-1")
        target = request.scope["raw_path"].decode("latin-1") + ("?" + query if query else "")
        has_body = "content-length" in request.headers or "transfer-encoding" in request.headers
        body: bytes | None = getattr(request.state, "body", None)
        call = Call(request, named, target, body, has_body=has_body)

        def kept(address: Any) -> socket.socket:
            family, kind, protocol, *_ = address
            connected = socket.socket(family, kind, protocol)
            keep_alive(connected)
            self._remember(node, connected)
            return connected

        connector = aiohttp.TCPConnector(force_close=True, socket_factory=kept)
        session = session_on(connector, connect_timeout_s=self._connect_timeout_s)
        try:
            answer = await self._asked(call.send_on(session, node.url), node, error)
        except ClientDisconnect:
            return Response(status_code=CLIENT_CLOSED_REQUEST)
        return Streamed(call, answer, ours={}, what=f"request {call.request_id}")

    async def _find(
        self, error: SessionElsewhereError, hops_so_far: str | None
    ) -> tuple[NodeRecord, int]:
        given = hops_so_far or ""
        hops = int(given) + 1 if _NUMBER.fullmatch(given) else 1
        record = await self._store.find_node(error.node) if hops <= _MAX_HOPS else None
        if record is None:
            raise error
        return record, hops

    async def _asked(
        self, asking: Coroutine[Any, Any, _T], node: NodeRecord, error: SessionElsewhereError
    ) -> _T:
        # A start may take long, and is bounded where it happens. But that process may die.
        owner = TaskOwner()
        work = owner.spawn(asking, name="peers:ask", is_awaited=True)
        dying = owner.spawn(self._wait_gone(node), name="peers:watch")
        try:
            await asyncio.wait((work, dying), return_when=asyncio.FIRST_COMPLETED)
            if work.done():
                return work.result()
        except (UpstreamError, OSError, TimeoutError):
            pass
        finally:
            await owner.aclose()
        raise UnavailableError(
            f"the process of the platform that runs session {error.key.session_id!r} doesn't "
            "answer; try again"
        )

    async def _wait_gone(self, node: NodeRecord) -> None:
        while await self._store.find_node(node.node) is not None:  # noqa: ASYNC110 - it tells nobody
            await asyncio.sleep(_LOOK_S)


def keep_alive(connected: Any) -> None:
    """Have the system end a connection whose other side doesn't live."""
    for level, name, value in _KEEPALIVE:
        # Not every system has all of them.
        if (option := getattr(socket, name, None)) is not None:
            connected.setsockopt(level, option, value)


def _copy_of(lead: asyncio.Transport | socket.socket) -> int:
    """Return a descriptor of one's own for a connection.

    Raises:
        OSError: If it is closed.
    """
    if isinstance(lead, socket.socket):
        return os.dup(lead.fileno())
    # Once it closes, its descriptor's number may be another's.
    return os.dup(-1 if lead.is_closing() else lead.get_extra_info("socket").fileno())
