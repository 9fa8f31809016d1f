"""Passes HTTP invocations through to the session's agent, streaming both ways."""

import asyncio
import logging
import ssl
from collections.abc import AsyncIterator

import httpx2
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from trunkline.aio.tasks import TaskOwner
from trunkline.auth.identity import Identity
from trunkline.gateway import routes
from trunkline.gateway.reach import ConnectError, reach
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
from trunkline.sessions.directory import Lease, new_session_id

_log = logging.getLogger("trunkline.gateway")
_PREFIX = "/api/projects/{project}/agents/{agent}/endpoint/protocols"
_PROTOCOL = "invocations"
_DOCS = ("openapi.json", "asyncapi.json", "asyncapi.yaml")
#: What nginx logs for a client that left; nobody is there to get it.
_CLIENT_CLOSED_REQUEST = 499
#: uvicorn writes its own; two of one name would be a malformed answer.
_WRITTEN_BY_SERVER = frozenset({"date", "server"})


class Invocations:
    """The HTTP half of an agent's endpoint."""

    def __init__(self, services: GatewayServices) -> None:
        self._services = services
        # Agents are reached in plain HTTP. A context has to be given all the same, and making
        # one for each request would cost more than the request.
        self._no_tls = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)

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
        call = _Call(request, self._headers_for(request, identity), self._no_tls)
        try:
            lease, (client, response) = await reach(services, key, identity, _PROTOCOL, call.send)
        except ClientDisconnect:
            return Response(status_code=_CLIENT_CLOSED_REQUEST)
        return _PassedThrough(response, client, lease, call.request_id)

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

    def _headers_for(self, request: Request, identity: Identity) -> list[tuple[str, str]]:
        ours = {
            headers.USER_ID: self._services.pseudonyms.of(identity),
            headers.CALL_ID: new_call_id(),
            headers.REQUEST_ID: request_id_of(request.headers.get(headers.REQUEST_ID)),
        }
        named = [(n.decode("latin-1"), v.decode("latin-1")) for n, v in request.headers.raw]
        forwarded = [(n, v) for n, v in named if headers.reaches_agent(n) and n not in ours]
        return [*forwarded, *ours.items()]


class _Call:
    """One request on its way to an agent."""

    def __init__(
        self, request: Request, named: list[tuple[str, str]], no_tls: ssl.SSLContext
    ) -> None:
        self._request = request
        self._headers = named
        self._no_tls = no_tls
        self._target = _target_of(request)
        self._body_is_sent = asyncio.Event()
        self.request_id = dict(named)[headers.REQUEST_ID]

    async def send(self, lease: Lease) -> tuple[httpx2.AsyncClient, httpx2.Response]:
        """Send it and wait for the answer's head.

        Raises:
            ClientDisconnect: If the caller leaves first.
            ConnectError: If nobody listens.
            UpstreamError: If the agent ends the connection before it answers.
        """
        client = self._open(lease.address)
        try:
            return client, await self._race(client, self._outgoing(lease.address))
        except BaseException as exc:
            await client.aclose()
            if isinstance(exc, httpx2.ConnectError):
                raise ConnectError("the agent isn't listening; it may be ending") from exc
            if isinstance(exc, httpx2.TransportError):
                raise UpstreamError("the agent went away before it answered") from exc
            raise

    async def _race(self, client: httpx2.AsyncClient, outgoing: httpx2.Request) -> httpx2.Response:
        # The caller may leave while the agent thinks; then nobody waits for its answer.
        owner = TaskOwner()
        answer = owner.spawn(
            client.send(outgoing, stream=True), name="invocation:answer", is_awaited=True
        )
        leaving = owner.spawn(self._wait_left(), name="invocation:left")
        try:
            await asyncio.wait((answer, leaving), return_when=asyncio.FIRST_COMPLETED)
            if not answer.done():
                raise ClientDisconnect
            return answer.result()
        finally:
            await owner.aclose()

    async def _wait_left(self) -> None:
        await self._body_is_sent.wait()
        while (await self._request.receive())["type"] != "http.disconnect":
            pass

    async def _body(self) -> AsyncIterator[bytes]:
        async for chunk in self._request.stream():
            yield chunk
        self._body_is_sent.set()

    def _outgoing(self, address: Address) -> httpx2.Request:
        has_body = self._request.method == "POST"
        if not has_body:
            self._body_is_sent.set()
        host = "agent" if address.path is not None else f"127.0.0.1:{address.port}"
        return httpx2.Request(
            self._request.method,
            f"http://{host}/",
            headers=self._headers,
            content=self._body() if has_body else None,
            # As it was sent: a URL would be normalised, and a path could then leave its place.
            extensions={"target": self._target},
        )

    def _open(self, address: Address) -> httpx2.AsyncClient:
        # No connection is kept: a kept one may be closed by the agent just as it is used.
        transport = httpx2.AsyncHTTPTransport(
            uds=address.path,
            verify=self._no_tls,
            trust_env=False,
            limits=httpx2.Limits(max_keepalive_connections=0),
        )
        # An invocation may take as long as its agent likes; the caller decides when to leave.
        return httpx2.AsyncClient(transport=transport, timeout=None, trust_env=False)


def _target_of(request: Request) -> bytes:
    # What follows the first "/endpoint/protocols" is the agent's own path. Neither a project nor
    # an agent can have that in its name, and what isn't below /invocations isn't for here.
    path: bytes = request.scope["raw_path"].partition(b"/endpoint/protocols")[2]
    if not path.startswith(b"/invocations"):
        raise NotFoundError("nothing is at this path")
    query = routes.without_consumed(request.scope["query_string"].decode("latin-1"))
    return path + (b"?" + query.encode("latin-1") if query else b"")


class _PassedThrough(StreamingResponse):
    """The agent's answer, and what has to be given back when it is over."""

    def __init__(
        self, response: httpx2.Response, client: httpx2.AsyncClient, lease: Lease, request_id: str
    ) -> None:
        super().__init__(response.aiter_raw(), response.status_code)
        ours = {headers.SESSION_ID: lease.key.session_id, headers.REQUEST_ID: request_id}
        dropped = headers.HOP_BY_HOP | _WRITTEN_BY_SERVER | ours.keys()
        self.raw_headers = [
            (name.lower(), value)
            for name, value in response.headers.raw
            if name.lower().decode("latin-1") not in dropped
        ] + [(name.encode(), value.encode()) for name, value in ours.items()]
        self._lease = lease
        self._client = client

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        except httpx2.TransportError:
            # The head is out. Returning without the body's end makes uvicorn close the
            # connection short of it, so that the caller sees the answer isn't whole.
            _log.warning("session %s: the agent went away in mid-answer", self._lease.key)
        finally:
            self._lease.release()
            await self._client.aclose()
