"""Trace context from the caller to the handler, when OpenTelemetry is installed."""

import importlib
import importlib.util
import re
import sys
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

_BAGGAGE_PREFIX = "azure.ai.agentserver."
_TRACEPARENT = re.compile(r"[0-9a-f]{2}-([0-9a-f]{32})-[0-9a-f]{16}-[0-9a-f]{2}(?:-.*)?")
_NO_TRACE = "0" * 32
#: One for all: most requests belong to no trace, and WebSockets are many and long.
_NOTHING = nullcontext()


def trace_id_of(traceparent: str) -> str:
    """Return the trace id in a ``traceparent`` header, or nothing if it isn't a valid one."""
    match = _TRACEPARENT.fullmatch(traceparent)
    return "" if match is None or match[1] == _NO_TRACE else match[1]


def current_trace_id() -> str:
    """Return the id of the trace being recorded here, or nothing."""
    trace = sys.modules.get("opentelemetry.trace")
    if trace is None:
        return ""
    trace_id = trace.get_current_span().get_span_context().trace_id
    return f"{trace_id:032x}" if trace_id else ""


class Tracing:
    """Makes a caller's trace context current while a handler runs; makes no spans itself.

    OpenTelemetry is not a dependency. It is loaded on the first request that carries a trace
    context, if it is there; an agent that uses it has it loaded before.
    """

    def __init__(self) -> None:
        self._is_absent = False

    def continued(self, headers: Mapping[str, str], **ids: str) -> AbstractContextManager[None]:
        """Continue the trace that ``headers`` speak of.

        Args:
            headers: The request's headers.
            ids: Entries for the baggage, without their common prefix; empty ones are left out.
        """
        otel = self._load(is_needed="traceparent" in headers or "baggage" in headers)
        return _NOTHING if otel is None else _continued(otel, headers, ids)

    def _load(self, *, is_needed: bool) -> tuple[Any, Any, Any] | None:
        if self._is_absent or (not is_needed and "opentelemetry" not in sys.modules):
            return None
        if importlib.util.find_spec("opentelemetry") is None:
            self._is_absent = True
            return None
        try:
            return (
                importlib.import_module("opentelemetry.propagate"),
                importlib.import_module("opentelemetry.baggage"),
                importlib.import_module("opentelemetry.context"),
            )
        except ImportError:
            self._is_absent = True
            return None


@contextmanager
def _continued(
    otel: tuple[Any, Any, Any], headers: Mapping[str, str], ids: Mapping[str, str]
) -> Iterator[None]:
    propagate, baggage, context = otel
    carrier = {
        name: headers[name] for name in ("traceparent", "tracestate", "baggage")
        if headers.get(name)
    }  # fmt: skip
    current = propagate.extract(carrier, context=context.get_current())
    for name, value in ids.items():
        if value:
            key = name if name == "x_request_id" else _BAGGAGE_PREFIX + name
            current = baggage.set_baggage(key, value, context=current)
    token = context.attach(current)
    try:
        yield
    finally:
        context.detach(token)
