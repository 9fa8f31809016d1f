"""The files of one session, which are there whether it runs or not."""

import asyncio
from collections.abc import AsyncIterator
from typing import IO, Any
from urllib.parse import quote

from trunkline.client._http import Http, json_of
from trunkline.client._models import File, FilePage, Written

_CHUNK_BYTES = 256 * 1024
_PAGE = 1000


class SessionFiles:
    """The files in one session's home. Paths are relative to it, with ``/`` between folders.

    Every method may raise what those of ``Project`` do. ``RefusedError`` has the code
    ``file_not_found`` where nothing is, and ``path_outside_home`` for a path that leads out.
    """

    def __init__(self, http: Http, session_url: str) -> None:
        """Describe them; nothing is sent yet.

        Args:
            http: How to get there.
            session_url: The session's address.
        """
        self._http = http
        self._url = f"{session_url}/files"

    async def upload(self, path: str, content: bytes | IO[bytes]) -> int:
        """Put a file, over the one that is there; the folders above it are made.

        It is there when all of it has arrived, and not before.

        Args:
            path: Where to.
            content: Its bytes, or a file open for reading where they begin.

        Returns:
            How many bytes it has now.
        """
        header = {"content-type": "application/octet-stream"}
        body: bytes | AsyncIterator[bytes]
        if isinstance(content, bytes):
            body = content
        else:
            body = _chunks_of(content)
            size = await asyncio.to_thread(_size_of, content)
            # Announced, a file that is too long is refused before it is sent.
            if size is not None:
                header["content-length"] = str(size)
        answer = await self._http.request(
            "PUT", f"{self._url}/content", {"path": path}, header=header, content=body
        )
        return Written.read(json_of(answer)).bytes_written

    async def read(self, path: str) -> bytes:
        """Return a file's content."""
        answer = await self._http.get(f"{self._url}/content", {"path": path})
        return answer.content

    async def download(self, path: str, into: IO[bytes]) -> int:
        """Write a file's content to a file that is open here; return how many bytes it was."""
        size = 0
        async with self._http.stream("GET", f"{self._url}/content", {"path": path}) as answer:
            async for chunk in self._http.chunks(answer):
                await asyncio.to_thread(into.write, chunk)
                size += len(chunk)
        return size

    async def list(self, path: str = ".") -> AsyncIterator[File]:
        """Yield what is in a folder, by name."""
        query = {"path": path, "limit": str(_PAGE)}
        while True:
            page = FilePage.read(json_of(await self._http.get(self._url, query)))
            for file in page.entries:
                yield file
            # A page that names no last id, or the one asked after, has nothing after it.
            if not (page.has_more and page.last_id) or page.last_id == query.get("after"):
                return
            query["after"] = page.last_id

    async def stat(self, path: str) -> File:
        """Return what is at a path."""
        return File.read(json_of(await self._http.get(f"{self._url}/stat", {"path": path})))

    async def mkdir(self, path: str) -> None:
        """Make a folder and those above it; one that is there is fine."""
        await self._http.request("POST", f"{self._url}/mkdir", json={"path": path})

    async def delete(self, path: str, *, recursive: bool = False) -> None:
        """Remove a file or an empty folder; with ``recursive`` a folder and all that is in it."""
        query: dict[str, Any] = {"path": path}
        if recursive:
            query["recursive"] = "true"
        await self._http.request("DELETE", self._url, query)


def session_url(sessions_url: str, session_id: str) -> str:
    """Return the address of one of an agent's sessions."""
    return f"{sessions_url}/{quote(session_id, safe=':')}"


async def _chunks_of(file: IO[bytes]) -> AsyncIterator[bytes]:
    while chunk := await asyncio.to_thread(file.read, _CHUNK_BYTES):
        yield chunk


def _size_of(file: IO[bytes]) -> int | None:
    """Return how much is left to read; None if that can't be told."""
    if not file.seekable():
        return None
    start = file.tell()
    end = file.seek(0, 2)
    file.seek(start)
    return end - start
