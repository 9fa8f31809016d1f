"""Passes HTTP invocations through to the session's agent, streaming both ways."""

import ssl

import httpx2
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from trunkline.auth.identity import Identity
from trunkline.gateway import routes
from trunkline.gateway.services import GatewayServices
from trunkline.gateway.upgrade import new_call_id, request_id_of
from trunkline.protocol import headers
from trunkline.protocol.errors import InvalidRequestError, UpgradeRequiredError, UpstreamError
from trunkline.protocol.ids import SessionKey
from trunkline.runtimes.interface import Address
from trunkline.sessions.directory import Lease, new_session_id

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
        request_id = request_id_of(request.headers.get(headers.REQUEST_ID))
        lease = await services.sessions.acquire(key, identity, protocol=_PROTOCOL)
        client = self._open(lease.address)
        try:
            response = await client.send(
                self._outgoing(request, lease.address, identity, request_id), stream=True
            )
        except BaseException as exc:
            lease.release()
            await client.aclose()
            if isinstance(exc, ClientDisconnect):
                return Response(status_code=_CLIENT_CLOSED_REQUEST)
            if isinstance(exc, httpx2.ConnectError):
                raise UpstreamError("the agent isn't listening; it is ending: try again") from exc
            if isinstance(exc, httpx2.TransportError):
                raise UpstreamError("the agent went away before it answered") from exc
            raise
        return _PassedThrough(response, client, lease, request_id)

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

    def _outgoing(
        self, request: Request, address: Address, identity: Identity, request_id: str
    ) -> httpx2.Request:
        # Everything after the last "/protocols" is the agent's own path, byte for byte.
        path = request.scope["raw_path"].decode("latin-1").rpartition("/protocols")[2]
        query = routes.without_consumed(request.scope["query_string"].decode("latin-1"))
        ours = {
            headers.USER_ID: self._services.pseudonyms.of(identity),
            headers.CALL_ID: new_call_id(),
            headers.REQUEST_ID: request_id,
        }
        named = [(n.decode("latin-1"), v.decode("latin-1")) for n, v in request.headers.raw]
        forwarded = [(n, v) for n, v in named if headers.reaches_agent(n) and n not in ours]
        host = "agent" if address.path is not None else f"127.0.0.1:{address.port}"
        return httpx2.Request(
            request.method,
            f"http://{host}{path}{'?' + query if query else ''}",
            headers=[*forwarded, *ours.items()],
            content=request.stream() if request.method == "POST" else None,
        )

    def _open(self, address: Address) -> httpx2.AsyncClient:
        # No connection is kept: a kept one may be closed by the agent just as it is used.
        transport = httpx2.AsyncHTTPTransport(
            uds=address.path,
            verify=self._no_tls,
            trust_env=False,
            limits=httpx2.Limits(max_keepalive_connections=0),
        )
        # An invocation may take as long as its agent likes; the client decides when to leave.
        return httpx2.AsyncClient(transport=transport, timeout=None, trust_env=False)


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
        except httpx2.TransportError as exc:
            # The head is out: all that is left is to end the connection short of the body's
            # end, so that the caller sees it isn't whole.
            raise UpstreamError("the agent went away in the middle of its answer") from exc
        finally:
            self._lease.release()
            await self._client.aclose()
