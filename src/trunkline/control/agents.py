"""Agents and their versions."""

import hashlib
import json
import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from starlette.concurrency import run_in_threadpool
from starlette.datastructures import UploadFile
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from trunkline.control import shapes
from trunkline.control.body import limited
from trunkline.control.services import ControlServices, agent_of
from trunkline.manifest.definition import CreateVersionRequest, parse_create_version
from trunkline.protocol import headers
from trunkline.protocol.errors import (
    AgentNotFoundError,
    InvalidRequestError,
    VersionNotFoundError,
)
from trunkline.protocol.ids import AgentName, ProjectName, VersionId
from trunkline.store.records import AgentRecord, NewVersion, VersionRecord

_PREFIX = "/api/projects/{project}/agents"
MAX_CODE_BYTES = 250 * 1024 * 1024
_MAX_UPLOAD_BYTES = MAX_CODE_BYTES + 2 * 1024 * 1024


class Agents:
    """The operations on agents and versions."""

    def __init__(self, services: ControlServices) -> None:
        self._services = services

    def routes(self) -> list[Route]:
        version = f"{_PREFIX}/{{agent}}/versions"
        return [
            Route(_PREFIX, self.list_agents, methods=["GET"]),
            Route(f"{_PREFIX}/{{agent}}", self.get_agent, methods=["GET"]),
            Route(version, self.create_version, methods=["POST"]),
            Route(version, self.list_versions, methods=["GET"]),
            Route(f"{version}/{{version}}", self.get_version, methods=["GET"]),
            Route(f"{version}/{{version}}/buildlog", self.get_build_log, methods=["GET"]),
        ]

    async def list_agents(self, request: Request) -> Response:
        _, project = self._services.admit(request)
        records = await self._services.store.list_agents(project)
        agents = [await self._shape(record) for record in records]
        return JSONResponse(shapes.page(agents, "name"))

    async def get_agent(self, request: Request) -> Response:
        _, project = self._services.admit(request)
        name = agent_of(request)
        record = await self._services.store.find_agent(project, name)
        if record is None:
            raise AgentNotFoundError(f"no agent {name!r} in project {project!r}")
        return JSONResponse(await self._shape(record))

    async def _shape(self, record: AgentRecord) -> dict[str, Any]:
        store, sessions = self._services.store, self._services.sessions
        latest = await store.latest_version(record.project, record.name)
        assert latest is not None, "an agent is made with its first version"
        running = [
            session
            for session in await store.list_sessions(record.project, record.name)
            if sessions.is_running(session.key)
        ]
        return shapes.agent(record, latest, len(running))

    async def list_versions(self, request: Request) -> Response:
        _, project = self._services.admit(request)
        name = agent_of(request)
        records = await self._services.store.list_versions(project, name)
        if not records:
            raise AgentNotFoundError(f"no agent {name!r} in project {project!r}")
        return JSONResponse(shapes.page([shapes.version(r) for r in records], "id"))

    async def get_version(self, request: Request) -> Response:
        _, project = self._services.admit(request)
        return JSONResponse(shapes.version(await self._find(request, project)))

    async def get_build_log(self, request: Request) -> Response:
        _, project = self._services.admit(request)
        record = await self._find(request, project)
        return PlainTextResponse(await run_in_threadpool(self._services.builds.read_log, record))

    async def _find(self, request: Request, project: ProjectName) -> VersionRecord:
        name, version = agent_of(request), VersionId(request.path_params["version"])
        record = await self._services.store.find_version(project, name, version)
        if record is None:
            raise VersionNotFoundError(f"agent {name!r} has no version {version[:32]!r}")
        return record

    async def create_version(self, request: Request) -> Response:
        _, project = self._services.admit(request)
        name = agent_of(request)
        if not request.headers.get("content-type", "").startswith("multipart/form-data"):
            raise InvalidRequestError(
                "send the version's code as multipart/form-data with the parts `metadata` and "
                "`code`; agents from an image need a container runtime, and this platform has none"
            )
        form = await limited(request, _MAX_UPLOAD_BYTES).form(max_files=2, max_fields=8)
        try:
            body = await _metadata_of(form.get("metadata"))
            code = form.get("code")
            if not isinstance(code, UploadFile):
                raise InvalidRequestError("the part `code` with the zip file is missing")
            upload = self._services.builds.upload_path(f"{secrets.token_hex(8)}.zip")
            try:
                sha256 = await run_in_threadpool(_save, code, upload)
                _check_sha256(request.headers.get(headers.CODE_SHA256), sha256)
                record = await self._add(project, name, body, sha256, upload)
            finally:
                upload.unlink(missing_ok=True)
        finally:
            await form.close()
        return JSONResponse(shapes.version(record))

    async def _add(
        self,
        project: ProjectName,
        name: AgentName,
        body: CreateVersionRequest,
        sha256: str,
        upload: Path,
    ) -> VersionRecord:
        definition = body.definition.to_wire()
        _check_text([definition, body.description, body.metadata])
        record, is_new = await self._services.store.add_version(
            NewVersion(
                project=project,
                agent=name,
                definition=definition,
                description=body.description,
                metadata=body.metadata or {},
                content_hash=_content_hash(definition, sha256),
                code_sha256=sha256,
            )
        )
        if is_new:
            self._services.builds.start(record, upload)
        return record


async def _metadata_of(part: Any) -> CreateVersionRequest:
    if isinstance(part, UploadFile):
        return parse_create_version(await part.read())
    if isinstance(part, str):
        return parse_create_version(part)
    raise InvalidRequestError("the part `metadata` with the version's definition is missing")


def _save(code: UploadFile, path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("wb") as file:
        while chunk := code.file.read(1024 * 1024):
            digest.update(chunk)
            file.write(chunk)
    return digest.hexdigest()


def _check_sha256(announced: str | None, actual: str) -> None:
    if announced is not None and announced.lower() != actual:
        raise InvalidRequestError(
            f"{headers.CODE_SHA256} says {announced[:64]}, and the zip that arrived has {actual}",
            param=headers.CODE_SHA256,
        )


def _check_text(values: Any) -> None:
    # JSON can spell half of a surrogate pair, which is no character and can't be stored.
    try:
        json.dumps(values, ensure_ascii=False).encode()
    except UnicodeEncodeError as exc:
        raise InvalidRequestError(
            "the part `metadata` has a text with half of a surrogate pair in it", param="metadata"
        ) from exc


def _content_hash(definition: Mapping[str, Any], code_sha256: str) -> str:
    text = json.dumps(definition, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(f"{text}\n{code_sha256}".encode()).hexdigest()
