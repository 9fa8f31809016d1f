"""Passes one HTTP request through to a session's agent, streaming both ways at once."""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any, TypeVar

import aiohttp
from multidict import CIMultiDict
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send
from yarl import URL

from trunkline.aio.tasks import TaskOwner
from trunkline.auth.identity import Identity
from trunkline.gateway.reach import ConnectError
from trunkline.gateway.services import GatewayServices
from trunkline.gateway.upgrade import new_call_id, request_id_of
from trunkline.protocol import headers
from trunkline.protocol.errors import InvalidRequestError, UpstreamError
from trunkline.runtimes.interface import Address
from trunkline.sessions.slot import Lease

_T = TypeVar("_T")
_log = logging.getLogger("trunkline.gateway")
#: uvicorn writes its own; two of one name would be a malformed answer.
_WRITTEN_BY_SERVER = frozenset({"date", "server"})
#: Headers that speak of a body, for requests that have none.
_OF_BODY = frozenset({"content-length", "content-type", "content-encoding"})
#: What aiohttp would add by itself: the agent is to see the caller's headers and no others.
_NOT_ADDED = ("User-Agent", "Accept", "Accept-Encoding", "Content-Type")
_MAX_LINE_BYTES = 64 * 1024
_BODILESS = frozenset({204, 304})


def agent_headers(
    request: Request, identity: Identity, services: GatewayServices
) -> CIMultiDict[str]:
    """Return the headers the agent gets to see: some of the caller's, and the platform's own.

    Raises:
        InvalidRequestError: If one isn't text.
    """
    named: CIMultiDict[str] = CIMultiDict()
    for raw_name, raw_value in request.headers.raw:
        name = raw_name.decode("latin-1")
        if not headers.reaches_agent(name) or (request.method != "POST" and name in _OF_BODY):
            continue
        try:
            named.add(name, raw_value.decode())
        except UnicodeDecodeError:
            raise InvalidRequestError(f"the header {name} isn't UTF-8", param=name) from None
    named[headers.USER_ID] = services.pseudonyms.of(identity)
    named[headers.CALL_ID] = new_call_id()
    named[headers.REQUEST_ID] = request_id_of(request.headers.get(headers.REQUEST_ID))
    return named


class Answer:
    """A connection to an agent, with the head of its answer read."""

    def __init__(self, session: aiohttp.ClientSession, answer: aiohttp.ClientResponse) -> None:
        self.session = session
        self.answer = answer

    async def aclose(self) -> None:
        self.answer.close()
        await self.session.close()


class Call:
    """One request on its way to an agent."""

    def __init__(
        self, request: Request, named: CIMultiDict[str], target: str, body: bytes | None = None
    ) -> None:
        """Prepare a request.

        Args:
            request: The caller's.
            named: The headers the agent gets.
            target: Path and query as the agent gets them.
            body: The body, if it was read already; else it is streamed.
        """
        self._request = request
        self._headers = named
        self._target = target
        self._whole_body = body
        self._body_is_read = asyncio.Event()
        self._caller_left = asyncio.Event()
        self.request_id = named[headers.REQUEST_ID]

    async def send(self, lease: Lease) -> Answer:
        """Send it and wait for the answer's head, which may come before the body is all sent.

        Raises:
            ClientDisconnect: If the caller leaves first.
            ConnectError: If nobody listens.
            UpstreamError: If the agent ends the connection before it answers.
        """
        session = _open(lease.address)
        try:
            answer = await self._race(self._request_on(session, lease.address))
            if answer.status < 200 or answer.status > 599:
                answer.close()
                raise UpstreamError(f"the agent answered with status {answer.status}")
        except BaseException as exc:
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
        self, session: aiohttp.ClientSession, address: Address
    ) -> aiohttp.ClientResponse:
        has_body = self._request.method == "POST"
        if not has_body:
            self._body_is_read.set()
        host = "agent" if address.path is not None else f"127.0.0.1:{address.port}"
        return await session.request(
            self._request.method,
            # As it was sent: normalised, a path could leave its place.
            URL(f"http://{host}{self._target}", encoded=True),
            headers=self._headers,
            data=self._outgoing() if has_body else None,
            allow_redirects=False,
        )

    def _outgoing(self) -> AsyncIterator[bytes] | bytes:
        if self._whole_body is None:
            return self._body()
        self._body_is_read.set()
        return self._whole_body

    async def _race(self, sending: Coroutine[Any, Any, _T]) -> _T:
        # The caller may leave while the agent thinks; then nobody waits for its answer.
        owner = TaskOwner()
        work = owner.spawn(sending, name="forward:answer", is_awaited=True)
        leaving = owner.spawn(self.wait_left(), name="forward:left")
        try:
            await asyncio.wait((work, leaving), return_when=asyncio.FIRST_COMPLETED)
            if not work.done():
                raise ClientDisconnect
            return work.result()
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


