"""The operation that makes tickets: `POST …/endpoint/tickets`."""

import datetime as dt
from typing import Any, Final

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from trunkline.auth import noted
from trunkline.auth.caller import Caller
from trunkline.auth.grants import Permission
from trunkline.auth.origins import Origins
from trunkline.gateway import routes
from trunkline.gateway.services import GatewayServices
from trunkline.gateway.ticket_office import MAX_LIFETIME_S
from trunkline.protocol import headers
from trunkline.protocol.errors import (
    AgentNotFoundError,
    ConflictError,
    InvalidRequestError,
    OriginNotAllowedError,
)
from trunkline.protocol.ids import (
    SESSION_ID_RULE,
    AgentName,
    ProjectName,
    SessionId,
    SessionKey,
    is_session_id,
)
from trunkline.sessions.directory import new_session_id
from trunkline.store.interface import Store
from trunkline.web.body import json_object

#: The year 2100: nobody stays connected for longer.
_FAR_UNIX_S: Final = 4_102_444_800.0
_PATH: Final = "/api/projects/{project}/agents/{agent}/endpoint/tickets"


class Tickets:
    """The operation that makes tickets."""

    def __init__(self, services: GatewayServices, store: Store) -> None:
        self._services = services
        self._store = store

    def routes(self) -> list[Route]:
        return [
            Route(f"{_PATH}:renew", self.renew, methods=["POST"]),
            Route(_PATH, self.create_ticket, methods=["POST"]),
        ]

    async def create_ticket(self, request: Request) -> Response:
        """Make a ticket for one connection to a session of the caller's, there or yet to be."""
        caller, project, agent = await self._admit(request)
        body = await json_object(request, may_be_empty=True)
        # Whose the session is counts when the ticket is used: asking for one tells nothing.
        key = SessionKey(project, agent, _session_in(body))
        noted.session_is(key.session_id)
        ticket, expires_at = await self._services.tickets.issue(
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

    async def renew(self, request: Request) -> Response:
        """Let the caller's connections to a session go on for as long as this request's token."""
        caller, project, agent = await self._admit(request)
        if self._services.settings.on_expiry != "refresh":
            raise ConflictError(
                "connections here don't end with their token, or can't be renewed (on_expiry)"
            )
        body = await json_object(request)
        if not body.get("agent_session_id"):
            raise InvalidRequestError(
                "agent_session_id must name the session", param="agent_session_id"
            )
        key = SessionKey(project, agent, _session_in(body))
        until = _time_of(caller.expires_at)
        await self._store.add_renewal(key, caller.identity.owner, until)
        return JSONResponse(
            {"agent_session_id": key.session_id, "expires_at": int(until.timestamp())}
        )

    async def _admit(self, request: Request) -> tuple[Caller, ProjectName, AgentName]:
        services = self._services
        caller = await services.admission.admit(request.headers.get)
        routes.check_api_version(request.query_params.get(headers.QUERY_API_VERSION))
        project = services.projects.get(request.path_params["project"])
        agent = routes.parse_agent(request.path_params["agent"])
        caller.require(Permission.USE, project, agent)
        if await self._store.find_agent(project, agent) is None:
            raise AgentNotFoundError(f"no agent {agent!r} in project {project!r}")
        return caller, project, agent


def _time_of(unix_s: float) -> dt.datetime:
    if unix_s > _FAR_UNIX_S:
        return dt.datetime.fromtimestamp(_FAR_UNIX_S, dt.UTC)
    return dt.datetime.fromtimestamp(unix_s, dt.UTC)


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
