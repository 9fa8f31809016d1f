"""The client's end of a connection in memory: bytes in and out, and answers to HTTP requests."""

import asyncio
from collections import deque
from collections.abc import Iterable
from typing import cast

import httptools
from starlette.datastructures import Headers


def request_head(method: str, target: str, headers: Iterable[tuple[str, str]]) -> bytes:
    """Return the head of an HTTP request.

    Raises:
        ValueError: If a part of it holds a line break or isn't Latin-1.
    """
    lines = [f"{method} {target} HTTP/1.1", *(f"{name}: {value}" for name, value in headers)]
    for line in lines:
        if "\r" in line or "\n" in line:
            raise ValueError(f"a request's head may not hold a line break: {line!r}")
    return "\r\n".join([*lines, "", ""]).encode("latin-1")


class Answer:
    """An HTTP answer as it comes in.

    Attributes:
        status_code: 0 until the head has come.
        parts: What has come of the body and wasn't taken yet.
        is_whole: Whether all of it has come.
        rest: What came after the head of a 101.
    """

    def __init__(self) -> None:
        self._parser = httptools.HttpResponseParser(self)
        self._raw_headers: list[tuple[bytes, bytes]] = []
        self.status_code = 0
        self.headers = Headers()
        self.parts: deque[bytes] = deque()
        self.is_whole = False
        self.is_broken = False
        self.rest = b""

    def feed(self, data: bytes) -> None:
        """Take what came in."""
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            self.rest = data[upgrade.args[0] :]

    def feed_eof(self) -> None:
        """Take note that nothing more comes."""
        if not self.is_whole:
            has_length = "content-length" in self.headers or "transfer-encoding" in self.headers
            # A body without a length is as long as its connection (RFC 9112 section 6.3).
            self.is_whole = self.status_code != 0 and not has_length
            self.is_broken = not self.is_whole

    # What the parser calls

    def on_header(self, name: bytes, value: bytes) -> None:
        """Take a header."""
        self._raw_headers.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        """Take note that the head is whole."""
        self.headers = Headers(raw=self._raw_headers)
        self.status_code = self._parser.get_status_code()

    def on_body(self, body: bytes) -> None:
        """Take part of the body."""
        self.parts.append(body)

    def on_message_complete(self) -> None:
        """Take note that the body is whole."""
        self.is_whole = True


class Connection(asyncio.Protocol):
    """One connection to the agent. Its transport lives on the agent's event loop."""

    def __init__(self) -> None:
        self.transport: asyncio.Transport = None  # type: ignore[assignment]
        self.answer = Answer()
        self.is_over = False
        self.is_congested = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin."""
        self.transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        """Take part of the answer."""
        self.answer.feed(data)

    def eof_received(self) -> bool:
        """Let the transport close."""
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        """Take note that the connection is gone."""
        self.is_over = True
        self.answer.feed_eof()

    def pause_writing(self) -> None:
        """Take note that the agent doesn't read."""
        self.is_congested = True

    def resume_writing(self) -> None:
        """Take note that the agent reads again."""
        self.is_congested = False
