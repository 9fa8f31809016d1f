"""A request or a WebSocket while it is served: its span is current, and is told how it went."""

import asyncio
from types import TracebackType
from typing import Self

from opentelemetry import context, trace
from opentelemetry.trace import Span, StatusCode

from trunkline.agentserver._ending import ClosedBy, Ending
from trunkline.agentserver._otel.connections import Connections
from trunkline.agentserver._telemetry import Observed
from trunkline.protocol.close import CloseCode

_CANCELLED = "cancelled"


class _InSpan(Observed):
    """Makes a span current for as long as it is entered, and ends it."""

    __slots__ = ("_has_failed", "_span", "_token")

    def __init__(self, span: Span | None) -> None:
        self._span = span
        self._token: object = None
        self._has_failed = False

    def __enter__(self) -> Self:
        if self._span is not None:
            self._token = context.attach(trace.set_span_in_context(self._span))
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if error is not None:
            self.failed(error)
        if self._span is not None:
            self._ending(self._span)
            context.detach(self._token)  # type: ignore[arg-type]
            self._span.end()

    def _ending(self, span: Span) -> None:
        """Say what is known only now."""

    def answered(self, status: int) -> None:
        """Note the status; from 500 on it is the agent's failure."""
        if self._span is not None:
            self._span.set_attribute("http.response.status_code", status)
            if status >= 500:
                self.failed(str(status))

    def failed(self, cause: BaseException | str) -> None:
        """Note the first thing that went wrong.

        What an exception says stays out: its author may have put into it what was said.
        """
        if self._span is not None and not self._has_failed:
            self._has_failed = True
            self._span.set_attribute("error.type", _name_of(cause))
            self._span.set_status(StatusCode.ERROR)


class ObservedRequest(_InSpan):
    """An HTTP request."""

    __slots__ = ()


class ObservedConnection(_InSpan):
    """A WebSocket: counted while it lasts, and measured when it has ended."""

    __slots__ = ("_connections", "_end", "_started")

    def __init__(self, span: Span | None, connections: Connections | None, ending: Ending) -> None:
        super().__init__(span)
        self._connections = connections
        self._end = ending
        self._started = 0.0

    def __enter__(self) -> Self:
        if self._connections is not None:
            self._started = self._connections.opened(self._end)
        return super().__enter__()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if error is not None:
            # As the route has it; whatever came first counts.
            self._end.settle(CloseCode.INTERNAL_ERROR, ClosedBy.HOST)
        if self._connections is not None:
            self._connections.closed(self._end, self._started)
        super().__exit__(kind, error, traceback)

    def _ending(self, span: Span) -> None:
        end = self._end
        span.set_attributes(
            {
                "websocket.close_code": int(end.code),
                "websocket.closed_by": end.closed_by,
                "websocket.frames.received": end.received_messages,
                "websocket.frames.sent": end.sent_messages,
                "websocket.bytes_received": end.received_bytes,
                "websocket.bytes_sent": end.sent_bytes,
            }
        )


def _name_of(cause: BaseException | str) -> str:
    if isinstance(cause, str):
        return cause
    if isinstance(cause, asyncio.CancelledError):
        return _CANCELLED
    kind = type(cause)
    if kind.__module__ == "builtins":
        return kind.__qualname__
    return f"{kind.__module__}.{kind.__qualname__}"
