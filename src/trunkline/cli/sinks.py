"""What ``connect`` prints of a conversation."""

import base64
import datetime as dt
import sys
from collections.abc import Callable
from typing import Any, Protocol

from trunkline.cli import output
from trunkline.client import Message
from trunkline.protocol.close import explain

_HEX_BYTES = 16
_ARROWS = {"sent": ">", "received": "<"}
_COLOURS = {"sent": output.GREEN, "received": output.CYAN}

Now = Callable[[], dt.datetime]


class Writable(Protocol):
    """Where binary messages go: a file, a WAV file, a loudspeaker."""

    def write(self, data: bytes, /) -> int: ...
    def flush(self) -> None: ...


class Sink(Protocol):
    """Is told of every frame of a conversation, of its losses, and of its end."""

    def sent(self, message: Message) -> None: ...
    def received(self, message: Message) -> None: ...
    def lost(self, code: int, reason: str) -> None: ...
    def closed(self, code: int, reason: str) -> None: ...


class TextSink:
    """For people and pipes: text to stdout, binary to a file or counted."""

    def __init__(self, binary: Writable | None) -> None:
        self._binary = binary
        self._frames = 0
        self._bytes = 0

    def sent(self, message: Message) -> None:
        """Print nothing: who sends knows what."""

    def received(self, message: Message) -> None:
        if isinstance(message, str):
            output.put(output.coloured(message, _COLOURS["received"], sys.stdout))
            return
        if self._binary is not None:
            _write(self._binary, message)
        elif not self._frames:
            output.note("the agent sends binary frames; keep them with --out FILE")
        self._frames += 1
        self._bytes += len(message)

    def lost(self, code: int, reason: str) -> None:
        output.note(f"{describe_close(code, reason)}; coming back...")

    def closed(self, code: int, reason: str) -> None:
        if self._frames:
            output.note(f"received {self._frames} binary frames, {self._bytes} bytes")
        output.note(describe_close(code, reason))


class ViewSink:
    """For looking closely: every message of both sides with its time, binary in hex if wanted."""

    def __init__(
        self,
        binary: Writable | None,
        *,
        has_hex: bool,
        now: Now = lambda: dt.datetime.now(dt.UTC).astimezone(),
    ) -> None:
        self._binary = binary
        self._has_hex = has_hex
        self._now = now

    def sent(self, message: Message) -> None:
        self._put("sent", message)

    def received(self, message: Message) -> None:
        if self._binary is not None and isinstance(message, bytes):
            _write(self._binary, message)
        self._put("received", message)

    def lost(self, code: int, reason: str) -> None:
        output.note(f"{self._time()}  {describe_close(code, reason)}; coming back...")

    def closed(self, code: int, reason: str) -> None:
        output.note(f"{self._time()}  {describe_close(code, reason)}")

    def _put(self, direction: str, message: Message) -> None:
        head = f"{self._time()}  {_ARROWS[direction]}  "
        if isinstance(message, str):
            lines = message.split("\n")
        else:
            lines = [f"{len(message)} bytes", *(hex_lines(message) if self._has_hex else ())]
        text = f"\n{' ' * len(head)}".join(lines)
        output.put(output.coloured(head + text, _COLOURS[direction], sys.stdout))

    def _time(self) -> str:
        return self._now().strftime("%H:%M:%S.%f")[:-3]


class JsonSink:
    """For programs: one JSON object per frame, the close frame included."""

    def __init__(
        self,
        binary: Writable | None,
        put_line: Callable[[Any], None] = output.put_json_line,
        now: Now = lambda: dt.datetime.now(dt.UTC),
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

    def lost(self, code: int, reason: str) -> None:
        self.closed(code, reason)

    def closed(self, code: int, reason: str) -> None:
        self._put("received", type="close", code=code, reason=reason)
        output.note(describe_close(code, reason))

    def _put(self, direction: str, **fields: Any) -> None:
        time = self._now().isoformat(timespec="microseconds").replace("+00:00", "Z")
        self._put_line({"direction": direction, "time": time, **fields})


def hex_lines(data: bytes) -> list[str]:
    """Return bytes as people read them: place, hex, and what is printable of them."""
    lines = []
    for at in range(0, len(data), _HEX_BYTES):
        row = data[at : at + _HEX_BYTES]
        text = "".join(chr(byte) if 0x20 <= byte < 0x7F else "." for byte in row)
        lines.append(f"{at:06x}  {row.hex(' '):{_HEX_BYTES * 3 - 1}}  {text}")
    return lines


def _write(file: Writable, data: bytes) -> None:
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
