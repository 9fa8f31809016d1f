"""Passes HTTP invocations through to the session's agent, streaming both ways at once."""

import asyncio
import logging
from collections.abc import AsyncIterator, Coroutine
from typing import Any, TypeVar

import aiohttp
from multidict import CIMultiDict
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send
from yarl import URL

from trunkline.aio.tasks import TaskOwner
from trunkline.auth.identity import Identity
from trunkline.gateway import routes
from trunkline.gateway.reach import ConnectError, reach
from trunkline.gateway.responses import CLIENT_CLOSED_REQUEST
from trunkline.gateway.services import GatewayServices
from trunkline.gateway.upgrade import new_call_id, request_id_of
from trunkline.protocol import headers
from trunkline.protocol.errors import (
    InvalidRequestError,
    NotFoundError,
    UpgradeRequiredError,
    UpstreamError,
)
from trunkline.protocol.ids import SessionKey
from trunkline.runtimes.interface import Address
from trunkline.sessions.directory import new_session_id
from trunkline.sessions.slot import Lease

_T = TypeVar("_T")
_log = logging.getLogger("trunkline.gateway")
_PREFIX = "/api/projects/{project}/agents/{agent}/endpoint/protocols"
_PROTOCOL = "invocations"
_DOCS = ("openapi.json", "asyncapi.json", "asyncapi.yaml")
#: uvicorn writes its own; two of one name would be a malformed answer.
_WRITTEN_BY_SERVER = frozenset({"date", "server"})
#: Headers that speak of a body, for requests that have none.
_OF_BODY = frozenset({"content-length", "content-type", "content-encoding"})
#: What aiohttp would add by itself: the agent is to see the caller's headers and no others.
_NOT_ADDED = ("User-Agent", "Accept", "Accept-Encoding", "Content-Type")
_MAX_LINE_BYTES = 64 * 1024
_BODILESS = frozenset({204, 304})


class Invocations:
    """The HTTP half of an agent's endpoint."""

    def __init__(self, services: GatewayServices) -> None:
        self._services = services

    def routes(self) -> list[Route]:
        """Return the routes to serve, the literal ones first."""
        path = f"{_PREFIX}/invocations"
        return [
            Route(f"{_PREFIX}/invocations_ws", self.refuse_plain, methods=["GET"]),
            Route(routes.PREVIEW_PATH, self.refuse_plain, methods=["GET"]),
            Route(path, self.forward, methods=["POST"]),
            *(Route(f"{path}/docs/{name}", self.forward, methods=["GET"]) for name in _DOCS),
            Route(f"{path}/{{invocation}}", self.forward, methods=["GET"]),
            Route(f"{path}/{{invocation}}/cancel", self.forward, methods=["POST"]),
        ]

    async def refuse_plain(self, request: Request) -> Response:
        self._services.verifier.identify(request.headers.get("authorization"))
        raise UpgradeRequiredError("this endpoint speaks WebSocket: send an upgrade request")

    async def forward(self, request: Request) -> Response:
        services = self._services
        identity = services.verifier.identify(request.headers.get("authorization"))
        key = self._key_of(request)
        call = _Call(request, self._headers_for(request, identity))
        try:
            lease, agent = await reach(services, key, identity, _PROTOCOL, call.send)
        except ClientDisconnect:
            return Response(status_code=CLIENT_CLOSED_REQUEST)
        return _PassedThrough(call, agent, lease)

    def _key_of(self, request: Request) -> SessionKey:
        values = routes.parse_query(request.scope["query_string"].decode("latin-1"))
        given = values.get(headers.QUERY_API_VERSION)
        if not given or given[0] not in headers.API_VERSIONS:
            raise InvalidRequestError(
                "the query must have api-version=v1", param=headers.QUERY_API_VERSION
            )
        return SessionKey(
            self._services.projects.get(request.path_params["project"]),
            routes.parse_agent(request.path_params["agent"]),
            routes.parse_session_id(values) or new_session_id(),
        )

    def _headers_for(self, request: Request, identity: Identity) -> CIMultiDict[str]:
        named: CIMultiDict[str] = CIMultiDict()
        for raw_name, raw_value in request.headers.raw:
            name = raw_name.decode("latin-1")
            if not headers.reaches_agent(name) or (request.method == "GET" and name in _OF_BODY):
                continue
            try:
                named.add(name, raw_value.decode())
            except UnicodeDecodeError:
                raise InvalidRequestError(f"the header {name} isn't UTF-8", param=name) from None
        named[headers.USER_ID] = self._services.pseudonyms.of(identity)
        named[headers.CALL_ID] = new_call_id()
        named[headers.REQUEST_ID] = request_id_of(request.headers.get(headers.REQUEST_ID))
        return named


class _Agent:
    """A connection to an agent, with the head of its answer read."""

    def __init__(self, session: aiohttp.ClientSession, answer: aiohttp.ClientResponse) -> None:
        self.session = session
        self.answer = answer

    async def aclose(self) -> None:
        self.answer.close()
        await self.session.close()


