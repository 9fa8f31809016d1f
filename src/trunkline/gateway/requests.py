"""The head of an upgrade, and the ids a request is known by."""

import re
from collections.abc import Mapping, MutableMapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final, NamedTuple

import httptools

from trunkline.aio.draws import Draws
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
#: The headers of :meth:`Marks.headers`, which take the place of the caller's.
MARKING: Final = frozenset({headers.REQUEST_ID, TRACEPARENT, TRACESTATE})
#: A caller's headers that an agent gets with an upgrade, besides those of the caller's own family.
_FORWARDED: Final = (headers.FORWARDED_TO_AGENT | headers.WEBSOCKET_HANDSHAKE) - (
    MARKING | {"content-length"}
)
_USERS: Final = frozenset(name.encode() for name in headers.USER_IDENTITY_NAMES)
_KEY: Final = b"sec-websocket-key"
_TRACE_BYTES, _SPAN_BYTES = 16, 8
#: The gateway is one thread's.
_draws: Final = Draws()
_REQUEST_ID = re.compile(r"[A-Za-z0-9._:-]{1,128}")


class Fields:
    """The header fields of a head. Nobody changes them: many requests may have the same.

    What else they come to is found out when it is first asked for.
    """

    __slots__ = ("_forwarded", "is_sound", "marking", "names_user", "pairs", "texts")

    def __init__(self, pairs: list[tuple[bytes, bytes]], *, is_sound: bool = False) -> None:
        """Take them.

        Args:
            pairs: Names in lower case, and values.
            is_sound: Whether a handshake that has them is known to be right, by whatever key.
        """
        self.pairs = pairs
        self.is_sound = is_sound
        #: Their values as texts; several are joined as a list (RFC 9110 section 5.3).
        self.texts: dict[bytes, str] = {}
        texts = self.texts
        for name, value in pairs:
            text = value.decode("latin-1")
            texts[name] = f"{texts[name]}, {text}" if name in texts else text
        #: Those that say what the request is known by.
        self.marking = [pair for pair in pairs if pair[0] in _MARKING]
        #: Whether one of them says whom the request is made for.
        self.names_user = not _USERS.isdisjoint(texts)
        self._forwarded: bytes | None = None

    @property
    def forwarded(self) -> bytes:
        """The lines that an agent gets to see with an upgrade."""
        if self._forwarded is None:
            self._forwarded = forwarded_lines(self.pairs)
        return self._forwarded


def forwarded_lines(pairs: list[tuple[bytes, bytes]]) -> bytes:
    """Return the lines of an upgrade's header fields that its agent gets to see.

    Args:
        pairs: Names in lower case, and values.
    """
    dropped: frozenset[str] = frozenset()
    for raw_name, value in pairs:
        if raw_name == b"connection" and value.lower() != b"upgrade":
            dropped |= headers.nominated(value.decode("latin-1")) - headers.WEBSOCKET_HANDSHAKE
    lines = []
    for raw_name, value in pairs:
        name = raw_name.decode("latin-1")
        is_forwarded = name in _FORWARDED or name.startswith(headers.FORWARDED_PREFIX)
        if is_forwarded and name not in dropped:
            lines.append(b"%b: %b\r\n" % (raw_name, value))
    return b"".join(lines)