class PassedThrough(Response):
    """The agent's answer as it comes, and what has to be given back when it is over."""

    def __init__(
        self,
        call: Call,
        agent: Answer,
        lease: Lease,
        *,
        on_chunk: Callable[[bytes], None] | None = None,
        on_end: Callable[[], Coroutine[Any, Any, None]] | None = None,
    ) -> None:
        super().__init__(status_code=agent.answer.status)
        ours = {headers.SESSION_ID: lease.key.session_id, headers.REQUEST_ID: call.request_id}
        dropped = headers.HOP_BY_HOP | _WRITTEN_BY_SERVER | ours.keys()
        if agent.answer.status in _BODILESS:
            dropped |= {"content-length"}
        self.raw_headers = [
            (name.lower(), value)
            for name, value in agent.answer.raw_headers
            if name.lower().decode("latin-1") not in dropped
        ] + [(name.encode(), value.encode()) for name, value in ours.items()]
        self._call = call
        self._agent = agent
        self._lease = lease
        self._on_chunk = on_chunk
        self._on_end = on_end

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        owner = TaskOwner()
        work = owner.spawn(self._relay(send), name="forward:relay", is_awaited=True)
        leaving = owner.spawn(self._call.wait_left(), name="forward:left")
        try:
            await asyncio.wait((work, leaving), return_when=asyncio.FIRST_COMPLETED)
            if work.done():
                work.result()
        finally:
            self._lease.release()
            await owner.aclose()
            await self._agent.aclose()

    async def _relay(self, send: Send) -> None:
        await send(
            {
                "type": "http.response.start",
                "status": self.status_code,
                "headers": self.raw_headers,
            }
        )
        left = self._agent.answer.content_length
        try:
            async for chunk in self._agent.answer.content.iter_any():
                if self._on_chunk is not None:
                    self._on_chunk(chunk)
                if left is not None:
                    left -= len(chunk)
                    if left <= 0:
                        # With these bytes the caller has all of it.
                        await self._end()
                await send({"type": "http.response.body", "body": chunk, "more_body": True})
        except aiohttp.ClientError:
            # The head is out. Returning without the body's end makes uvicorn close the
            # connection short of it, so that the caller sees the answer isn't whole.
            _log.warning("session %s: the agent went away in mid-answer", self._lease.key)
        else:
            await self._end()
            await send({"type": "http.response.body", "body": b""})

    async def _end(self) -> None:
        # What is remembered of the answer is there before the caller can ask about it.
        on_end, self._on_end = self._on_end, None
        if on_end is not None:
            await on_end()


def _open(address: Address) -> aiohttp.ClientSession:
    connector: aiohttp.BaseConnector
    # No connection is kept: a kept one may be closed by the agent just as it is used.
    if address.path is not None:
        connector = aiohttp.UnixConnector(address.path, force_close=True)
    else:
        connector = aiohttp.TCPConnector(force_close=True)
    return aiohttp.ClientSession(
        connector=connector,
        # An invocation may take as long as its agent likes; the caller decides when to leave.
        timeout=aiohttp.ClientTimeout(total=None),
        auto_decompress=False,
        cookie_jar=aiohttp.DummyCookieJar(),
        skip_auto_headers=_NOT_ADDED,
        # The caller's own limit on a head holds; an agent's may be as large.
        max_line_size=_MAX_LINE_BYTES,
        max_field_size=_MAX_LINE_BYTES,
    )
