"""The operation that makes tickets: `POST …/endpoint/tickets`."""

from typing import Any, Final

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from trunkline.auth.grants import Permission
from trunkline.auth.origins import Origins
from trunkline.gateway import routes
from trunkline.gateway.services import GatewayServices
from trunkline.gateway.ticket_office import MAX_LIFETIME_S
from trunkline.protocol import headers
from trunkline.protocol.errors import (
    AgentNotFoundError,
    InvalidRequestError,
    OriginNotAllowedError,
)
from trunkline.protocol.ids import SESSION_ID_RULE, SessionId, SessionKey, is_session_id
from trunkline.sessions.directory import new_session_id
from trunkline.store.interface import AgentStore
from trunkline.web.body import json_object

_PATH: Final = "/api/projects/{project}/agents/{agent}/endpoint/tickets"


class Tickets:
    """The operation that makes tickets."""

    def __init__(self, services: GatewayServices, store: AgentStore) -> None:
        self._services = services
        self._store = store

    def routes(self) -> list[Route]:
        return [Route(_PATH, self.create_ticket, methods=["POST"])]

    async def create_ticket(self, request: Request) -> Response:
        """Make a ticket for one connection to a session of the caller's, there or yet to be."""
        services = self._services
        caller = await services.admission.admit(request.headers.get)
        routes.check_api_version(request.query_params.get(headers.QUERY_API_VERSION))
        project = services.projects.get(request.path_params["project"])
        agent = routes.parse_agent(request.path_params["agent"])
        caller.require(Permission.USE, project, agent)
        if await self._store.find_agent(project, agent) is None:
            raise AgentNotFoundError(f"no agent {agent!r} in project {project!r}")
        body = await json_object(request, may_be_empty=True)
        # Whose the session is counts when the ticket is used: asking for one tells nothing.
        key = SessionKey(project, agent, _session_in(body))
        ticket, expires_at = await services.tickets.issue(
            caller, key, origin=_origin_in(body), lifetime_s=_lifetime_in(body)
        )
        return JSONResponse(
            {
                "ticket": ticket,
                "agent_session_id": key.session_id,
                "expires_at": int(expires_at.timestamp()),
            },
            201,
            headers={"cache-control": "no-store"},
        )


def _session_in(body: dict[str, Any]) -> SessionId:
    given = body.get("agent_session_id")
    if given is None or given == "":
        return new_session_id()
    if not isinstance(given, str) or not is_session_id(given):
        raise InvalidRequestError(
            f"agent_session_id must be {SESSION_ID_RULE}", param="agent_session_id"
        )
    return SessionId(given)


def _origin_in(body: dict[str, Any]) -> str | None:
    given = body.get("origin")
    if given is None:
        return None
    try:
        if not isinstance(given, str):
            raise ValueError
        Origins([given]).check(given, None)
    except (ValueError, OriginNotAllowedError):
        raise InvalidRequestError(
            "origin must be such as https://app.example.com", param="origin"
        ) from None
    return given


def _lifetime_in(body: dict[str, Any]) -> float:
    given = body.get("expires_in_s", MAX_LIFETIME_S)
    if isinstance(given, bool) or not isinstance(given, int | float):
        raise InvalidRequestError("expires_in_s must be a number", param="expires_in_s")
    if not 1 <= given <= MAX_LIFETIME_S:
        raise InvalidRequestError(
            f"expires_in_s must be between 1 and {MAX_LIFETIME_S}", param="expires_in_s"
        )
    return float(given)
