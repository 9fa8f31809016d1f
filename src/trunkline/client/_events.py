"""Server-sent events: bytes in, events out (WHATWG HTML, section 9.2). No I/O."""

from dataclasses import dataclass

from trunkline.client._errors import BadAnswerError

#: A line of an agent's log is cut far below this by the platform.
MAX_EVENT_BYTES = 4 * 1024 * 1024
_BOM = b"\xef\xbb\xbf"


@dataclass(frozen=True, slots=True)
class ServerEvent:
    """One event.

    Attributes:
        event: Its type; empty if the stream gave none.
        data: Its data lines, joined by newlines.
        id: The last id the stream gave, in this event or an earlier one.
        lines: The lines it was read from, comments and all, as they were.
        unknown: Those of them that are no field of the format.
    """

    event: str
    data: str
    id: str
    lines: tuple[str, ...]
    unknown: tuple[str, ...] = ()


class EventParser:
    """Reads one stream.

    Attributes:
        last_id: What to send as ``Last-Event-ID`` to go on after the last whole event.
        retry_s: How long the stream asks to wait before connecting again, if it does.
    """

    def __init__(self, max_event_bytes: int = MAX_EVENT_BYTES) -> None:
        self.last_id = ""
        self.retry_s: float | None = None
        self._max_event_bytes = max_event_bytes
        self._id = ""
        self._rest = b""
        self._is_first = True
        self._after_cr = False
        self._reset()

    def resume_from(self, last_id: str) -> None:
        """Say which id an earlier connection to the same stream ended with."""
        self.last_id = self._id = last_id

    def receive_data(self, data: bytes) -> list[ServerEvent]:
        """Take bytes as read, split anywhere, and return the events they complete.

        Raises:
            BadAnswerError: If one event is over the limit.
        """
        if self._is_first:
            data = self._rest + data
            self._rest = b""
            if len(data) < len(_BOM) and _BOM.startswith(data):
                self._rest = data
                return []
            self._is_first = False
            data = data.removeprefix(_BOM)
        if self._after_cr and data:
            # The line ended at the carriage return; its line feed may come in the next read.
            data = data.removeprefix(b"\n")
            self._after_cr = False
        self._after_cr = self._after_cr or data.endswith(b"\r")
        *lines, rest = data.replace(b"\r\n", b"\n").replace(b"\r", b"\n").split(b"\n")
        if lines:
            lines[0] = self._rest + lines[0]
            self._rest = rest
        else:
            self._rest += rest
        events = [event for line in lines if (event := self._take(line)) is not None]
        if self._size + len(self._rest) > self._max_event_bytes:
            raise BadAnswerError(f"one event is over {self._max_event_bytes} bytes")
        return events

    def _reset(self) -> None:
        self._event = ""
        self._data: list[str] = []
        self._lines: list[str] = []
        self._unknown: list[str] = []
        self._size = 0

    def _take(self, line: bytes) -> ServerEvent | None:
        text = line.decode(errors="replace")
        if not text:
            return self._dispatch()
        self._lines.append(text)
        self._size += len(line)
        if text.startswith(":"):
            return None
        field, _, value = text.partition(":")
        value = value.removeprefix(" ")
        match field:
            case "event":
                self._event = value
            case "data":
                self._data.append(value)
            case "id":
                if "\0" not in value:
                    self._id = value
            case "retry":
                if value.isascii() and value.isdecimal():
                    self.retry_s = int(value) / 1000
            case _:
                self._unknown.append(text)
        return None

    def _dispatch(self) -> ServerEvent | None:
        event = ServerEvent(
            self._event, "\n".join(self._data), self._id, tuple(self._lines), tuple(self._unknown)
        )
        self.last_id = self._id
        # A block of comments only is how a quiet stream says that it is alive.
        is_something = bool(self._data or self._event or self._unknown)
        self._reset()
        return event if is_something else None
