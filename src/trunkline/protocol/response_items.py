"""Items of the ``responses`` protocol: what a conversation is made of.

The shapes are those of OpenAI's Responses and Conversations APIs, which the contract uses.
"""

import re
from collections.abc import Callable, Mapping
from typing import Any, Final

from trunkline.protocol.errors import InvalidRequestError

_MAX_ID_CHARS: Final = 128
_CONVERSATION_ID = re.compile(r"[A-Za-z0-9_-]{1,128}")


def input_items(value: Any, new_id: Callable[[], str], *, param: str) -> list[dict[str, Any]]:
    """Return what a request brings, a text or a list, as items with ids.

    Args:
        value: ``input`` of a response, or ``items`` of a conversation.
        new_id: Makes an id for an item that has none.
        param: The field's name, for an error.

    Raises:
        InvalidRequestError: If it is neither.
    """
    if value is None:
        return []
    if isinstance(value, str):
        content = [{"type": "input_text", "text": value}]
        return [{"type": "message", "id": new_id(), "role": "user", "content": content}]
    if not isinstance(value, list) or not all(isinstance(item, dict) for item in value):
        raise InvalidRequestError(f"{param} must be text or a list of items", param=param)
    return [_with_id(item, new_id) for item in value]


def output_items(response: Mapping[str, Any], new_id: Callable[[], str]) -> list[dict[str, Any]]:
    """Return what an agent's response brought forth; what isn't an item is left out."""
    output = response.get("output")
    if not isinstance(output, list):
        return []
    return [_with_id(item, new_id) for item in output if isinstance(item, dict)]


def is_item_id(text: str) -> bool:
    """Tell whether ``text`` may name an item or a response, which agents name as they like."""
    return 0 < len(text) <= _MAX_ID_CHARS and text.isascii() and text.isprintable()


def is_conversation_id(text: str) -> bool:
    """Tell whether ``text`` may name a conversation; the platform makes those names itself."""
    return _CONVERSATION_ID.fullmatch(text) is not None


def _with_id(item: dict[str, Any], new_id: Callable[[], str]) -> dict[str, Any]:
    given = item.get("id")
    # A message may be written without saying that it is one.
    kind = item.get("type") or ("message" if "role" in item else "unknown")
    is_usable = isinstance(given, str) and is_item_id(given)
    return {**item, "type": kind, "id": given if is_usable else new_id()}


class ResponseReader:
    """Picks the finished response out of what an agent answers, JSON or an event stream.

    Feed it the bytes as they pass by. It never holds more than ``max_bytes``: what is longer
    than that is let go of, and there is nothing to find then.
    """

    def __init__(self, content_type: str, max_bytes: int) -> None:
        self._is_stream = content_type.lower().startswith("text/event-stream")
        self._max_bytes = max_bytes
        self._held = bytearray()
        self._data: list[bytes] = []
        self._is_lost = False
        self._last: bytes | None = None

    def feed(self, chunk: bytes) -> None:
        """Take the next bytes."""
        if self._is_lost:
            return
        self._held += chunk
        if self._is_stream:
            *lines, rest = self._held.replace(b"\r\n", b"\n").split(b"\n")
            self._held = bytearray(rest)
            for line in lines:
                self._take(bytes(line))
        if len(self._held) + sum(map(len, self._data)) > self._max_bytes:
            self._is_lost = True
            self._held.clear()
            self._data.clear()
            self._last = None

    def _take(self, line: bytes) -> None:
        if line.startswith(b"data:"):
            self._data.append(line[5:].removeprefix(b" "))
        elif not line:
            event = b"\n".join(self._data)
            self._data.clear()
            # The events that carry a whole response; the last of them is how it ended.
            if b'"response.' in event and b'"response"' in event:
                self._last = event

    @property
    def document(self) -> bytes | None:
        """The JSON that holds the response: itself, or the event it came in."""
        if self._is_lost:
            return None
        if not self._is_stream:
            return bytes(self._held)
        return self._last


def response_in(document: Any) -> Mapping[str, Any] | None:
    """Return the response a decoded document is, or has in it; None if there is none."""
    if not isinstance(document, dict):
        return None
    inner = document.get("response")
    found = inner if isinstance(inner, dict) else document
    return found if isinstance(found.get("id"), str) else None