@dataclass(slots=True)
class UpgradeRequest:
    """The head of an upgrade. Nobody changes one.

    Attributes:
        method: The method.
        path: The target's path as it was sent.
        query: The target's query as it was sent.
        fields: The header fields that others may have, too.
        own: Those that are its own, each once: the handshake's key, and a token.
    """

    method: str
    path: str
    query: str
    fields: Fields
    own: Mapping[bytes, bytes] = field(default_factory=dict)

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
        return cls(
            method.decode("ascii"),
            path.decode("latin-1"),
            query.decode("latin-1"),
            Fields(headers),
        )

    @property
    def headers(self) -> list[tuple[bytes, bytes]]:
        """All header fields: names in lower case, and values."""
        return [*self.fields.pairs, *self.own.items()]

    @property
    def head(self) -> bytes:
        """The bytes of such a head."""
        target = self.path + ("?" + self.query if self.query else "")
        lines = [f"{self.method} {target} HTTP/1.1".encode("latin-1")]
        lines += [name + b": " + value for name, value in self.headers]
        return b"\r\n".join(lines) + b"\r\n\r\n"

    def header(self, name: bytes) -> str | None:
        """Return a header's value; several are joined as a list (RFC 9110 section 5.3)."""
        own = self.own.get(name)
        return self.fields.texts.get(name) if own is None else own.decode("latin-1")

    def with_headers(self, pairs: list[tuple[bytes, bytes]]) -> "UpgradeRequest":
        """Return the request with other header fields."""
        return replace(self, fields=Fields(pairs), own={})

    @property
    def own_forwarded(self) -> bytes:
        """The header lines that are its own and that its agent gets to see."""
        key = self.own.get(_KEY)
        return b"%b: %b\r\n" % (_KEY, key) if key is not None else b""


# Not a dataclass: one that is frozen takes twice as long to make.
class Marks(NamedTuple):
    """What a request is known by, in logs and in traces.

    Attributes:
        request_id: The caller's, if it is fit to be logged; else its trace's id.
        trace: The caller's, if it is well formed; else one that begins here.
    """

    request_id: str
    trace: TraceContext

    @property
    def lines(self) -> str:
        """The lines of :meth:`headers`."""
        lines = f"{headers.REQUEST_ID}: {self.request_id}\r\n{TRACEPARENT}: {self.trace.parent}\r\n"
        return lines + f"{TRACESTATE}: {state}\r\n" if (state := self.trace.state) else lines

    def headers(self) -> list[tuple[str, str]]:
        """Return the headers that tell them to the agent."""
        told = [(headers.REQUEST_ID, self.request_id), (TRACEPARENT, self.trace.parent)]
        if self.trace.state:
            told.append((TRACESTATE, self.trace.state))
        return told


def marks_of(raw_headers: Sequence[tuple[bytes, bytes]]) -> Marks:
    """Return what a request is known by.

    Args:
        raw_headers: Its headers, names in lower case.
    """
    if not raw_headers:
        # Nobody has marked it, as few do.
        return Marks(*_begun())
    given: dict[bytes, list[str]] = {}
    for name, value in raw_headers:
        if name in _MARKING:
            given.setdefault(name, []).append(value.decode("latin-1"))
    ids = given.get(_REQUEST_ID_HEADER, ())
    states = [state for state in given.get(_TRACESTATE, ()) if state.isascii()]
    trace = joined(given.get(_TRACEPARENT, ()), states)
    if trace is None:
        _, trace = _begun()
    if len(ids) == 1 and _REQUEST_ID.fullmatch(ids[0]):
        return Marks(ids[0], trace)
    return Marks(trace.trace_id, trace)


def _begun() -> tuple[str, TraceContext]:
    """Return a new trace's id, and the trace."""
    drawn = _draws.hex(_TRACE_BYTES + _SPAN_BYTES)
    trace_id = drawn[: 2 * _TRACE_BYTES]
    return trace_id, begun(trace_id, drawn[2 * _TRACE_BYTES :])


def marks_in(scope: MutableMapping[str, Any]) -> Marks:
    """Return what a request of an ASGI application is known by: always the same."""
    state = scope.setdefault("state", {})
    marks: Marks | None = state.get(_MARKS)
    if marks is None:
        marks = state[_MARKS] = marks_of(scope["headers"])
    return marks


def new_request_id() -> str:
    """Return an id for what isn't a whole request."""
    return _draws.hex(_TRACE_BYTES)


def new_call_id() -> str:
    """Return the id of one call, for the agent to send on to what it calls."""
    return _draws.hex(16)
