"""Passes one HTTP request on, and its answer back, streaming both ways at once."""

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping
from typing import Any, TypeVar

import aiohttp
from multidict import CIMultiDict
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send
from yarl import URL

from trunkline.aio.tasks import TaskOwner
from trunkline.auth import noted
from trunkline.gateway.leases import Lease
from trunkline.gateway.sweep import Sweep
from trunkline.gateway.upstream import ConnectError
from trunkline.protocol import headers
from trunkline.protocol.errors import UpstreamError
from trunkline.runtimes.interface import Address

_T = TypeVar("_T")
_log = logging.getLogger("trunkline.gateway")
#: uvicorn writes its own; two of one name would be a malformed answer.
_WRITTEN_BY_SERVER = frozenset({"date", "server"})
#: What aiohttp would add by itself: the agent is to see the caller's headers and no others.
_NOT_ADDED = ("User-Agent", "Accept", "Accept-Encoding", "Content-Type")
_MAX_LINE_BYTES = 64 * 1024
_CHUNK_BYTES = 64 * 1024
_BODILESS = frozenset({204, 304})


class Answer:
    """A connection to whoever was asked, with the head of the answer read."""

    def __init__(self, session: aiohttp.ClientSession, answer: aiohttp.ClientResponse) -> None:
        self.session = session
        self.answer = answer

    async def aclose(self) -> None:
        self.answer.close()
        await self.session.close()


class Call:
    """One request on its way on."""

    def __init__(
        self,
        request: Request,
        named: CIMultiDict[str],
        target: str,
        body: bytes | None = None,
        *,
        has_body: bool | None = None,
        sweep: Sweep | None = None,
    ) -> None:
        """Prepare a request.

        Args:
            request: The caller's.
            named: The headers that are sent on.
            target: Path and query as they are sent on.
            body: The body, if it was read already; else it is streamed.
            has_body: Whether there is one; if it isn't said, a POST has one.
            sweep: What watches that the body is taken; without one nobody does.
        """
        self._sweep = sweep
        #: Since when whoever is called hasn't taken the piece of the body that it was given.
        self._offered_at: float | None = None
        self._stalled: asyncio.Event = asyncio.Event()
        self._request = request
        self._headers = named
        self._target = target
        self._whole_body = body
        if body is not None:
            named["content-length"] = str(len(body))
        self._has_body = request.method == "POST" if has_body is None else has_body
        self._body_is_read = asyncio.Event()
        self._caller_left = asyncio.Event()
        self.request_id = named[headers.REQUEST_ID]
        noted.passed_on()

    async def send(self, lease: Lease) -> Answer:
        """Send it to a session's agent; see :meth:`send_on`."""
        address = lease.address
        host = "agent" if address.path is not None else f"127.0.0.1:{address.port}"
        return await self.send_on(_open(address), f"http://{host}")

    def look(self, now: float) -> None:
        """Notice that the body isn't taken."""
        assert self._sweep is not None
        limit_s = self._sweep.stalled_reader_s
        if self._offered_at is not None and 0 < limit_s <= now - self._offered_at:
            self._sweep.discard(self)
            self._sweep.count_stall()
            self._stalled.set()

    def unwatch(self) -> None:
        """Watch no more; the request is over. Twice is fine."""
        if self._sweep is not None:
            self._sweep.discard(self)

    async def wait_stalled(self) -> None:
        """Wait until whoever is called has taken nothing of the body for too long.

        Raises:
            UpstreamError: Then.
        """
        await self._stalled.wait()
        assert self._sweep is not None
        raise UpstreamError(
            f"the agent read nothing of the request's body for {self._sweep.stalled_reader_s:g} s "
            "(stalled_reader_s)"
        )

    async def send_on(self, session: aiohttp.ClientSession, base: str) -> Answer:
        """Send it and wait for the answer's head, which may come before the body is all sent.

        Args:
            session: What to send it with. Closed with the answer, or if there is none.
            base: To whom, as a URL without a path.

        Raises:
            ClientDisconnect: If the caller leaves first.
            ConnectError: If nobody listens.
            UpstreamError: If the connection ends before it is answered.
        """
        if self._sweep is not None and self._has_body:
            self._sweep.add(self)
        try:
            answer = await self._race(self._request_on(session, base))
            if answer.status < 200 or answer.status > 599:
                answer.close()
                raise UpstreamError(f"the agent answered with status {answer.status}")
        except BaseException as exc:
            self.unwatch()
            await session.close()
            if self._caller_left.is_set():
                raise ClientDisconnect from exc
            if isinstance(exc, aiohttp.ClientConnectorError):
                raise ConnectError("the agent isn't listening; it may be ending") from exc
            if isinstance(exc, aiohttp.ClientError):
                raise UpstreamError("the agent went away before it answered") from exc
            raise
        return Answer(session, answer)

    async def _request_on(
        self, session: aiohttp.ClientSession, base: str
    ) -> aiohttp.ClientResponse:
        if not self._has_body:
            self._body_is_read.set()
        return await session.request(
            self._request.method,
            # As it was sent: normalised, a path could leave its place.
            URL(f"{base}{self._target}", encoded=True),
            headers=self._headers,
            data=self._outgoing() if self._has_body else None,
            allow_redirects=False,
        )

    async def _outgoing(self) -> AsyncIterator[bytes]:
        pieces = self._body() if self._whole_body is None else self._pieces(self._whole_body)
        async for piece in pieces:
            self._offered_at = time.monotonic()
            try:
                yield piece
            finally:
                self._offered_at = None

    async def _pieces(self, body: bytes) -> AsyncIterator[bytes]:
        self._body_is_read.set()
        for start in range(0, len(body), _CHUNK_BYTES):
            yield body[start : start + _CHUNK_BYTES]

    async def _race(self, sending: Coroutine[Any, Any, _T]) -> _T:
        # The caller may leave while the agent thinks; then nobody waits for its answer.
        owner = TaskOwner()
        work = owner.spawn(sending, name="forward:answer", is_awaited=True)
        leaving = owner.spawn(self.wait_left(), name="forward:left")
        stalling = owner.spawn(self.wait_stalled(), name="forward:stalled", is_awaited=True)
        try:
            await asyncio.wait((work, leaving, stalling), return_when=asyncio.FIRST_COMPLETED)
            if work.done():
                return work.result()
            if stalling.done():
                stalling.result()
            raise ClientDisconnect
        finally:
            await owner.aclose()

    async def wait_left(self) -> None:
        """Wait until the caller has left."""
        await self._body_is_read.wait()
        # Only now: whoever receives earlier would take the body away from the agent.
        while not self._caller_left.is_set():
            if (await self._request.receive())["type"] == "http.disconnect":
                self._caller_left.set()

    async def _body(self) -> AsyncIterator[bytes]:
        try:
            async for chunk in self._request.stream():
                if chunk:
                    yield chunk
        except ClientDisconnect:
            self._caller_left.set()
            raise
        finally:
            self._body_is_read.set()


