"""How a session's log is shown: one event in, lines out. No I/O."""

import datetime as dt
import json
from collections.abc import Callable
from typing import Any

from trunkline.cli.output import CYAN, GREEN
from trunkline.client import ServerEvent

_STREAM_WIDTH = 7
#: Columns before the message: the time, the stream, and two spaces after each.
_INDENT = " " * (8 + 2 + _STREAM_WIDTH + 2)
#: None for stderr: it is where logging goes, and alarms nobody.
_COLOURS = {"status": CYAN}

Paint = Callable[[str, str], str]


def plain(text: str, _colour: str) -> str:
    """Leave a text without colour."""
    return text


class LogFormatter:
    """Formats the events of one stream.

    Args:
        zone: The time zone shown; this machine's if None.
        paint: Puts a text in a colour.
    """

    def __init__(self, zone: dt.tzinfo | None = None, paint: Paint = plain) -> None:
        self._zone = zone
        self._paint = paint

    def format(self, event: ServerEvent) -> str:
        """Return the text to print for an event, without the last newline."""
        parts = list(event.unknown)
        if event.event not in ("", "log", "message"):
            parts.append(_as_event(event))
        elif event.data:
            parts.append(self._log(event.data))
        return "\n".join(parts)

    def _log(self, data: str) -> str:
        try:
            record = json.loads(data)
        except ValueError:
            return data
        if not isinstance(record, dict):
            return data
        if "stream" in record:
            return self._line(record)
        if "session_state" in record:
            return self._session(record)
        return data

    def _line(self, record: dict[str, Any]) -> str:
        stream = str(record["stream"])
        first, *more = str(record.get("message", "")).split("\n")
        head = f"{self._time(record.get('timestamp')):8}  {stream:{_STREAM_WIDTH}}  "
        text = "\n".join([head + first, *(_INDENT + line for line in more)]).rstrip()
        colour = _COLOURS.get(stream)
        return self._paint(text, colour) if colour else text

    def _session(self, record: dict[str, Any]) -> str:
        facts = []
        if record.get("version"):
            facts.append(f"v{record['version']}")
        if record.get("last_accessed"):
            facts.append(f"last accessed: {self._time(record['last_accessed'])}")
        said = f" ({', '.join(facts)})" if facts else ""
        time = self._time(record.get("timestamp"))
        return self._paint(f"{time:8}  session {record['session_state']}{said}", GREEN)

    def _time(self, timestamp: Any) -> str:
        text = str(timestamp or "")
        try:
            when = dt.datetime.fromisoformat(text)
        except ValueError:
            return text
        if when.tzinfo is None:
            return text
        return when.astimezone(self._zone).strftime("%H:%M:%S")


def _as_event(event: ServerEvent) -> str:
    data = "\n".join(f"data: {line}" for line in event.data.split("\n"))
    return f"event: {event.event}\n{data}\n"
