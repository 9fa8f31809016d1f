"""What a version is made of, as clients send it: JSON alone, or JSON and a zip."""

import hashlib
import json
import secrets
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

from starlette.concurrency import run_in_threadpool
from starlette.datastructures import UploadFile
from starlette.requests import Request

from trunkline.control.builds import VersionBuilds
from trunkline.manifest.definition import CreateVersionRequest
from trunkline.manifest.unpack import check_package
from trunkline.protocol import headers
from trunkline.protocol.errors import InvalidRequestError
from trunkline.protocol.ids import AgentName, NodeId, ProjectName
from trunkline.sessions.agent_secrets import AgentSecrets
from trunkline.store.interface import Store
from trunkline.store.records import NewVersion, VersionRecord
from trunkline.web.body import json_object, limited, parse_json_object

MAX_CODE_BYTES = 250 * 1024 * 1024
_MAX_UPLOAD_BYTES = MAX_CODE_BYTES + 2 * 1024 * 1024
_CHUNK_BYTES = 1024 * 1024


class Upload:
    """One request's definition and, unless it is for an image, its zip in a file of its own."""

    def __init__(self, body: dict[str, Any], code: Path | None, sha256: str) -> None:
        self.body = body
        self.code = code
        self.sha256 = sha256

    async def __aenter__(self) -> "Upload":
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self.code is not None:
            self.code.unlink(missing_ok=True)


class Uploads:
    """Takes versions in."""

    def __init__(
        self,
        *,
        store: Store,
        builds: VersionBuilds,
        secrets: AgentSecrets,
        node: NodeId,
        max_versions: int,
    ) -> None:
        self._store = store
        self._builds = builds
        self._secrets = secrets
        self._node = node
        self._max_versions = max_versions

    async def read(self, request: Request) -> Upload:
        """Read a request's body whole.

        Raises:
            InvalidRequestError: If it isn't of the right form, or not what its hash says.
            TooLargeError: If there is too much of it.
        """
        if not request.headers.get("content-type", "").startswith("multipart/form-data"):
            return Upload(await json_object(request), None, "")
        async with limited(request, _MAX_UPLOAD_BYTES).form(max_files=2, max_fields=8) as form:
            body = await _metadata_of(form.get("metadata"))
            code = form.get("code")
            if not isinstance(code, UploadFile):
                raise InvalidRequestError(
                    "the part `code` with the zip file is missing", param="code"
                )
            path = self._builds.upload_path(f"{secrets.token_hex(8)}.zip")
            try:
                sha256 = await run_in_threadpool(_save, code, path)
                _check_sha256(request.headers.get(headers.CODE_SHA256), sha256)
                await run_in_threadpool(check_package, path)
            except BaseException:
                path.unlink(missing_ok=True)
                raise
        return Upload(body, path, sha256)

    async def add_version(
        self, project: ProjectName, name: AgentName, body: CreateVersionRequest, upload: Upload
    ) -> VersionRecord:
        """Add a version and begin to build it, unless the latest one is the same.

        Raises:
            InvalidRequestError: If the definition and what came with it don't fit together.
            TrunklineError: As :meth:`VersionStore.add_version`.
        """
        image = body.definition.image
        if upload.code is None and image is None:
            raise InvalidRequestError(
                "the definition has no container_configuration.image, so its code is needed: send "
                "multipart/form-data with the parts `metadata` and `code`",
                param="definition",
            )
        if upload.code is not None and image is not None:
            raise InvalidRequestError(
                "the definition names an image, and a zip was sent with it; keep one of the two",
                param="definition.container_configuration",
            )
        definition = (
            body.definition
            if upload.code is None
            else body.definition.with_content_hash(upload.sha256)
        ).to_wire()
        latest = await self._store.latest_version(project, name)
        definition = self._secrets.seal(project, name, definition, latest)
        comparable = self._secrets.comparable(project, name, definition)
        new = NewVersion(
            project=project,
            agent=name,
            definition=definition,
            description=body.description,
            metadata=body.metadata or {},
            content_hash=_content_hash(comparable, upload.sha256),
            code_sha256=upload.sha256,
            is_draft=bool(body.draft),
            builder=self._node,
        )
        with self._builds.arrival():
            record, is_new = await self._store.add_version(new, most=self._max_versions)
            return await self._builds.start(record, upload.code) if is_new else record


async def _metadata_of(part: Any) -> dict[str, Any]:
    if isinstance(part, UploadFile):
        return parse_json_object(await part.read(), "the part `metadata`")
    if isinstance(part, str):
        return parse_json_object(part, "the part `metadata`")
    raise InvalidRequestError(
        "the part `metadata` with the version's definition is missing", param="metadata"
    )


def _save(code: UploadFile, path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("wb") as file:
        while chunk := code.file.read(_CHUNK_BYTES):
            digest.update(chunk)
            file.write(chunk)
    return digest.hexdigest()


def _check_sha256(announced: str | None, actual: str) -> None:
    if announced is not None and announced.lower() != actual:
        raise InvalidRequestError(
            f"{headers.CODE_SHA256} says {announced[:64]}, and the zip that arrived has {actual}",
            param=headers.CODE_SHA256,
        )


def _content_hash(definition: Mapping[str, Any], code_sha256: str) -> str:
    text = json.dumps(definition, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(f"{text}\n{code_sha256}".encode()).hexdigest()
