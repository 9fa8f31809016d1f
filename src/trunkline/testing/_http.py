"""What a test does over HTTP: requests, and answers whole or part by part."""

import codecs
import json
from collections.abc import AsyncIterator, Generator, Mapping
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any

from starlette.datastructures import Headers

from trunkline.testing._bench import Bench
from trunkline.testing._errors import AgentTestError
from trunkline.testing._server import Exchange
from trunkline.testing._wire import Connection, request_head


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpRequest:
    """One request, as it will be sent."""

    method: str
    target: str
    body: bytes
    headers: list[tuple[str, str]] = field(default_factory=list)

    def encoded(self) -> bytes:
        """Return the request in bytes."""
        own = [("host", "agent"), ("content-length", str(len(self.body)))]
        return request_head(self.method, self.target, [*own, *self.headers]) + self.body


def encode_body(body: object, headers: Mapping[str, str]) -> tuple[bytes, list[tuple[str, str]]]:
    """Return a request's body and its headers: bytes as they are, text as text, else JSON."""
    if isinstance(body, bytes):
        kind, data = "application/octet-stream", body
    elif isinstance(body, str):
        kind, data = "text/plain; charset=utf-8", body.encode()
    else:
        kind, data = "application/json", json.dumps(body).encode()
    fields = list(headers.items())
    if data and "content-type" not in {name.lower() for name in headers}:
        fields.append(("content-type", kind))
    return data, fields


class HttpResponse:
    """An answer of the agent's.

    Iterating yields the parts of the body as they come; :meth:`lines` yields lines of text.
    """

    def __init__(self, bench: Bench, connection: Connection, exchange: Exchange) -> None:
        self._bench = bench
        self._connection = connection
        self._exchange = exchange
        self._taken = bytearray()

    @property
    def status_code(self) -> int:
        """The status."""
        return self._connection.answer.status_code

    @property
    def headers(self) -> Headers:
        """The headers; their names don't mind case."""
        return self._connection.answer.headers

    @property
    def error(self) -> BaseException | None:
        """What the agent's handler raised, if it did."""
        return self._exchange.errors[0] if self._exchange.errors else None

    @property
    def content(self) -> bytes:
        """What has been read of the body: all of it, if the request was awaited."""
        return bytes(self._taken)

    @property
    def text(self) -> str:
        """The same as text."""
        return self._taken.decode()

    def json(self) -> Any:
        """Return the value in the body."""
        return json.loads(self._taken)

    async def read(self, *, timeout_s: float | None = None, within_s: float | None = None) -> bytes:
        """Read the body to its end, and return all of it.

        Raises:
            NothingCameError: If the next part of it doesn't come in time.
            AgentTestError: If the answer broke off.
        """
        while await self.receive(timeout_s=timeout_s, within_s=within_s):
            pass
        return self.content

    async def receive(
        self, *, timeout_s: float | None = None, within_s: float | None = None
    ) -> bytes:
        """Return the next part of the body, or nothing at its end; see :meth:`read`."""
        answer = self._connection.answer
        await self._bench.wait(
            lambda: bool(answer.parts) or answer.is_whole or answer.is_broken,
            timeout_s=timeout_s,
            within_s=within_s,
            tell=lambda: [f"nothing came after the first {len(self._taken)} bytes of the answer"],
            exchange=self._exchange,
        )
        if answer.parts:
            part = answer.parts.popleft()
            self._taken += part
            return part
        if answer.is_broken:
            self._bench.raise_failure(self._exchange)
            raise AgentTestError(
                f"the answer broke off after {len(self._taken)} bytes"
            ) from self.error
        return b""

    async def __aiter__(self) -> AsyncIterator[bytes]:
        while part := await self.receive():
            yield part

    async def lines(self) -> AsyncIterator[str]:
        """Yield the body's lines, without what ends them; an event stream is read so."""
        decoder = codecs.getincrementaldecoder("utf-8")()
        rest = ""
        async for part in self:
            *lines, rest = (rest + decoder.decode(part)).split("\n")
            for line in lines:
                yield line.removesuffix("\r")
        if rest:
            yield rest


class HttpCall:
    """A request about to be made.

    Await it for the whole answer, or enter it (``async with``) to read the answer as it comes;
    leaving before the end hangs up.
    """

    def __init__(
        self,
        bench: Bench,
        request: HttpRequest,
        *,
        timeout_s: float | None,
        within_s: float | None,
    ) -> None:
        self._bench = bench
        self._request = request
        self._timeout_s = timeout_s
        self._within_s = within_s
        self._connection = Connection()
        self._exchange = Exchange()

    def __await__(self) -> Generator[Any, None, HttpResponse]:
        """Return the answer, read to its end."""
        return self._whole().__await__()

    async def __aenter__(self) -> HttpResponse:
        """Return the answer as soon as its head has come."""
        connection = self._connection
        self._exchange = await self._bench.open(connection)
        connection.transport.write(self._request.encoded())
        answer = connection.answer
        try:
            await self._bench.wait(
                lambda: answer.status_code != 0 or answer.is_broken,
                timeout_s=self._timeout_s,
                within_s=self._within_s,
                tell=lambda: [f"{self._request.method} {self._request.target} was not answered"],
                exchange=self._exchange,
            )
            self._bench.raise_failure(self._exchange)
            if answer.status_code == 0:
                raise AgentTestError("the agent ended the connection without an answer")
        except BaseException:
            connection.transport.abort()
            raise
        return HttpResponse(self._bench, connection, self._exchange)

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Hang up."""
        self._connection.transport.close()
        if error is None:
            await self._bench.guest.settle()
            self._bench.raise_failure(self._exchange)

    async def _whole(self) -> HttpResponse:
        async with self as response:
            await response.read(timeout_s=self._timeout_s, within_s=self._within_s)
            return response
