"""The audit log, read by admins."""

from collections.abc import Awaitable, Callable
from typing import Any, Final

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from trunkline.auth.grants import ANY, Permission
from trunkline.control.paging import limit_of
from trunkline.control.services import ControlServices
from trunkline.protocol.ids import ProjectName
from trunkline.store.records import AuditFilter, AuditRecord

_PATH: Final = "/api/projects/{project}/audit"
_ALL_PATH: Final = "/api/audit"


class Audit:
    """The operations on the audit log: reading it. Nothing changes or removes an entry."""

    def __init__(self, services: ControlServices, flush: Callable[[], Awaitable[None]]) -> None:
        """Make them.

        Args:
            services: The pieces of the control plane.
            flush: Writes what this process has recorded and not yet written, so that whoever has
                just done something finds it.
        """
        self._services = services
        self._flush = flush

    def routes(self) -> list[Route]:
        return [
            Route(_PATH, self.list_audit, methods=["GET"]),
            Route(_ALL_PATH, self.list_all_audit, methods=["GET"]),
        ]

    async def list_audit(self, request: Request) -> Response:
        """Return a project's entries, the newest first."""
        _, project = await self._services.admit(request, Permission.ADMINISTER)
        return await self._answer(request, project)

    async def list_all_audit(self, request: Request) -> Response:
        """Return the entries of all projects and of none, for those who may see all of them.

        What is about no project is what nobody's project was: tokens that were refused before it
        was known, and revocations.
        """
        caller = await self._services.admission.admit(request.headers.get)
        caller.require(Permission.ADMINISTER, ProjectName(ANY))
        return await self._answer(request, None)

    async def _answer(self, request: Request, project: ProjectName | None) -> Response:
        query = request.query_params
        limit = limit_of(query)
        wanted = AuditFilter(
            agent=query.get("agent"),
            session_id=query.get("agent_session_id"),
            identity=query.get("identity"),
            action=query.get("action"),
        )
        await self._flush()
        found = await self._services.store.list_audit(
            project, wanted, limit=limit + 1, before=query.get("after")
        )
        body: dict[str, Any] = {
            "object": "list",
            "data": [_shape(record) for record in found[:limit]],
            "has_more": len(found) > limit,
        }
        if len(found) > limit:
            body["last_id"] = found[limit - 1].entry_id
        return JSONResponse(body)


def _shape(record: AuditRecord) -> dict[str, Any]:
    return {
        "id": record.entry_id,
        "at": record.at.isoformat(timespec="microseconds"),
        "project": record.project,
        "action": record.action,
        "status": record.status,
        "agent": record.agent,
        "agent_session_id": record.session_id,
        "identity": record.identity,
        "acting_for": record.acting_for,
        "credential": record.credential,
        "address": record.address,
        "request_id": record.request_id,
    }
