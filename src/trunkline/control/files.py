"""A session's files: up, down, listed, made, removed, while it runs and while it doesn't."""

import asyncio
import logging
import os
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

from starlette.datastructures import QueryParams
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from trunkline.aio.threads import in_thread
from trunkline.control.services import ControlServices
from trunkline.protocol.errors import InvalidRequestError, TooLargeError
from trunkline.sessions.home_files import FileEntry, explained, parse_file_path
from trunkline.store.paging import Page
from trunkline.store.records import SessionRecord
from trunkline.web.body import flag, json_object

_FILES = "/api/projects/{project}/agents/{agent}/endpoint/sessions/{session}/files"
_CHUNK_BYTES = 256 * 1024
_MAX_PAGE = 1000
#: Three for each byte of a name, if none of them is text.
_MAX_CURSOR_CHARS = 3 * 255
#: Going through a large folder takes a thread for a while, and there are few.
_MAX_LONG_WORK = 2
_DIGITS = re.compile(r"[0-9]{1,9}")
_log = logging.getLogger("trunkline.http")


class Files:
    """The operations on sessions' files."""

    def __init__(self, services: ControlServices, *, max_file_bytes: int) -> None:
        self._services = services
        self._max_file_bytes = max_file_bytes
        self._long_work = asyncio.Semaphore(_MAX_LONG_WORK)

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
        parse_file_path(path)
        upload = await in_thread(self._services.sessions.homes.upload_path)
        try:
            size = await self._receive(request, upload)
            async with self._services.sessions.files_of(record) as files:
                await in_thread(files.put, path, upload)
        finally:
            await in_thread(upload.unlink, missing_ok=True)
        return JSONResponse({"path": path, "bytes_written": size}, 201)

    async def _receive(self, request: Request, upload: Path) -> int:
        most = self._max_file_bytes
        error = TooLargeError(f"the file is over {most} bytes (TRUNKLINE_CONTROL_MAX_FILE_BYTES)")
        announced = request.headers.get("content-length", "")
        if announced.isdigit() and int(announced) > most:
            raise error
        size = 0
        with explained(()):
            file = await in_thread(upload.open, "xb", buffering=0)
            try:
                async for chunk in request.stream():
                    size += len(chunk)
                    if size > most:
                        raise error
                    await in_thread(_write, file.fileno(), chunk)
            finally:
                await in_thread(file.close)
        return size

    async def download_file(self, request: Request) -> Response:
        record = await self._session(request)
        path = _path_in(request.query_params)
        async with self._services.sessions.files_of(record) as files:
            descriptor, size = await in_thread(files.open, path)
        # Once it is open it may be removed: what was there is sent to its end.
        return _Content(descriptor, size, path, is_sent=request.method != "HEAD")

    async def list_files(self, request: Request) -> Response:
        record, query = await self._session(request), request.query_params
        path, page = query.get("path") or ".", _page_of(query)
        async with self._long_work, self._services.sessions.files_of(record) as files:
            found = await in_thread(files.list, path, page)
        body: dict[str, Any] = {
            "object": "list",
            "path": path,
            "entries": [_shape(entry) for entry in found.items],
            "has_more": found.has_more,
        }
        if found.items:
            body["first_id"] = found.items[0].cursor
            # One client takes its presence for "there is more".
            if found.has_more:
                body["last_id"] = body["pagination_token"] = found.items[-1].cursor
        return JSONResponse(body)

    async def stat_file(self, request: Request) -> Response:
        record = await self._session(request)
        path = _path_in(request.query_params)
        async with self._services.sessions.files_of(record) as files:
            return JSONResponse(_shape(await in_thread(files.stat, path)))

    async def make_folder(self, request: Request) -> Response:
        record = await self._session(request)
        path = (await json_object(request)).get("path")
        if not isinstance(path, str) or not path:
            raise InvalidRequestError("path must be the folder's path as text", param="path")
        async with self._services.sessions.files_of(record) as files:
            await in_thread(files.make_folder, path)
        return JSONResponse({"path": path}, 201)

    async def delete_file(self, request: Request) -> Response:
        record, query = await self._session(request), request.query_params
        path = _path_in(query)
        is_recursive = flag(query.get("recursive"), "recursive", default=False)
        async with self._long_work, self._services.sessions.files_of(record) as files:
            await in_thread(files.delete, path, is_recursive=is_recursive)
        return Response(status_code=204)

    async def _session(self, request: Request) -> SessionRecord:
        record = await self._services.find_session(request)
        # Where it runs, nothing that its agent has just written is hidden by a cache.
        self._services.sessions.refuse_elsewhere(record)
        return record


def _path_in(query: QueryParams) -> str:
    path = query.get("path")
    if not path:
        raise InvalidRequestError("the query must have path", param="path")
    return path


def _page_of(query: QueryParams) -> Page:
    order = query.get("order", "asc")
    if order not in ("asc", "desc"):
        raise InvalidRequestError("order must be asc or desc", param="order")
    limit = query.get("limit", str(_MAX_PAGE))
    if not _DIGITS.fullmatch(limit) or not 1 <= int(limit) <= _MAX_PAGE:
        raise InvalidRequestError(f"limit must be a number from 1 to {_MAX_PAGE}", param="limit")
    return Page(
        limit=int(limit),
        is_ascending=order == "asc",
        after=_cursor(query, "after") or _cursor(query, "pagination_token"),
        before=_cursor(query, "before"),
    )


def _cursor(query: QueryParams, name: str) -> str | None:
    value = query.get(name) or None
    if value is not None and len(value) > _MAX_CURSOR_CHARS:
        raise InvalidRequestError(f"{name} is longer than any name", param=name)
    return value


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


def _write(descriptor: int, data: bytes) -> None:
    while data:
        data = data[os.write(descriptor, data) :]


class _Content(StreamingResponse):
    """A file's bytes. Takes over its descriptor."""

    def __init__(self, descriptor: int, size: int, path: str, *, is_sent: bool) -> None:
        name = path.rstrip("/").rpartition("/")[2]
        super().__init__(
            self._chunks(),
            media_type="application/octet-stream",
            headers={
                "content-length": str(size),
                "content-disposition": f"attachment; filename*=UTF-8''{quote(name, safe='')}",
                "x-content-type-options": "nosniff",
            },
        )
        self._descriptor = descriptor
        self._left = size if is_sent else 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            os.close(self._descriptor)

    async def stream_response(self, send: Send) -> None:
        head = {"type": "http.response.start", "status": self.status_code}
        await send(head | {"headers": self.raw_headers})
        async for chunk in self.body_iterator:
            await send({"type": "http.response.body", "body": chunk, "more_body": True})
        if self._left:
            # The head is out. Returning without the body's end makes uvicorn close the
            # connection short of it, so that the caller sees the file isn't whole.
            _log.warning("a file got %d bytes shorter while it was sent", self._left)
            return
        await send({"type": "http.response.body", "body": b""})

    async def _chunks(self) -> AsyncIterator[bytes]:
        # The size was announced: what is appended meanwhile stays out.
        while self._left:
            # To its end, even if the caller leaves: the descriptor is closed then.
            chunk = await in_thread(os.read, self._descriptor, min(self._left, _CHUNK_BYTES))
            if not chunk:
                return
            self._left -= len(chunk)
            yield chunk
