"""How a stream of events in an answer is shown: the text in it, as it comes. No I/O."""

import json
from collections.abc import Iterator
from typing import Any

from trunkline.client import EventParser, ServerEvent

EVENT_STREAM = "text/event-stream"
#: Where an event of the responses protocol has its piece of text.
_DELTA = "response.output_text.delta"
_FAILED = frozenset({"error", "response.failed"})
_DONE = "[DONE]"


class EventText:
    """Makes text of the events of one answer.

    The pieces of a text that is being made are put together; any other event is its data, on a
    line of its own.
    """

    def __init__(self) -> None:
        self._parser = EventParser()
        self._is_in_line = False
        self.error = ""
        """What the stream says went wrong; empty if it doesn't."""

    def receive_data(self, chunk: bytes) -> Iterator[str]:
        """Take bytes of the stream; yield texts to be printed as they are."""
        for event in self._parser.receive_data(chunk):
            yield from self._shown(event)

    def end(self) -> str:
        """Return what closes the last line."""
        return "\n" if self._is_in_line else ""

    def _shown(self, event: ServerEvent) -> Iterator[str]:
        if not event.data or event.data == _DONE:
            return
        document = _object_of(event.data)
        kind = str(document.get("type") or event.event)
        if kind in _FAILED:
            self.error = _error_of(document) or event.data
        if kind == _DELTA:
            self._is_in_line = True
            yield str(document.get("delta", ""))
        elif not kind.startswith("response."):
            yield f"{self.end()}{event.data}\n"
            self._is_in_line = False


def _object_of(data: str) -> dict[str, Any]:
    try:
        document = json.loads(data)
    except ValueError:
        return {}
    return document if isinstance(document, dict) else {}


def _error_of(document: dict[str, Any]) -> str:
    inner = document.get("error") or (document.get("response") or {}).get("error") or document
    return str(inner.get("message") or "") if isinstance(inner, dict) else str(inner)


def text_of_response(body: bytes) -> str | None:
    """Return the text of a whole answer of the responses protocol; None if it isn't one."""
    document = _object_of(body.decode(errors="replace"))
    pieces = [
        str(part.get("text", ""))
        for item in document.get("output") or []
        if isinstance(item, dict)
        for part in item.get("content") or []
        if isinstance(part, dict) and part.get("type") == "output_text"
    ]
    return "\n".join(pieces) if pieces else None
