"""A proxy on this machine that adds the token: for pages and tools that can't send one.

Whoever reaches it acts as its owner, so it takes care who does: it listens on loopback alone, and
answers a browser only for pages that may, under a name of this machine. What a page of anywhere
else has a browser send, by a form, an image or a WebSocket, is refused.
"""

import asyncio
import contextlib
import re
import ssl
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Final
from urllib.parse import urlsplit

from trunkline.auth.origins import Origins
from trunkline.client import Endpoint
from trunkline.protocol.errors import OriginNotAllowedError

_MAX_HEAD_BYTES: Final = 64 * 1024
_HEAD_TIMEOUT_S: Final = 10.0
_CHUNK_BYTES: Final = 64 * 1024
_REQUEST: Final = re.compile(rb"([A-Z]+) (/[!-~]*) HTTP/1\.1")
_HEADER: Final = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+):[ \t]*([^\0\r\n]*?)[ \t]*")
_HOST: Final = re.compile(r"(localhost|127(?:\.[0-9]{1,3}){3}|\[::1\])(?::[0-9]{1,5})?")
#: Written anew, or nobody's business behind the proxy.
_DROPPED: Final = frozenset(
    {b"authorization", b"connection", b"cookie", b"host", b"keep-alive", b"origin",
     b"proxy-authorization", b"proxy-connection", b"referer"}
)  # fmt: skip

Headers = list[tuple[bytes, bytes]]


class RefusedRequestError(Exception):
    """What came isn't passed on; ``status`` is the answer's."""

    def __init__(self, status: str, text: str) -> None:
        super().__init__(text)
        self.status = status


class TokenProxy:
    """Passes requests on to one platform, with a token."""

    def __init__(
        self,
        endpoint: Endpoint,
        authorization: Callable[[], Awaitable[Mapping[str, str]]],
        allowed_origins: Iterable[str],
    ) -> None:
        """Make one.

        Args:
            endpoint: The platform.
            authorization: Returns the header to add; asked for each connection.
            allowed_origins: The pages that may, besides those of this machine.
        """
        self._place = urlsplit(endpoint.base)
        self._authorization = authorization
        self._origins = Origins(["loopback", *allowed_origins])

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one connection: one request, or one WebSocket."""
        try:
            await self._serve(reader, writer)
        except RefusedRequestError as error:
            writer.write(_answer(error.status, str(error)))
        except (OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError, TimeoutError):
            writer.write(_answer("502 Bad Gateway", "the platform can't be reached"))
        finally:
            with contextlib.suppress(OSError):
                await writer.drain()
            writer.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        async with asyncio.timeout(_HEAD_TIMEOUT_S):
            head = await reader.readuntil(b"\r\n\r\n")
        first, headers = _parse(head)
        self._check(headers)
        is_upgrade = b"upgrade" in (_value(headers, b"connection") or b"").lower()
        lines = [first, b"host: " + self._place.netloc.encode("latin-1")]
        lines += [name + b": " + value for name, value in headers if name not in _DROPPED]
        lines.append(b"connection: " + (b"Upgrade" if is_upgrade else b"close"))
        added = await self._authorization()
        lines += [f"{name}: {value}".encode("latin-1") for name, value in added.items()]
        secure = self._place.scheme == "https"
        there = await asyncio.open_connection(
            self._place.hostname,
            self._place.port or (443 if secure else 80),
            ssl=ssl.create_default_context() if secure else None,
        )
        try:
            there[1].write(b"\r\n".join(lines) + b"\r\n\r\n")
            up = asyncio.ensure_future(_copy(reader, there[1]))  # noqa: TID251 - ended below
            try:
                await _copy(there[0], writer)
            finally:
                up.cancel()
                with contextlib.suppress(asyncio.CancelledError, OSError):
                    await up
        finally:
            there[1].close()

    def _check(self, headers: Headers) -> None:
        # A name that isn't this machine's came here by somebody's DNS (rebinding).
        host = (_value(headers, b"host") or b"").decode("latin-1")
        if not _HOST.fullmatch(host):
            raise RefusedRequestError("403 Forbidden", "this proxy answers under localhost only")
        origin = _value(headers, b"origin")
        try:
            self._origins.check(origin.decode("latin-1") if origin is not None else None, None)
        except OriginNotAllowedError:
            raise RefusedRequestError(
                "403 Forbidden", "pages of this origin may not; --allow-origin names those that may"
            ) from None
        site = _value(headers, b"sec-fetch-site")
        if origin is None and site not in (None, b"same-origin", b"none"):
            raise RefusedRequestError("403 Forbidden", "another site's page asked for this")


def _parse(head: bytes) -> tuple[bytes, Headers]:
    first, *lines = head[:-4].split(b"\r\n")
    if not _REQUEST.fullmatch(first):
        raise RefusedRequestError("400 Bad Request", "this isn't a request that can be passed on")
    headers = []
    for line in lines:
        match = _HEADER.fullmatch(line)
        if match is None:
            raise RefusedRequestError("400 Bad Request", "a header isn't well formed")
        headers.append((match[1].lower(), match[2]))
    return first, headers


def _value(headers: Headers, name: bytes) -> bytes | None:
    found = [value for key, value in headers if key == name]
    return b", ".join(found) if found else None


async def _copy(source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
    while chunk := await source.read(_CHUNK_BYTES):
        target.write(chunk)
        await target.drain()
    if target.can_write_eof():
        target.write_eof()


def _answer(status: str, text: str) -> bytes:
    body = f"{text}\n".encode()
    return (
        f"HTTP/1.1 {status}\r\ncontent-type: text/plain\r\ncontent-length: {len(body)}\r\n"
        "connection: close\r\n\r\n"
    ).encode() + body


async def serve(proxy: TokenProxy, port: int, on_ready: Callable[[str], None]) -> None:
    """Serve on a port of loopback until cancelled."""
    server = await asyncio.start_server(proxy.handle, "127.0.0.1", port, limit=_MAX_HEAD_BYTES)
    async with server:
        on_ready(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}")
        await server.serve_forever()
