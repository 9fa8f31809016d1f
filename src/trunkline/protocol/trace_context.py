"""Trace context of the W3C: which trace a request belongs to, joined or begun.

The platform makes no span of its own, so a trace that is joined is passed on as it came: its
parent stays the caller's span. What isn't well formed is dropped as a whole (Trace Context
section 3.2), and a trace begun in its place.
"""

import re
from collections.abc import Sequence
from typing import Final, NamedTuple

TRACEPARENT: Final = "traceparent"
TRACESTATE: Final = "tracestate"

_PARENT = re.compile(r"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-[0-9a-f]{2}(-.*)?")
_FORBIDDEN_VERSION = "ff"
#: Sampled. Nobody has decided against it, and an agent that follows its parent would be silent.
_FLAGS = "01"


class TraceContext(NamedTuple):
    """What a request carries of its trace.

    Attributes:
        parent: The ``traceparent`` header.
        state: The ``tracestate`` header; None if there is none.
    """

    parent: str
    state: str | None = None

    @property
    def trace_id(self) -> str:
        """The trace's id: 32 lower-case hex digits."""
        return self.parent.split("-")[1]


def joined(parents: Sequence[str], states: Sequence[str]) -> TraceContext | None:
    """Return the trace a request belongs to, or None if it says none that holds.

    Args:
        parents: The values of its ``traceparent`` headers.
        states: The values of its ``tracestate`` headers, in their order.
    """
    if len(parents) != 1:
        return None
    parent = parents[0].strip(" \t")
    match = _PARENT.fullmatch(parent)
    if match is None or not any(c != "0" for c in match[2]) or not any(c != "0" for c in match[3]):
        return None
    if match[1] == _FORBIDDEN_VERSION or (match[1] == "00" and match[4]):
        return None
    return TraceContext(parent, ",".join(state for state in states if state) or None)


def begun(trace_id: str, parent_id: str) -> TraceContext:
    """Return a new trace.

    Args:
        trace_id: 32 lower-case hex digits, not all of them 0.
        parent_id: 16 of them.
    """
    return TraceContext(f"00-{trace_id}-{parent_id}-{_FLAGS}")
