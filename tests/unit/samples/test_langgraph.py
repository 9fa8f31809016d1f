"""What the LangGraph sample has that knows nothing of LangGraph: books, rules, shapes."""

import json
import sys
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parents[3] / "samples" / "langgraph"))

from books import BOOKS, books_about, find_book
from openai_shapes import BadRequestError, ResponseShape, read_request
from rules import HELP, Call, decide, phrase, title_in


@pytest.mark.parametrize(
    ("words", "titles"),
    [
        ("whales", ["Moby-Dick"]),
        ("the sea and science", ["Twenty Thousand Leagues Under the Seas"]),
        ("jane austen", ["Pride and Prejudice"]),
        ("monsters", ["Frankenstein", "Dracula"]),
        ("the", []),
        ("tax law", []),
    ],
)
def test_books_are_found_by_what_fits_best(words: str, titles: list[str]) -> None:
    assert [book.title for book in books_about(words)] == titles


def test_a_title_may_be_spelt_loosely() -> None:
    assert all(find_book(book.title) is book for book in BOOKS)
    assert find_book("moby dick") is find_book("Moby-Dick")
    assert find_book("time machine") is not None
    assert find_book("") is find_book("Moby") is None


@pytest.mark.parametrize(
    ("said", "shown", "decision"),
    [
        ("Have you anything about the sea, please?", None,
         Call("find_books", {"about": "the sea"})),
        ("Lend me Dracula!", None, Call("borrow", {"title": "dracula"})),
        ("I'll take it.", "Walden", Call("borrow", {"title": "Walden"})),
        ("I'll take it.", None, "Which book do you mean?"),
        ("Here, I bring Moby-Dick back", None, HELP),
        ("I return Moby-Dick now", None, Call("give_back", {"title": "moby-dick"})),
        ("I give back that one", "Walden", Call("give_back", {"title": "Walden"})),
        ("What have I borrowed?", None, Call("loans")),
        ("Hello there", None, f"Hello. {HELP}"),
        ("Thanks!", None, "You're welcome."),
        ("", None, HELP),
    ],
)  # fmt: skip
def test_rules(said: str, shown: str | None, decision: object) -> None:
    assert decide(said, shown) == decision


def test_what_a_tool_found_in_words() -> None:
    two = [{"title": "A", "author": "X"}, {"title": "B", "author": "Y"}]
    assert phrase("find_books", json.dumps(two)) == (
        "I have A by X and B by Y. Would you like to borrow one?"
    )
    assert phrase("find_books", "[]") == "I have nothing like that."
    assert phrase("loans", json.dumps(two[:1])) == "You have A by X."
    assert phrase("loans", "[]") == "You have borrowed nothing."
    assert phrase("borrow", '{"says": "It is yours.", "title": "A"}') == "It is yours."
    assert phrase("borrow", "Error: broken") == "Error: broken"
    assert title_in("find_books", json.dumps(two)) == "A"
    assert title_in("loans", json.dumps(two)) is None
    assert title_in("borrow", '{"says": "No.", "title": null}') is None
    assert title_in("borrow", "Error: broken") is None


def test_a_request_is_read() -> None:
    asked = read_request(
        json.dumps(
            {
                "input": [
                    {"role": "developer", "content": "Be brief."},
                    {"type": "message", "role": "user",
                     "content": [{"type": "input_text", "text": " Hello. "}]},
                ],
                "conversation": {"id": "conv_1"},
                "stream": True,
                "model": "m",
                "metadata": {"a": "b"},
            }
        ).encode()
    )  # fmt: skip
    assert asked.said == [("developer", "Be brief."), ("user", "Hello.")]
    assert (asked.conversation, asked.previous_response_id, asked.stream) == ("conv_1", None, True)
    assert asked.echo["metadata"] == {"a": "b"}


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b"{", "invalid_json"),
        (b"[]", "invalid_json"),
        (b"[" * 100_000, "invalid_json"),
        ({}, "invalid_value"),
        ({"input": []}, "invalid_value"),
        ({"input": " "}, "invalid_value"),
        ({"input": "x" * 8_001}, "invalid_value"),
        ({"input": "x", "conversation": 1}, "invalid_value"),
        ({"input": [{"role": "assistant", "content": "x"}]}, "invalid_value"),
        ({"input": [{"role": "tool", "content": "x"}]}, "invalid_value"),
        ({"input": [{"type": "function_call_output"}]}, "unsupported_value"),
        ({"input": [{"role": "user", "content": [{"type": "input_image"}]}]}, "unsupported_value"),
    ],
)
def test_a_request_that_is_of_no_use(body: Any, code: str) -> None:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    with pytest.raises(BadRequestError) as refused:
        read_request(raw)
    assert refused.value.as_body()["error"]["code"] == code


def test_the_events_of_a_response_add_up() -> None:
    shape = ResponseShape("resp_1", 7, {"model": "m"})
    raw = [*shape.begin(), shape.piece("It "), shape.piece("is."), *shape.end("It is.")]
    events = [json.loads(line.split(b"data: ", 1)[1]) for line in raw]
    assert [event["sequence_number"] for event in events] == list(range(10))
    assert "".join(event.get("delta", "") for event in events) == "It is."
    assert events[-1]["response"] == shape.document("completed", "It is.")
    assert {event["item_id"] for event in events if "item_id" in event} == {"msg_1"}
    failed = json.loads(shape.fail("No.").split(b"data: ", 1)[1])
    assert failed["response"]["error"]["message"] == "No."
    assert failed["response"]["output"] == []