class _Call:
    """One request on its way to an agent."""

    def __init__(self, request: Request, named: CIMultiDict[str]) -> None:
        self._request = request
        self._headers = named
        self._target = _target_of(request)
        self._body_is_read = asyncio.Event()
        self._caller_left = asyncio.Event()
        self.request_id = named[headers.REQUEST_ID]

    async def send(self, lease: Lease) -> _Agent:
        """Send it and wait for the answer's head, which may come before the body is all sent.

        Raises:
            ClientDisconnect: If the caller leaves first.
            ConnectError: If nobody listens.
            UpstreamError: If the agent ends the connection before it answers.
        """
        session = _open(lease.address)
        try:
            answer = await self._race(self._request_on(session, lease.address))
            if answer.status < 200 or answer.status > 599:
                answer.close()
                raise UpstreamError(f"the agent answered with status {answer.status}")
        except BaseException as exc:
            await session.close()
            if self._caller_left.is_set():
                raise ClientDisconnect from exc
            if isinstance(exc, aiohttp.ClientConnectorError):
                raise ConnectError("the agent isn't listening; it may be ending") from exc
            if isinstance(exc, aiohttp.ClientError):
                raise UpstreamError("the agent went away before it answered") from exc
            raise
        return _Agent(session, answer)

    async def _request_on(
        self, session: aiohttp.ClientSession, address: Address
    ) -> aiohttp.ClientResponse:
        has_body = self._request.method == "POST"
        if not has_body:
            self._body_is_read.set()
        host = "agent" if address.path is not None else f"127.0.0.1:{address.port}"
        return await session.request(
            self._request.method,
            # As it was sent: normalised, a path could leave its place.
            URL(f"http://{host}{self._target}", encoded=True),
            headers=self._headers,
            data=self._body() if has_body else None,
            allow_redirects=False,
        )

    async def _race(self, sending: Coroutine[Any, Any, _T]) -> _T:
        # The caller may leave while the agent thinks; then nobody waits for its answer.
        owner = TaskOwner()
        work = owner.spawn(sending, name="invocation:answer", is_awaited=True)
        leaving = owner.spawn(self.wait_left(), name="invocation:left")
        try:
            await asyncio.wait((work, leaving), return_when=asyncio.FIRST_COMPLETED)
            if not work.done():
                raise ClientDisconnect
            return work.result()
        finally:
            await owner.aclose()

    async def wait_left(self) -> None:
        """Wait until the caller has left."""
        await self._body_is_read.wait()
        # Only now: whoever receives earlier would take the body away from the agent.
        while not self._caller_left.is_set():
            if (await self._request.receive())["type"] == "http.disconnect":
                self._caller_left.set()

    async def _body(self) -> AsyncIterator[bytes]:
        try:
            async for chunk in self._request.stream():
                if chunk:
                    yield chunk
        except ClientDisconnect:
            self._caller_left.set()
            raise
        finally:
            self._body_is_read.set()


class _PassedThrough(Response):
    """The agent's answer as it comes, and what has to be given back when it is over."""

    def __init__(self, call: _Call, agent: _Agent, lease: Lease) -> None:
        super().__init__(status_code=agent.answer.status)
        ours = {headers.SESSION_ID: lease.key.session_id, headers.REQUEST_ID: call.request_id}
        dropped = headers.HOP_BY_HOP | _WRITTEN_BY_SERVER | ours.keys()
        if agent.answer.status in _BODILESS:
            dropped |= {"content-length"}
        self.raw_headers = [
            (name.lower(), value)
            for name, value in agent.answer.raw_headers
            if name.lower().decode("latin-1") not in dropped
        ] + [(name.encode(), value.encode()) for name, value in ours.items()]
        self._call = call
        self._agent = agent
        self._lease = lease

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        owner = TaskOwner()
        work = owner.spawn(self._relay(send), name="invocation:relay", is_awaited=True)
        leaving = owner.spawn(self._call.wait_left(), name="invocation:left")
        try:
            await asyncio.wait((work, leaving), return_when=asyncio.FIRST_COMPLETED)
            if work.done():
                work.result()
        finally:
            self._lease.release()
            await owner.aclose()
            await self._agent.aclose()

    async def _relay(self, send: Send) -> None:
        await send(
            {
                "type": "http.response.start",
                "status": self.status_code,
                "headers": self.raw_headers,
            }
        )
        try:
            async for chunk in self._agent.answer.content.iter_any():
                await send({"type": "http.response.body", "body": chunk, "more_body": True})
        except aiohttp.ClientError:
            # The head is out. Returning without the body's end makes uvicorn close the
            # connection short of it, so that the caller sees the answer isn't whole.
            _log.warning("session %s: the agent went away in mid-answer", self._lease.key)
        else:
            await send({"type": "http.response.body", "body": b""})


def _open(address: Address) -> aiohttp.ClientSession:
    connector: aiohttp.BaseConnector
    # No connection is kept: a kept one may be closed by the agent just as it is used.
    if address.path is not None:
        connector = aiohttp.UnixConnector(address.path, force_close=True)
    else:
        connector = aiohttp.TCPConnector(force_close=True)
    return aiohttp.ClientSession(
        connector=connector,
        # An invocation may take as long as its agent likes; the caller decides when to leave.
        timeout=aiohttp.ClientTimeout(total=None),
        auto_decompress=False,
        cookie_jar=aiohttp.DummyCookieJar(),
        skip_auto_headers=_NOT_ADDED,
        # The caller's own limit on a head holds; an agent's may be as large.
        max_line_size=_MAX_LINE_BYTES,
        max_field_size=_MAX_LINE_BYTES,
    )


def _target_of(request: Request) -> str:
    # What follows the first "/endpoint/protocols" is the agent's own path. Neither a project nor
    # an agent can have that in its name, and what isn't below /invocations isn't for here.
    path: bytes = request.scope["raw_path"].partition(b"/endpoint/protocols")[2]
    if not path.startswith(b"/invocations"):
        raise NotFoundError("nothing is at this path")
    query = routes.without_consumed(request.scope["query_string"].decode("latin-1"))
    return path.decode("latin-1") + ("?" + query if query else "")
