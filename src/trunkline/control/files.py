"""A session's files: up, down, listed, made, removed, while it runs and while it doesn't."""

import asyncio
import os
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from starlette.datastructures import QueryParams
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from trunkline.control.services import ControlServices
from trunkline.protocol.errors import InvalidRequestError, TooLargeError
from trunkline.sessions.home_files import FileEntry, parse_path
from trunkline.store.records import SessionRecord
from trunkline.web.body import flag, json_object

_FILES = "/api/projects/{project}/agents/{agent}/endpoint/sessions/{session}/files"
_CHUNK_BYTES = 256 * 1024
_MAX_PAGE = 1000
_DIGITS = re.compile(r"[0-9]{1,9}")


class Files:
    """The operations on sessions' files."""

    def __init__(self, services: ControlServices, *, max_file_bytes: int) -> None:
        self._services = services
        self._max_file_bytes = max_file_bytes

    def routes(self) -> list[Route]:
        content = f"{_FILES}/content"
        return [
            Route(content, self.upload_file, methods=["PUT"]),
            Route(content, self.download_file, methods=["GET"]),
            Route(f"{_FILES}/stat", self.stat_file, methods=["GET"]),
            Route(f"{_FILES}/mkdir", self.make_folder, methods=["POST"]),
            Route(_FILES, self.list_files, methods=["GET"]),
            Route(_FILES, self.delete_file, methods=["DELETE"]),
        ]

    async def upload_file(self, request: Request) -> Response:
        """Put a file: it is received whole, and then moved to its place in one step."""
        record = await self._session(request)
        path = _path_in(request.query_params)
        parse_path(path)
        upload = await asyncio.to_thread(self._services.sessions.homes.upload_path)
        try:
            size = await self._receive(request, upload)
            async with self._services.sessions.files_of(record) as files:
                await asyncio.to_thread(files.put, path, upload)
        finally:
            await asyncio.to_thread(upload.unlink, missing_ok=True)
        return JSONResponse({"path": path, "bytes_written": size}, 201)

    async def _receive(self, request: Request, upload: Path) -> int:
        most = self._max_file_bytes
        error = TooLargeError(f"the file is over {most} bytes (TRUNKLINE_CONTROL_MAX_FILE_BYTES)")
        announced = request.headers.get("content-length", "")
        if announced.isdigit() and int(announced) > most:
            raise error
        size = 0
        file = await asyncio.to_thread(upload.open, "xb")
        try:
            async for chunk in request.stream():
                size += len(chunk)
                if size > most:
                    raise error
                await asyncio.to_thread(file.write, chunk)
        finally:
            await asyncio.to_thread(file.close)
        return size

    async def download_file(self, request: Request) -> Response:
        record = await self._session(request)
        path = _path_in(request.query_params)
        async with self._services.sessions.files_of(record) as files:
            descriptor, size = await asyncio.to_thread(files.open, path)
        # Once it is open it may be removed: what was there is sent to its end.
        return StreamingResponse(
            _content(descriptor, size),
            media_type="application/octet-stream",
            headers={
                "content-length": str(size),
                "content-disposition": "attachment",
                "x-content-type-options": "nosniff",
            },
        )

    async def list_files(self, request: Request) -> Response:
        record, query = await self._session(request), request.query_params
        path = query.get("path", ".")
        async with self._services.sessions.files_of(record) as files:
            entries = await asyncio.to_thread(files.list, path)
        page, has_more = _page_of(entries, query)
        body: dict[str, Any] = {
            "object": "list",
            "path": path,
            "entries": [_shape(entry) for entry in page],
            "has_more": has_more,
        }
        if has_more:
            body["last_id"] = page[-1].name
        return JSONResponse(body)

    async def stat_file(self, request: Request) -> Response:
        record = await self._session(request)
        path = _path_in(request.query_params)
        async with self._services.sessions.files_of(record) as files:
            return JSONResponse(_shape(await asyncio.to_thread(files.stat, path)))

    async def make_folder(self, request: Request) -> Response:
        record = await self._session(request)
        path = (await json_object(request)).get("path")
        if not isinstance(path, str) or not path:
            raise InvalidRequestError("path must be the folder's path as text", param="path")
        async with self._services.sessions.files_of(record) as files:
            await asyncio.to_thread(files.make_folder, path)
        return JSONResponse({"path": path}, 201)

    async def delete_file(self, request: Request) -> Response:
        record, query = await self._session(request), request.query_params
        path = _path_in(query)
        is_recursive = flag(query.get("recursive"), "recursive", default=False)
        async with self._services.sessions.files_of(record) as files:
            await asyncio.to_thread(files.delete, path, is_recursive=is_recursive)
        return Response(status_code=204)

    async def _session(self, request: Request) -> SessionRecord:
        identity, project = self._services.admit(request)
        return await self._services.find_session(request, identity, project)


def _path_in(query: QueryParams) -> str:
    path = query.get("path")
    if not path:
        raise InvalidRequestError("the query must have path", param="path")
    return path


def _page_of(entries: list[FileEntry], query: QueryParams) -> tuple[list[FileEntry], bool]:
    order = query.get("order", "asc")
    if order not in ("asc", "desc"):
        raise InvalidRequestError("order must be asc or desc", param="order")
    limit = query.get("limit", str(_MAX_PAGE))
    if not _DIGITS.fullmatch(limit) or not 1 <= int(limit) <= _MAX_PAGE:
        raise InvalidRequestError(f"limit must be a number from 1 to {_MAX_PAGE}", param="limit")
    after, before = query.get("after"), query.get("before")
    is_ascending = order == "asc"
    if not is_ascending:
        entries.reverse()
        after, before = before, after
    # The cursors are names, which say where to go on even if the file is gone by now.
    wanted = [
        entry
        for entry in entries
        if (after is None or entry.name > after) and (before is None or entry.name < before)
    ]
    return wanted[: int(limit)], len(wanted) > int(limit)


def _shape(entry: FileEntry) -> dict[str, Any]:
    # Two of the contract's clients spell the flag differently.
    return {
        "name": entry.name,
        "path": entry.path,
        "size": entry.size,
        "is_dir": entry.is_folder,
        "is_directory": entry.is_folder,
        "mode": entry.mode,
        "modified_time": entry.modified_at,
    }


async def _content(descriptor: int, size: int) -> AsyncIterator[bytes]:
    # The size was announced: what is appended meanwhile stays out, and if the file gets
    # shorter, the answer ends short of it and the caller sees that it isn't whole.
    try:
        while size:
            chunk = await asyncio.to_thread(os.read, descriptor, min(size, _CHUNK_BYTES))
            if not chunk:
                return
            size -= len(chunk)
            yield chunk
    finally:
        os.close(descriptor)
