"""How a log is shown (CONTRACT.md 6.3)."""

import datetime as dt
import json

import pytest

from trunkline.cli.logformat import LogFormatter
from trunkline.client import EventParser

UTC = dt.UTC


def show(text: str, zone: dt.tzinfo | None = UTC) -> str:
    formatter = LogFormatter(zone)
    events = EventParser().receive_data(text.encode())
    return "\n".join(formatter.format(event) for event in events)


def log(name: str = "event: log\n", **record: str) -> str:
    return f"{name}data: {json.dumps(record)}\n\n"


@pytest.mark.parametrize("name", ["event: log\n", ""])
def test_a_line(name: str) -> None:
    text = log(name, timestamp="2026-01-01T10:00:00.123456Z", stream="stdout", message="Hello")
    assert show(text) == "10:00:00  stdout   Hello"


def test_more_lines_are_indented() -> None:
    text = log(timestamp="2026-01-01T10:00:00Z", stream="stderr", message="a\nb\nc")
    assert show(text).split("\n") == [
        "10:00:00  stderr   a",
        " " * 19 + "b",
        " " * 19 + "c",
    ]


@pytest.mark.parametrize(
    ("timestamp", "shown"),
    [
        ("2026-01-01T10:00:00.123456789Z", "10:00:00"),
        ("2026-01-01T10:00:00.1+02:00", "08:00:00"),
        ("soon", "soon    "),
        ("2026-01-01T10:00:00", "2026-01-01T10:00:00"),
    ],
)
def test_times(timestamp: str, shown: str) -> None:
    text = log(timestamp=timestamp, stream="status", message="m")
    assert show(text) == f"{shown}  status   m"


def test_local_time() -> None:
    zone = dt.timezone(dt.timedelta(hours=5, minutes=30))
    text = log(timestamp="2026-01-01T10:00:00Z", stream="stdout", message="m")
    assert show(text, zone).startswith("15:30:00")


def test_a_session() -> None:
    text = log(
        timestamp="2026-01-01T10:00:00Z",
        session_id="s1",
        session_state="Running",
        version="2",
        last_accessed="2026-01-01T09:59:58Z",
    )
    assert show(text) == "10:00:00  session Running (v2, last accessed: 09:59:58)"
    bare = log(timestamp="2026-01-01T10:00:00Z", session_state="Idle")
    assert show(bare) == "10:00:00  session Idle"


@pytest.mark.parametrize("data", ["not json", '{"a": 1}', "[1]", '"text"'])
def test_anything_else_is_shown_as_it_is(data: str) -> None:
    assert show(f"data: {data}\n\n") == data


def test_other_events_are_shown_as_events() -> None:
    assert show("event: later\ndata: a\ndata: b\n\n") == "event: later\ndata: a\ndata: b\n"


def test_comments_go_and_junk_stays() -> None:
    assert show(": alive\njunk\n\n") == "junk"


def test_colours() -> None:
    formatter = LogFormatter(UTC, lambda text, colour: f"<{colour}>{text}")
    lines = [log(stream=stream, message="x") for stream in ("stderr", "stdout", "status")]
    events = EventParser().receive_data("".join(lines).encode())
    # What an agent logs goes to stderr: no alarm.
    assert [formatter.format(event)[:4] for event in events] == ["    ", "    ", "<36>"]
