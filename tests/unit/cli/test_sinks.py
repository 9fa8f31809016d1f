"""What `connect` prints."""

import datetime as dt
import io
import json
from typing import Any

import pytest

from trunkline.cli.sinks import JsonSink, TextSink, describe_loss


def test_text(capsys: pytest.CaptureFixture[str]) -> None:
    binary = io.BytesIO()
    sink = TextSink(binary)
    sink.sent("hi")
    sink.received("hello")
    sink.received(b"\x00\x01")
    sink.received("two\nlines")
    sink.closed(1000, "bye")
    shown = capsys.readouterr()
    assert shown.out == "hello\ntwo\nlines\n"
    assert binary.getvalue() == b"\x00\x01"
    assert shown.err.splitlines() == [
        "received 1 binary frames, 2 bytes",
        "closed 1000: the conversation ended normally (bye)",
    ]


def test_binary_without_a_file_is_counted(capsys: pytest.CaptureFixture[str]) -> None:
    sink = TextSink(None)
    sink.received(b"abc")
    sink.received(b"abc")
    sink.closed(1011, "")
    shown = capsys.readouterr()
    assert shown.out == ""
    assert "keep them with --out FILE" in shown.err
    assert "received 2 binary frames, 6 bytes" in shown.err
    assert "closed 1011: the agent failed" in shown.err


def test_json_has_one_object_a_frame(capsys: pytest.CaptureFixture[str]) -> None:
    lines: list[Any] = []
    now = dt.datetime(2026, 1, 2, 3, 4, 5, 6, tzinfo=dt.UTC)
    sink = JsonSink(None, lines.append, lambda: now)
    sink.sent("hi")
    sink.received("hellö")
    sink.received(b"\x00")
    sink.closed(1001, "drain")
    time = "2026-01-02T03:04:05.000006Z"
    assert lines == [
        {"direction": "sent", "time": time, "type": "text", "text": "hi"},
        {"direction": "received", "time": time, "type": "text", "text": "hellö"},
        {"direction": "received", "time": time, "type": "binary", "base64": "AA=="},
        {"direction": "received", "time": time, "type": "close", "code": 1001, "reason": "drain"},
    ]
    assert "closed 1001" in capsys.readouterr().err


def test_json_lines_are_lines(capsys: pytest.CaptureFixture[str]) -> None:
    binary = io.BytesIO()
    JsonSink(binary).received(b"\n")
    (line,) = capsys.readouterr().out.splitlines()
    assert json.loads(line)["base64"] == "Cg=="
    assert binary.getvalue() == b"\n"


def test_losses() -> None:
    assert describe_loss(None) == "the platform ended the stream; connecting again..."
    assert "lost the stream (x)" in describe_loss(ValueError("x"))
