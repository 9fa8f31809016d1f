"""What ``connect`` prints of a conversation."""

import base64
import datetime as dt
from collections.abc import Callable
from typing import Any, BinaryIO, Protocol

from trunkline.cli import output
from trunkline.client import Message
from trunkline.protocol.close import explain


class Sink(Protocol):
    """Is told of every frame of a conversation, and of its end."""

    def sent(self, message: Message) -> None: ...
    def received(self, message: Message) -> None: ...
    def closed(self, code: int, reason: str) -> None: ...


class TextSink:
    """For people and pipes: text to stdout, binary to a file or counted."""

    def __init__(self, binary: BinaryIO | None) -> None:
        self._binary = binary
        self._frames = 0
        self._bytes = 0

    def sent(self, message: Message) -> None:
        """Print nothing: who sends knows what."""

    def received(self, message: Message) -> None:
        if isinstance(message, str):
            output.put(message)
            return
        if self._binary is not None:
            _write(self._binary, message)
        elif not self._frames:
            output.note("the agent sends binary frames; keep them with --out FILE")
        self._frames += 1
        self._bytes += len(message)

    def closed(self, code: int, reason: str) -> None:
        if self._frames:
            output.note(f"received {self._frames} binary frames, {self._bytes} bytes")
        output.note(describe_close(code, reason))


class JsonSink:
    """For programs: one JSON object per frame, the close frame included."""

    def __init__(
        self,
        binary: BinaryIO | None,
        put_line: Callable[[Any], None] = output.put_json_line,
        now: Callable[[], dt.datetime] = lambda: dt.datetime.now(dt.UTC),
    ) -> None:
        self._binary = binary
        self._put_line = put_line
        self._now = now

    def sent(self, message: Message) -> None:
        self._put("sent", **_content(message))

    def received(self, message: Message) -> None:
        if self._binary is not None and isinstance(message, bytes):
            _write(self._binary, message)
        self._put("received", **_content(message))

    def closed(self, code: int, reason: str) -> None:
        self._put("received", type="close", code=code, reason=reason)
        output.note(describe_close(code, reason))

    def _put(self, direction: str, **fields: Any) -> None:
        time = self._now().isoformat(timespec="microseconds").replace("+00:00", "Z")
        self._put_line({"direction": direction, "time": time, **fields})


def _write(file: BinaryIO, data: bytes) -> None:
    file.write(data)
    # A player that reads along shouldn't wait for a full buffer.
    file.flush()


def _content(message: Message) -> dict[str, str]:
    if isinstance(message, str):
        return {"type": "text", "text": message}
    return {"type": "binary", "base64": base64.b64encode(message).decode()}


def describe_close(code: int, reason: str) -> str:
    """Return a close code in words."""
    said = f" ({reason})" if reason else ""
    return f"closed {code}: {explain(code)}{said}"


def describe_loss(error: Exception | None) -> str:
    """Say that a stream ended and is connected again soon."""
    why = f"lost the stream ({error})" if error else "the platform ended the stream"
    return f"{why}; connecting again..."
