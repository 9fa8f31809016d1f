"""Items of the responses protocol, and the response found in what passes by."""

import itertools
import json
from collections.abc import Iterator

import pytest
from hypothesis import given, strategies as st

from trunkline.protocol.errors import InvalidRequestError
from trunkline.protocol.response_items import (
    ResponseReader,
    input_items,
    output_items,
    response_in,
)

RESPONSE = {"id": "resp_1", "status": "completed", "output": [{"type": "message", "id": "m"}]}
SSE = "text/event-stream; charset=utf-8"


@pytest.fixture
def numbers() -> Iterator[str]:
    return (f"msg_{n}" for n in itertools.count(1))


def event(kind: str, **more: object) -> str:
    return f"event: {kind}\ndata: {json.dumps({'type': kind, **more})}\n\n"


def test_text_is_a_message_of_the_user(numbers: Iterator[str]) -> None:
    assert input_items("hi", lambda: next(numbers), param="input") == [
        {
            "type": "message",
            "id": "msg_1",
            "role": "user",
            "content": [{"type": "input_text", "text": "hi"}],
        }
    ]


def test_items_keep_their_ids_and_get_what_they_lack(numbers: Iterator[str]) -> None:
    given = [{"id": "x", "type": "reasoning"}, {"role": "user", "content": "a"}, {"id": "a\nb"}]
    assert input_items(given, lambda: next(numbers), param="input") == [
        {"id": "x", "type": "reasoning"},
        {"role": "user", "content": "a", "type": "message", "id": "msg_1"},
        {"id": "msg_2", "type": "unknown"},
    ]
    assert input_items(None, lambda: next(numbers), param="input") == []


@pytest.mark.parametrize("wrong", [3, {"a": 1}, ["text"], True])
def test_what_is_no_input(wrong: object) -> None:
    with pytest.raises(InvalidRequestError, match="input must be text or a list") as caught:
        input_items(wrong, lambda: "x", param="input")
    assert caught.value.param == "input"


def test_output_that_is_no_list_of_items_is_left_out() -> None:
    assert output_items({}, lambda: "x") == []
    assert output_items({"output": "text"}, lambda: "x") == []
    found = output_items({"output": ["text", {"role": "assistant"}]}, lambda: "x")
    assert found == [{"role": "assistant", "type": "message", "id": "x"}]


@given(st.lists(st.integers(0, 400), max_size=8), st.sampled_from(["\n", "\r\n"]))
def test_the_last_whole_response_of_a_stream_is_found_however_it_is_cut(
    cuts: list[int], newline: str
) -> None:
    stream = (
        ": comment\n\n"
        + event("response.created", response={**RESPONSE, "status": "in_progress"})
        + event("response.output_text.delta", delta="hi")
        + event("response.completed", response=RESPONSE)
        + "data: [DONE]\n\n"
    )
    data = stream.replace("\n", newline).encode()
    reader = ResponseReader(SSE, 10_000)
    for begin, end in itertools.pairwise(
        [0, *sorted(min(cut, len(data)) for cut in cuts), len(data)]
    ):
        reader.feed(data[begin:end])
    assert reader.document is not None
    assert response_in(json.loads(reader.document)) == RESPONSE


def test_json_is_its_own_response() -> None:
    reader = ResponseReader("application/json", 10_000)
    data = json.dumps(RESPONSE).encode()
    reader.feed(data[:10])
    reader.feed(data[10:])
    assert reader.document == data
    assert response_in(json.loads(data)) == RESPONSE


@pytest.mark.parametrize("content_type", ["application/json", SSE])
def test_what_is_too_long_is_let_go_of(content_type: str) -> None:
    reader = ResponseReader(content_type, 100)
    reader.feed(event("response.completed", response=RESPONSE).encode())
    for _ in range(10):
        reader.feed(b"data: " + b"x" * 50 + b"\n")
    assert reader.document is None
    assert len(reader._held) + sum(map(len, reader._data)) <= 100


@pytest.mark.parametrize("document", [None, 3, [], {}, {"id": 3}, {"response": {}}])
def test_what_is_no_response(document: object) -> None:
    assert response_in(document) is None