class Streamed(Response):
    """An answer as it comes. Those who make one more of it say what there is to do."""

    #: Called with each piece of the body.
    on_chunk: Callable[[bytes], None] | None = None
    #: Awaited when all of it has come, before the caller is told so.
    on_end: Callable[[], Coroutine[Any, Any, None]] | None = None

    def __init__(self, call: Call, answer: Answer, *, ours: Mapping[str, str], what: str) -> None:
        """Prepare to answer.

        Args:
            call: The request it answers.
            answer: Its head, and where the rest comes from.
            ours: Headers to put in the place of the answer's own.
            what: What was asked, for the log.
        """
        super().__init__(status_code=answer.answer.status)
        dropped = headers.HOP_BY_HOP | _WRITTEN_BY_SERVER | ours.keys()
        dropped |= headers.nominated(",".join(answer.answer.headers.getall("connection", ())))
        if answer.answer.status in _BODILESS:
            dropped |= {"content-length"}
        self.raw_headers = [
            (name.lower(), value)
            for name, value in answer.answer.raw_headers
            if name.lower().decode("latin-1") not in dropped
        ] + [(name.encode(), value.encode()) for name, value in ours.items()]
        self._call = call
        self._answer = answer
        self._what = what

    def release(self) -> None:
        """Give back what was held for it."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        owner = TaskOwner()
        work = owner.spawn(self._relay(send), name="forward:relay", is_awaited=True)
        leaving = owner.spawn(self._call.wait_left(), name="forward:left")
        stalling = owner.spawn(self._call.wait_stalled(), name="forward:stalled", is_awaited=True)
        try:
            await asyncio.wait((work, leaving, stalling), return_when=asyncio.FIRST_COMPLETED)
            if work.done():
                work.result()
            elif stalling.done():
                # The head is out, so there is no other way to tell than to end short of the end.
                _log.warning("%s: %s", self._what, stalling.exception())
        finally:
            self._call.unwatch()
            self.release()
            await owner.aclose()
            await self._answer.aclose()

    async def _relay(self, send: Send) -> None:
        await send(
            {
                "type": "http.response.start",
                "status": self.status_code,
                "headers": self.raw_headers,
            }
        )
        left = self._answer.answer.content_length
        try:
            async for chunk in self._answer.answer.content.iter_any():
                if self.on_chunk is not None:
                    self.on_chunk(chunk)
                if left is not None:
                    left -= len(chunk)
                    if left <= 0:
                        # With these bytes the caller has all of it.
                        await self._end()
                await send({"type": "http.response.body", "body": chunk, "more_body": True})
        except aiohttp.ClientError:
            # The head is out. Returning without the body's end makes uvicorn close the
            # connection short of it, so that the caller sees the answer isn't whole.
            _log.warning("%s: the other side went away in mid-answer", self._what)
        else:
            await self._end()
            await send({"type": "http.response.body", "body": b""})

    async def _end(self) -> None:
        # What is remembered of the answer is there before the caller can ask about it.
        on_end, self.on_end = self.on_end, None
        if on_end is not None:
            await on_end()


def _open(address: Address) -> aiohttp.ClientSession:
    # No connection is kept: a kept one may be closed by the agent just as it is used.
    if address.path is not None:
        return session_on(aiohttp.UnixConnector(address.path, force_close=True))
    return session_on(aiohttp.TCPConnector(force_close=True))


def session_on(
    connector: aiohttp.BaseConnector, *, connect_timeout_s: float | None = None
) -> aiohttp.ClientSession:
    """Return what sends one request as it is, and gives its answer as it is."""
    return aiohttp.ClientSession(
        connector=connector,
        # An invocation may take as long as its agent likes; the caller decides when to leave.
        timeout=aiohttp.ClientTimeout(total=None, sock_connect=connect_timeout_s),
        auto_decompress=False,
        cookie_jar=aiohttp.DummyCookieJar(),
        skip_auto_headers=_NOT_ADDED,
        # The caller's own limit on a head holds; an agent's may be as large.
        max_line_size=_MAX_LINE_BYTES,
        max_field_size=_MAX_LINE_BYTES,
    )
