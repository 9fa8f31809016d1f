"""What every HTTP answer of the host has in common: its headers, its log lines, its fairness."""

import asyncio
import logging
import re
import time
import uuid
from collections.abc import MutableMapping
from datetime import UTC, datetime
from email.utils import format_datetime
from typing import Any, Final

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from trunkline.agentserver._tracing import current_trace_id, trace_id_of
from trunkline.protocol import headers as names

_REQUEST_ID = re.compile(r"[A-Za-z0-9._:/+=|@-]{1,256}")
_QUIET_PATH: Final = "/readiness"


def request_id_for(headers: Headers) -> str:
    """Return the id a request is known by.

    That is the id of the trace it belongs to, else what the caller named it, else a new one.
    """
    trace_id = current_trace_id() or trace_id_of(headers.get("traceparent", ""))
    if trace_id:
        return trace_id
    named = headers.get(names.REQUEST_ID, "")
    return named if _REQUEST_ID.fullmatch(named) else uuid.uuid4().hex


class ServerVersion:
    """The value of ``x-platform-server``: a segment for each part of the host."""

    def __init__(self, first: str) -> None:
        self._segments = [first]
        self.header = first.encode("latin-1")

    def add(self, segment: str) -> None:
        """Add a segment, unless it is there already."""
        if not segment.strip():
            raise ValueError("a server version must not be blank")
        segment = segment.strip()
        if segment not in self._segments:
            self._segments.append(segment)
            self.header = " ".join(self._segments).encode("latin-1", "replace")


class HostHeaders:
    """ASGI middleware around everything else, the answers to failures included."""

    def __init__(
        self, app: ASGIApp, version: ServerVersion, request_log: logging.Logger | None
    ) -> None:
        self._app = app
        self._version = version
        self._log = request_log
        self._date = b""
        self._date_until = 0.0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection of any kind; only HTTP is touched."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        exchange = _Exchange(self, scope, send)
        exchange.log_start()
        try:
            await self._app(scope, receive, exchange.send)
        finally:
            exchange.log_end()

    def stamp(self, message: MutableMapping[str, Any], request_id: bytes) -> None:
        """Put the host's headers into the start of an answer."""
        own = {
            b"x-request-id": request_id,
            b"x-platform-server": self._version.header,
            b"date": self._now(),
        }
        message["headers"] = [
            *((name, value) for name, value in message.get("headers", ())
              if name.lower() not in own),
            *own.items(),
        ]  # fmt: skip

    def logger_for(self, path: str) -> tuple[logging.Logger, int] | None:
        """Return where and how loudly a request is logged, or None if it isn't."""
        level = logging.DEBUG if path == _QUIET_PATH else logging.INFO
        if self._log is None or not self._log.isEnabledFor(level):
            return None
        return self._log, level

    def _now(self) -> bytes:
        moment = time.monotonic()
        if moment >= self._date_until:
            now = datetime.now(UTC)
            self._date = format_datetime(now, usegmt=True).encode()
            self._date_until = moment + 1 - now.microsecond / 1_000_000
        return self._date


class _Exchange:
    """One request and its answer."""

    __slots__ = ("_host", "_id", "_log", "_scope", "_send", "_started", "_status", "_target")

    def __init__(self, host: HostHeaders, scope: Scope, send: Send) -> None:
        self._host = host
        self._scope = scope
        self._send = send
        self._status = 500
        self._started = time.monotonic()
        self._id = request_id_for(Headers(scope=scope))
        scope.setdefault("state", {})["request_id"] = self._id
        self._log = host.logger_for(scope["path"])
        # As it came, still escaped: a decoded path may hold line breaks.
        raw = scope.get("raw_path") or scope["path"].encode("ascii", "backslashreplace")
        self._target = raw.decode("latin-1") if self._log is not None else ""

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            # A trace may have begun with this request.
            self._id = current_trace_id() or self._id
            self._status = message["status"]
            self._host.stamp(message, self._id.encode("latin-1"))
        await self._send(message)
        if message.get("more_body", False):
            # A server that can write at once doesn't wait, nor does one whose client has left:
            # without a pause here a stream that never waits itself would stop all others.
            await asyncio.sleep(0)

    def log_start(self) -> None:
        if self._log is not None:
            log, level = self._log
            log.log(
                level, "request started: %s %s request_id=%s",
                self._scope["method"], self._target, self._id,
            )  # fmt: skip

    def log_end(self) -> None:
        if self._log is not None:
            log, level = self._log
            log.log(
                max(level, logging.WARNING) if self._status >= 400 else level,
                "request finished: %s %s status=%d duration_ms=%d request_id=%s",
                self._scope["method"], self._target, self._status,
                (time.monotonic() - self._started) * 1000, self._id,
            )  # fmt: skip
