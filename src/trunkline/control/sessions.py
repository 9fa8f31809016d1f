"""Sessions: made ahead of their first call, listed, stopped, deleted."""

from collections.abc import Sequence
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from trunkline.aio.threads import in_thread
from trunkline.auth import noted
from trunkline.auth.grants import Permission
from trunkline.control import shapes
from trunkline.control.paging import limit_of, list_body, page_of
from trunkline.control.services import ControlServices, session_id_of
from trunkline.protocol.errors import AgentNotFoundError, InvalidRequestError, UnavailableError
from trunkline.protocol.ids import (
    SESSION_ID_RULE,
    AgentName,
    ProjectName,
    SessionId,
    SessionKey,
    is_session_id,
)
from trunkline.sessions.directory import new_session_id
from trunkline.sessions.ownership import not_accessible
from trunkline.sessions.selection import LATEST
from trunkline.store.records import SessionRecord
from trunkline.web.body import json_object

_SESSIONS = "/api/projects/{project}/agents/{agent}/endpoint/sessions"


class Sessions:
    """The operations on sessions."""

    def __init__(self, services: ControlServices) -> None:
        self._services = services

    def routes(self) -> list[Route]:
        session = f"{_SESSIONS}/{{session}}"
        return [
            Route(_SESSIONS, self.create_session, methods=["POST"]),
            Route(_SESSIONS, self.list_sessions, methods=["GET"]),
            Route(f"{session}:stop", self.stop_session, methods=["POST"]),
            Route(f"{session}/connections", self.list_connections, methods=["GET"]),
            Route(session, self.get_session, methods=["GET"]),
            Route(session, self.delete_session, methods=["DELETE"]),
        ]

    async def create_session(self, request: Request) -> Response:
        """Make a session; sending the same request again finds the one that is there."""
        caller, project, name = await self._services.admit_to_agent(request, Permission.USE)
        if self._services.draining.is_set():
            raise UnavailableError("the platform is restarting; try again")
        body = await json_object(request, may_be_empty=True)
        named = _id_in(body)
        key = SessionKey(project, name, named or new_session_id())
        noted.session_is(key.session_id)
        record = await self._services.sessions.create(
            key, caller, version=_version_in(body), is_named=named is not None
        )
        noted.session_is(record.key.session_id)
        return JSONResponse(shapes.session(record), 201)

    async def list_sessions(self, request: Request) -> Response:
        project, name, owner = await self._services.admit_to_sessions(request)
        store = self._services.store
        if await store.find_agent(project, name) is None:
            raise AgentNotFoundError(f"no agent {name!r} in project {project!r}")
        page = await store.list_sessions(project, name, page_of(request.query_params), owner=owner)
        bodies = {record.key: shapes.session(record) for record in page.items}
        if _includes_usage(request):
            for key, usage in (await self._usage(project, name, page.items)).items():
                bodies[key]["usage"] = usage
        return JSONResponse(
            list_body(page, lambda record: bodies[record.key], lambda r: r.key.session_id)
        )

    async def get_session(self, request: Request) -> Response:
        record = await self._services.find_session(request)
        body = shapes.session(record)
        if _includes_usage(request):
            self._services.sessions.refuse_elsewhere(record)
            key = record.key
            body["usage"] = (await self._usage(key.project, key.agent, [record]))[key]
        return JSONResponse(body)

    async def _usage(
        self, project: ProjectName, name: AgentName, records: Sequence[SessionRecord]
    ) -> dict[SessionKey, dict[str, Any] | None]:
        """Return what sessions use; None of one that doesn't run here."""
        use_of = self._services.sessions.use_of
        # It reads files, a few for each.
        uses = await in_thread(lambda: {record.key: use_of(record) for record in records})
        open_now = await self._services.live.connections(project, name)
        return {
            key: None if use is None else shapes.usage(use, open_now.get(key, ()))
            for key, use in uses.items()
        }

    async def list_connections(self, request: Request) -> Response:
        """Tell how the session's last connections ended, or of those that are open."""
        record = await self._services.find_session(request)
        most = limit_of(request.query_params)
        state = request.query_params.get("state", "closed")
        if state not in ("open", "closed"):
            raise InvalidRequestError("state must be open or closed", param="state")
        self._services.sessions.refuse_elsewhere(record)
        if state == "open":
            key = record.key
            now = await self._services.live.connections(key.project, key.agent)
            return JSONResponse({"object": "list", "data": list(now.get(key, ()))[:most]})
        kept = self._services.sessions.logs.of(record.home).connections
        return JSONResponse({"object": "list", "data": await in_thread(kept.last, most)})

    async def stop_session(self, request: Request) -> Response:
        """End the session's process; one that has none is as good as stopped."""
        record = await self._services.find_session(request)
        self._services.sessions.refuse_elsewhere(record)
        await self._services.sessions.stop(record.key, home=record.home)
        return Response(status_code=204)

    async def delete_session(self, request: Request) -> Response:
        """Remove the session and its files; the caller's own that is gone is as good as deleted."""
        project, name, owner = await self._services.admit_to_sessions(request)
        key = SessionKey(project, name, session_id_of(request))
        record = await self._services.store.find_session(key)
        if record is not None and owner in (None, record.owner):
            self._services.sessions.refuse_elsewhere(record)
            await self._services.sessions.delete(record)
        elif owner is not None and not await self._services.store.had_session(key, owner):
            raise not_accessible(key)
        return Response(status_code=204)


def _includes_usage(request: Request) -> bool:
    included = request.query_params.get("include")
    if included not in (None, "usage"):
        raise InvalidRequestError("include must be usage", param="include")
    return included is not None


def _id_in(body: dict[str, Any]) -> SessionId | None:
    given = body.get("agent_session_id")
    if given is None or given == "":
        return None
    if not isinstance(given, str) or not is_session_id(given):
        raise InvalidRequestError(
            f"agent_session_id must be {SESSION_ID_RULE}", param="agent_session_id"
        )
    return SessionId(given)


def _version_in(body: dict[str, Any]) -> str | None:
    indicator = body.get("version_indicator")
    if indicator is None:
        return None
    if not isinstance(indicator, dict) or indicator.get("type", "version_ref") != "version_ref":
        raise InvalidRequestError(
            'version_indicator must be such as {"type": "version_ref", "agent_version": "3"}',
            param="version_indicator",
        )
    version = indicator.get("agent_version")
    if not isinstance(version, str) or not version:
        raise InvalidRequestError(
            'version_indicator.agent_version must be a version as text, such as "3"',
            param="version_indicator.agent_version",
        )
    if version == LATEST:
        raise InvalidRequestError(
            f"version_indicator.agent_version must be one version; leave version_indicator out "
            f"for {LATEST}",
            param="version_indicator.agent_version",
        )
    return version
