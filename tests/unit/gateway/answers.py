"""Reads raw HTTP/1.1 answers, so that tests see what is on the wire."""

import json
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Answer:
    """One answer: its status, its headers by lower-case name, and all that came after them."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def error(self) -> dict[str, Any]:
        """The error of the envelope; there is nothing else in the body."""
        (error,) = json.loads(self.body).values()
        return error


def parse_answer(raw: bytes) -> Answer:
    """Return the one answer in ``raw``; no header may be there twice."""
    head, _, body = raw.partition(b"\r\n\r\n")
    first, *lines = head.decode("latin-1").split("\r\n")
    version, status, _ = f"{first} ".split(" ", 2)
    assert version == "HTTP/1.1"
    pairs = [(name.lower(), value.strip()) for name, _, value in (x.partition(":") for x in lines)]
    headers = dict(pairs)
    assert len(headers) == len(pairs)
    return Answer(int(status), headers, body)


def assert_refused(raw: bytes, status: int, code: str, *words: str) -> Answer:
    """Check that ``raw`` is one whole refusal in plain HTTP, and return it."""
    answer = parse_answer(raw)
    assert (answer.status, answer.error["code"]) == (status, code)
    assert set(answer.error) == {
        "code", "message", "param", "type", "details", "additionalInfo", "debugInfo",
    }  # fmt: skip
    assert answer.error["type"] == ("invalid_request_error" if status < 500 else "server_error")
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["content-length"] == str(len(answer.body))
    assert answer.headers["connection"] == "close"
    for word in words:
        assert word in answer.error["message"]
    return answer
