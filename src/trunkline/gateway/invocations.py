"""The HTTP half of an agent's endpoint: invocations, passed through as they are."""

from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route

from trunkline.auth import noted
from trunkline.auth.grants import Permission
from trunkline.gateway import routes
from trunkline.gateway.forwarding import PassedThrough, agent_headers
from trunkline.gateway.reach import reach
from trunkline.gateway.responses import CLIENT_CLOSED_REQUEST
from trunkline.gateway.services import GatewayServices
from trunkline.gateway.streaming import Call
from trunkline.protocol import headers
from trunkline.protocol.errors import NotFoundError, UpgradeRequiredError
from trunkline.protocol.ids import SessionKey
from trunkline.sessions.directory import new_session_id

_PREFIX = "/api/projects/{project}/agents/{agent}/endpoint/protocols"
_PROTOCOL = "invocations"
_DOCS = ("openapi.json", "asyncapi.json", "asyncapi.yaml")


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
        await self._services.admission.admit(request.headers.get)
        raise UpgradeRequiredError("this endpoint speaks WebSocket: send an upgrade request")

    async def forward(self, request: Request) -> Response:
        services = self._services
        caller = await services.admission.admit(request.headers.get)
        key, is_named = self._key_of(request)
        noted.session_is(key.session_id)
        caller.require(Permission.USE, key.project, key.agent)
        call = Call(
            request,
            agent_headers(request, caller, services),
            _target_of(request),
            sweep=services.sweep,
        )
        try:
            lease, agent = await reach(
                services, key, caller, _PROTOCOL, call.send, is_named=is_named
            )
        except ClientDisconnect:
            return Response(status_code=CLIENT_CLOSED_REQUEST)
        noted.session_is(lease.key.session_id)
        return PassedThrough(call, agent, lease)

    def _key_of(self, request: Request) -> tuple[SessionKey, bool]:
        """Return the session's key, and whether the caller has named it."""
        values = routes.parse_query(request.scope["query_string"].decode("latin-1"))
        routes.check_api_version(next(iter(values.get(headers.QUERY_API_VERSION, ())), None))
        named = routes.parse_session_id(values)
        key = SessionKey(
            self._services.projects.get(request.path_params["project"]),
            routes.parse_agent(request.path_params["agent"]),
            named or new_session_id(),
        )
        return key, named is not None


def _target_of(request: Request) -> str:
    # What follows the first "/endpoint/protocols" is the agent's own path. Neither a project nor
    # an agent can have that in its name, and what isn't below /invocations isn't for here.
    path: bytes = request.scope["raw_path"].partition(b"/endpoint/protocols")[2]
    if not path.startswith(b"/invocations"):
        raise NotFoundError("nothing is at this path")
    query = routes.without_consumed(request.scope["query_string"].decode("latin-1"))
    return path.decode("latin-1") + ("?" + query if query else "")
