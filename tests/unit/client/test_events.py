"""Server-sent events, however the bytes are cut."""

import itertools

import pytest
from hypothesis import given, strategies as st

from trunkline.client import BadAnswerError, EventParser, ServerEvent


def parse(*chunks: bytes) -> list[ServerEvent]:
    parser = EventParser()
    return [event for chunk in chunks for event in parser.receive_data(chunk)]


def facts(events: list[ServerEvent]) -> list[tuple[str, str, str]]:
    return [(event.event, event.data, event.id) for event in events]


def test_fields() -> None:
    text = b'event: log\nid: 7\ndata: {"a":1}\n\ndata:x\ndata: y\ndata:  z\n\n'
    assert facts(parse(text)) == [("log", '{"a":1}', "7"), ("", "x\ny\n z", "7")]


def test_comments_and_empty_blocks_are_no_events() -> None:
    assert parse(b": alive\n\n\n\n: alive\n\n") == []


def test_lines_are_kept_as_they_were() -> None:
    (event,) = parse(b": alive\nevent: log\ndata:x\nwhat\n\n")
    assert event.lines == (": alive", "event: log", "data:x", "what")
    assert event.unknown == ("what",)


def test_an_unfinished_event_is_none() -> None:
    assert parse(b"data: x\n") == []


def test_byte_order_mark() -> None:
    assert facts(parse(b"\xef", b"\xbb\xbfdata: x\n\n")) == [("", "x", "")]
    assert facts(parse(b"da", b"ta: x\n\n")) == [("", "x", "")]


def test_an_id_is_only_last_once_its_event_is_whole() -> None:
    parser = EventParser()
    parser.resume_from("1")
    parser.receive_data(b"id: 2\ndata: x\n")
    assert parser.last_id == "1"
    parser.receive_data(b"\n")
    assert parser.last_id == "2"


@pytest.mark.parametrize(("line", "retry_s"), [("retry: 1500", 1.5), ("retry: soon", None)])
def test_retry(line: str, retry_s: float | None) -> None:
    parser = EventParser()
    assert parser.receive_data(f"{line}\n\n".encode()) == []
    assert parser.retry_s == retry_s


@pytest.mark.parametrize("text", [b"data: " + b"x" * 200, b"data: xxxxxxxx\n" * 20])
def test_an_event_is_bounded(text: bytes) -> None:
    parser = EventParser(max_event_bytes=100)
    with pytest.raises(BadAnswerError, match="over 100 bytes"):
        parser.receive_data(text)


line = st.sampled_from(
    ["data: x", "data: ü€😀", "event: log", "id: 4", "id", ": alive", "", "", "retry: 3", "junk"]
)


@given(
    st.lists(st.tuples(line, st.sampled_from(["\n", "\r\n", "\r"]))),
    st.lists(st.integers(0, 200), max_size=8),
    st.booleans(),
)
def test_cuts_change_nothing(lines: list[tuple[str, str]], cuts: list[int], has_mark: bool) -> None:
    data = ("\ufeff" * has_mark + "".join(text + end for text, end in lines) + "\n\n").encode()
    edges = [0, *sorted(cut for cut in cuts if cut <= len(data)), len(data)]
    chunks = [data[a:b] for a, b in itertools.pairwise(edges)]
    assert parse(*chunks) == parse(data)
    normal = data.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
    assert parse(data) == parse(normal)
