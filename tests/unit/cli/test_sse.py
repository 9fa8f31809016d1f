"""What is shown of a stream of events."""

import json

import pytest

from trunkline.cli.sse import EventText, text_of_response


def shown(stream: bytes, step: int) -> tuple[str, EventText]:
    text = EventText()
    parts = [
        piece
        for at in range(0, len(stream), step)
        for piece in text.receive_data(stream[at : at + step])
    ]
    return "".join(parts) + text.end(), text


def event(kind: str, **fields: object) -> bytes:
    return f"event: {kind}\ndata: {json.dumps({'type': kind, **fields})}\n\n".encode()


@pytest.mark.parametrize("step", [1, 7, 10_000])
def test_pieces_of_a_text_are_put_together(step: int) -> None:
    stream = (
        event("response.created")
        + event("response.output_text.delta", delta="one ")
        + event("response.output_text.delta", delta="two")
        + event("response.completed")
    )
    text, events = shown(stream, step)
    assert text == "one two\n"
    assert events.error == ""


@pytest.mark.parametrize("step", [1, 10_000])
def test_other_events_are_their_data(step: int) -> None:
    stream = b': ping\n\ndata: one\n\nevent: x\ndata: {"a": 1}\n\n'
    stream += b"data: two\ndata: lines\n\ndata: [DONE]\n\n"
    assert shown(stream, step)[0] == 'one\n{"a": 1}\ntwo\nlines\n'


@pytest.mark.parametrize(
    ("stream", "said"),
    [
        (event("error", message="no model"), "no model"),
        (event("response.failed", response={"error": {"message": "too long"}}), "too long"),
        (event("response.failed"), '{"type": "response.failed"}'),
    ],
)
def test_a_failure_is_told(stream: bytes, said: str) -> None:
    assert shown(stream, 1000)[1].error == said


def test_the_text_of_a_whole_response() -> None:
    content = [{"type": "output_text", "text": "a"}, {"type": "refusal"}]
    body = {"output": [{"content": content}, {"type": "reasoning"}, {"content": content[:1]}]}
    assert text_of_response(json.dumps(body).encode()) == "a\na"
    assert text_of_response(b"[]") is None
    assert text_of_response(b"\xff") is None
