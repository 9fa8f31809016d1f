"""Versions: made from JSON or a zip, built, listed, downloaded, deleted."""

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from trunkline.auth.grants import Permission
from trunkline.control import shapes
from trunkline.control.deletions import Deletions
from trunkline.control.paging import list_body, page_of
from trunkline.control.services import ControlServices
from trunkline.control.uploads import Uploads
from trunkline.manifest.definition import parse_create_version
from trunkline.protocol import headers
from trunkline.protocol.errors import (
    AgentNotFoundError,
    InvalidRequestError,
    NotFoundError,
    VersionNotFoundError,
)
from trunkline.protocol.ids import AgentName, ProjectName, VersionId
from trunkline.store.records import VersionRecord
from trunkline.web.body import flag

_AGENT = "/api/projects/{project}/agents/{agent}"


class Versions:
    """The operations on versions."""

    def __init__(self, services: ControlServices, uploads: Uploads, deletions: Deletions) -> None:
        self._services = services
        self._uploads = uploads
        self._deletions = deletions

    def routes(self) -> list[Route]:
        versions = f"{_AGENT}/versions"
        return [
            Route(versions, self.create_version, methods=["POST"]),
            Route(versions, self.list_versions, methods=["GET"]),
            Route(f"{versions}/{{version}}", self.get_version, methods=["GET"]),
            Route(f"{versions}/{{version}}", self.delete_version, methods=["DELETE"]),
            Route(f"{versions}/{{version}}/buildlog", self.get_build_log, methods=["GET"]),
            Route(f"{_AGENT}/code:download", self.download_code, methods=["GET"]),
        ]

    async def create_version(self, request: Request) -> Response:
        _, project, name = await self._services.admit_to_agent(request, Permission.DEPLOY)
        upload = await self._uploads.read(request)
        async with upload:
            body = parse_create_version(upload.body)
            if body.name is not None and body.name != name:
                raise InvalidRequestError(
                    f"name says {body.name[:64]!r}, and the path says {name!r}", param="name"
                )
            record = await self._uploads.add_version(project, name, body, upload)
        return JSONResponse(shapes.version(record))

    async def list_versions(self, request: Request) -> Response:
        _, project, name = await self._services.admit_to_agent(request, Permission.SEE)
        query = request.query_params
        await self._check_agent(project, name)
        page = await self._services.store.list_versions(
            project,
            name,
            page_of(query),
            with_drafts=flag(query.get("include_drafts"), "include_drafts", default=False),
        )
        return JSONResponse(list_body(page, shapes.version, lambda record: record.version))

    async def get_version(self, request: Request) -> Response:
        _, project, name = await self._services.admit_to_agent(request, Permission.SEE)
        record = await self._named(project, name, request)
        return JSONResponse(shapes.version(record, self._services.starts_of(record)))

    async def delete_version(self, request: Request) -> Response:
        _, project, name = await self._services.admit_to_agent(request, Permission.DEPLOY)
        record = await self._named(project, name, request)
        is_forced = flag(request.query_params.get("force"), "force", default=False)
        if not await self._deletions.delete_version(record, is_forced=is_forced):
            raise _no_version(record.agent, record.version)
        return JSONResponse(
            {
                "object": "agent.version.deleted",
                "name": record.agent,
                "version": record.version,
                "deleted": True,
            }
        )

    async def get_build_log(self, request: Request) -> Response:
        _, project, name = await self._services.admit_to_agent(request, Permission.SEE)
        record = await self._named(project, name, request)
        return PlainTextResponse(await run_in_threadpool(self._services.builds.read_log, record))

    async def download_code(self, request: Request) -> Response:
        _, project, name = await self._services.admit_to_agent(request, Permission.SEE)
        await self._check_agent(project, name)
        wanted = request.query_params.get("agent_version")
        store = self._services.store
        if wanted is None:
            record = await store.latest_version(project, name)
        else:
            record = await store.find_version(project, name, VersionId(wanted))
        if record is None:
            raise _no_version(name, wanted or "")
        path = self._services.builds.code_path(record)
        if path is None:
            raise NotFoundError(
                f"version {record.version} of agent {name!r} is made from an image and has no code"
            )
        return FileResponse(
            path,
            media_type="application/zip",
            filename=f"{name}-{record.version}.zip",
            headers={
                headers.CODE_SHA256: record.code_sha256,
                headers.AGENT_VERSION: record.version,
            },
        )

    async def _check_agent(self, project: ProjectName, name: AgentName) -> None:
        if await self._services.store.find_agent(project, name) is None:
            raise AgentNotFoundError(f"no agent {name!r} in project {project!r}")

    async def _named(
        self, project: ProjectName, name: AgentName, request: Request
    ) -> VersionRecord:
        version = VersionId(request.path_params["version"])
        await self._check_agent(project, name)
        record = await self._services.store.find_version(project, name, version)
        if record is None:
            raise _no_version(name, version)
        return record


def _no_version(name: AgentName, version: str) -> VersionNotFoundError:
    return VersionNotFoundError(f"agent {name!r} has no version {version[:64]!r}")
