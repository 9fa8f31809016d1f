"""The head of an upgrade, and the ids a request is known by."""

import os
import re
from collections.abc import Iterable, MutableMapping
from dataclasses import dataclass, field
from typing import Any, Final

import httptools

from trunkline.protocol import headers
from trunkline.protocol.errors import InvalidRequestError
from trunkline.protocol.trace_context import (
    TRACEPARENT,
    TRACESTATE,
    TraceContext,
    begun,
    joined,
)

_MARKS: Final = "trunkline.marks"
_REQUEST_ID_HEADER = headers.REQUEST_ID.encode()
_TRACEPARENT, _TRACESTATE = TRACEPARENT.encode(), TRACESTATE.encode()
_MARKING = frozenset({_REQUEST_ID_HEADER, _TRACEPARENT, _TRACESTATE})
_TRACE_BYTES, _SPAN_BYTES = 16, 8
_REQUEST_ID = re.compile(r"[A-Za-z0-9._:-]{1,128}")


@dataclass(slots=True)
class UpgradeRequest:
    """The head of an upgrade. Nobody changes one.

    Attributes:
        method: The method.
        path: The target's path as it was sent.
        query: The target's query as it was sent.
        headers: Names in lower case, and values.
    """

    method: str
    path: str
    query: str
    headers: list[tuple[bytes, bytes]]
    _values: dict[bytes, bytes] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        # A dozen of them are asked for.
        values: dict[bytes, bytes] = {}
        for name, value in self.headers:
            values[name] = values[name] + b", " + value if name in values else value
        self._values = values

    @classmethod
    def of_target(
        cls, method: bytes, target: bytes, headers: list[tuple[bytes, bytes]]
    ) -> "UpgradeRequest":
        """Return the one with a request line's target.

        Raises:
            InvalidRequestError: If the target isn't a path.
        """
        try:
            url = httptools.parse_url(target)
        except httptools.HttpParserInvalidURLError:
            raise InvalidRequestError("the request's target isn't a path") from None
        path, query = url.path or b"/", url.query or b""
        return cls(method.decode("ascii"), path.decode("latin-1"), query.decode("latin-1"), headers)

    @property
    def head(self) -> bytes:
        """The bytes of such a head."""
        target = self.path + ("?" + self.query if self.query else "")
        lines = [f"{self.method} {target} HTTP/1.1".encode("latin-1")]
        lines += [name + b": " + value for name, value in self.headers]
        return b"\r\n".join(lines) + b"\r\n\r\n"

    def header(self, name: bytes) -> str | None:
        """Return a header's value; several are joined as a list (RFC 9110 section 5.3)."""
        value = self._values.get(name)
        return None if value is None else value.decode("latin-1")


@dataclass(frozen=True, slots=True)
class Marks:
    """What a request is known by, in logs and in traces.

    Attributes:
        request_id: The caller's, if it is fit to be logged; else its trace's id.
        trace: The caller's, if it is well formed; else one that begins here.
    """

    request_id: str
    trace: TraceContext

    def headers(self) -> list[tuple[str, str]]:
        """Return the headers that tell them to the agent."""
        told = [(headers.REQUEST_ID, self.request_id), (TRACEPARENT, self.trace.parent)]
        return told + ([(TRACESTATE, self.trace.state)] if self.trace.state else [])


#: The headers of :meth:`Marks.headers`, which take the place of the caller's.
MARKING = frozenset({headers.REQUEST_ID, TRACEPARENT, TRACESTATE})


def marks_of(raw_headers: Iterable[tuple[bytes, bytes]]) -> Marks:
    """Return what a request is known by.

    Args:
        raw_headers: Its headers, names in lower case.
    """
    given: dict[bytes, list[str]] = {}
    for name, value in raw_headers:
        if name in _MARKING:
            given.setdefault(name, []).append(value.decode("latin-1"))
    ids = given.get(_REQUEST_ID_HEADER, ())
    states = [state for state in given.get(_TRACESTATE, ()) if state.isascii()]
    trace = joined(given.get(_TRACEPARENT, ()), states)
    if trace is None:
        drawn = os.urandom(_TRACE_BYTES + _SPAN_BYTES).hex()
        trace = begun(drawn[: 2 * _TRACE_BYTES], drawn[2 * _TRACE_BYTES :])
    if len(ids) == 1 and _REQUEST_ID.fullmatch(ids[0]):
        return Marks(ids[0], trace)
    return Marks(trace.trace_id, trace)


def marks_in(scope: MutableMapping[str, Any]) -> Marks:
    """Return what a request of an ASGI application is known by: always the same."""
    state = scope.setdefault("state", {})
    marks: Marks | None = state.get(_MARKS)
    if marks is None:
        marks = state[_MARKS] = marks_of(scope["headers"])
    return marks


def new_request_id() -> str:
    """Return an id for what isn't a whole request."""
    return os.urandom(_TRACE_BYTES).hex()


def new_call_id() -> str:
    """Return the id of one call, for the agent to send on to what it calls."""
    return os.urandom(16).hex()
