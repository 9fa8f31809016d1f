"""Agents: what they are called, whether they take calls, and how their endpoint behaves."""

from collections.abc import Collection, Mapping
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from trunkline.auth.grants import Permission
from trunkline.control import shapes
from trunkline.control.deletions import Deletions
from trunkline.control.merge_patch import merge_patch
from trunkline.control.paging import list_body, page_of
from trunkline.control.services import ControlServices
from trunkline.control.uploads import Uploads
from trunkline.manifest.definition import parse_agent_settings, parse_create_version
from trunkline.protocol import headers
from trunkline.protocol.errors import AgentNotFoundError, ConflictError, InvalidRequestError
from trunkline.protocol.ids import AGENT_NAME_RULE, AgentName, ProjectName, is_agent_name
from trunkline.sessions.live import AgentNow
from trunkline.sessions.selection import LATEST, routed_versions
from trunkline.store.records import AgentRecord
from trunkline.web.body import flag, json_object

AgentsNow = Mapping[tuple[ProjectName, AgentName], AgentNow]
_PREFIX = "/api/projects/{project}/agents"
#: What the first version of an agent is called.
_FIRST_VERSION = "1"


class Agents:
    """The operations on agents."""

    def __init__(self, services: ControlServices, uploads: Uploads, deletions: Deletions) -> None:
        self._services = services
        self._uploads = uploads
        self._deletions = deletions

    def routes(self) -> list[Route]:
        agent = f"{_PREFIX}/{{agent}}"
        return [
            Route(_PREFIX, self.list_agents, methods=["GET"]),
            Route(_PREFIX, self.create_agent, methods=["POST"]),
            # The verbs come first: a name that ends in one isn't an agent's.
            Route(f"{agent}:enable", self.enable_agent, methods=["POST"]),
            Route(f"{agent}:disable", self.disable_agent, methods=["POST"]),
            Route(agent, self.get_agent, methods=["GET"]),
            Route(agent, self.update_agent, methods=["POST"]),
            Route(agent, self.patch_agent, methods=["PATCH"]),
            Route(agent, self.delete_agent, methods=["DELETE"]),
        ]

    async def list_agents(self, request: Request) -> Response:
        _, project = await self._services.admit(request, Permission.SEE)
        page = await self._services.store.list_agents(project, page_of(request.query_params))
        now = await self._services.live.agents()
        shapes_of = {record.name: await self._shape(record, now) for record in page.items}
        return JSONResponse(
            list_body(page, lambda record: shapes_of[record.name], lambda record: record.name)
        )

    async def get_agent(self, request: Request) -> Response:
        _, project, name = await self._services.admit_to_agent(request, Permission.SEE)
        return JSONResponse(await self._shape(await self._find(project, name)))

    async def create_agent(self, request: Request) -> Response:
        """Make an agent with its first version; the name is in the body, or in a header."""
        caller, project = await self._services.admit_to_some_agent(request, Permission.DEPLOY)
        upload = await self._uploads.read(request)
        async with upload:
            body = parse_create_version(upload.body)
            name = body.name or request.headers.get(headers.AGENT_NAME, "")
            if not is_agent_name(name):
                raise InvalidRequestError(f"name must be {AGENT_NAME_RULE}", param="name")
            caller.require(Permission.DEPLOY, project, AgentName(name))
            if await self._services.store.find_agent(project, AgentName(name)) is not None:
                raise ConflictError(
                    f"agent {name!r} is there already; add a version with POST /agents/{name}"
                )
            _check_rules(upload.body, set() if body.draft else {_FIRST_VERSION})
            await self._uploads.add_version(project, AgentName(name), body, upload)
            await self._apply(project, AgentName(name), upload.body)
        return JSONResponse(await self._shape(await self._find(project, AgentName(name))))

    async def update_agent(self, request: Request) -> Response:
        """Add a version if the definition changed, and take over endpoint and card."""
        _, project, name = await self._services.admit_to_agent(request, Permission.DEPLOY)
        await self._find(project, name)
        upload = await self._uploads.read(request)
        async with upload:
            body = parse_create_version(upload.body)
            _check_name(body.name, name)
            await self._check_versions(project, name, upload.body)
            await self._uploads.add_version(project, name, body, upload)
            await self._apply(project, name, upload.body)
        return JSONResponse(await self._shape(await self._find(project, name)))

    async def _apply(self, project: ProjectName, name: AgentName, body: dict[str, Any]) -> None:
        # Already checked, as a part of the whole body.
        endpoint, card = body.get("agent_endpoint"), body.get("agent_card")
        if endpoint is not None or card is not None:
            await self._services.store.update_agent(project, name, endpoint=endpoint, card=card)

    async def patch_agent(self, request: Request) -> Response:
        _, project, name = await self._services.admit_to_agent(request, Permission.DEPLOY)
        patch = await json_object(request)
        record = await self._find(project, name)
        stored = {"agent_endpoint": dict(record.endpoint), "agent_card": record.card}
        wanted = {part: patch[part] for part in stored if part in patch}
        merged = merge_patch({k: v for k, v in stored.items() if v is not None}, wanted)
        settings = parse_agent_settings(merged).to_wire()
        if "agent_endpoint" in wanted:
            await self._check_versions(project, name, settings)
        changed = await self._services.store.update_agent(
            project,
            name,
            endpoint=settings.get("agent_endpoint", {}) if "agent_endpoint" in wanted else None,
            card=settings.get("agent_card", {}) if "agent_card" in wanted else None,
        )
        if changed is None:
            raise _no_agent(project, name)
        return JSONResponse(await self._shape(changed))

    async def _check_versions(
        self, project: ProjectName, name: AgentName, body: Mapping[str, Any]
    ) -> None:
        store = self._services.store
        there = {
            version
            for version in routed_versions(body.get("agent_endpoint") or {})
            if await store.find_version(project, name, version) is not None
        }
        _check_rules(body, there)

    async def enable_agent(self, request: Request) -> Response:
        return await self._switch(request, is_enabled=True)

    async def disable_agent(self, request: Request) -> Response:
        return await self._switch(request, is_enabled=False)

    async def _switch(self, request: Request, *, is_enabled: bool) -> Response:
        _, project, name = await self._services.admit_to_agent(request, Permission.DEPLOY)
        changed = await self._services.store.update_agent(project, name, is_enabled=is_enabled)
        if changed is None:
            raise _no_agent(project, name)
        return Response(status_code=204)

    async def delete_agent(self, request: Request) -> Response:
        _, project, name = await self._services.admit_to_agent(request, Permission.DEPLOY)
        is_forced = flag(request.query_params.get("force"), "force", default=False)
        if not await self._deletions.delete_agent(project, name, is_forced=is_forced):
            raise _no_agent(project, name)
        return JSONResponse({"object": "agent.deleted", "name": name, "deleted": True})

    async def _find(self, project: ProjectName, name: AgentName) -> AgentRecord:
        record = await self._services.store.find_agent(project, name)
        if record is None:
            raise _no_agent(project, name)
        return record

    async def _shape(self, record: AgentRecord, all_now: AgentsNow | None = None) -> dict[str, Any]:
        store = self._services.store
        latest = await store.latest_version(record.project, record.name)
        running = await store.count_running(record.project, record.name)
        if all_now is None:
            all_now = await self._services.live.agents()
        now = all_now.get((record.project, record.name), AgentNow())
        starts = None if latest is None else self._services.starts_of(latest)
        return shapes.agent(record, latest, running, now, starts)


def _no_agent(project: ProjectName, name: AgentName) -> AgentNotFoundError:
    return AgentNotFoundError(f"no agent {name!r} in project {project!r}")


def _check_rules(body: Mapping[str, Any], there: Collection[str]) -> None:
    """Refuse rules that send sessions to versions that the agent doesn't have."""
    missing = routed_versions(body.get("agent_endpoint") or {}) - set(there)
    if missing:
        raise InvalidRequestError(
            f"the agent has no version {', '.join(sorted(missing))[:64]}; a rule names one that "
            f"is there, or {LATEST}",
            param="agent_endpoint.version_selector.version_selection_rules",
        )


def _check_name(given: str | None, name: AgentName) -> None:
    if given is not None and given != name:
        raise InvalidRequestError(
            f"name says {given[:64]!r}, and the path says {name!r}; leave it out", param="name"
        )
