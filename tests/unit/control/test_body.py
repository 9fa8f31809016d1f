"""A body is bounded as it is read."""

import pytest
from hypothesis import given, strategies as st
from starlette.requests import Request
from starlette.types import Message, Scope

from trunkline.protocol.errors import TooLargeError
from trunkline.web.body import limited

LIMIT = 100


class Body:
    """An ASGI body in parts, which knows how many were asked for."""

    def __init__(self, parts: list[bytes]) -> None:
        self.parts = parts
        self.asked = 0

    async def receive(self) -> Message:
        self.asked += 1
        part = self.parts.pop(0)
        return {"type": "http.request", "body": part, "more_body": bool(self.parts)}


def request_of(body: Body, **headers: str) -> Request:
    scope: Scope = {
        "type": "http",
        "method": "POST",
        "path": "/",
        "query_string": b"",
        "headers": [
            (name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()
        ],
    }
    return Request(scope, body.receive)


def test_an_announced_length_over_the_limit_is_refused_unread() -> None:
    body = Body([b"x"])
    with pytest.raises(TooLargeError, match="over 100 bytes"):
        limited(request_of(body, content_length=str(LIMIT + 1)), LIMIT)
    assert body.asked == 0


@pytest.mark.parametrize("length", [str(LIMIT), "0", "", "-5", "many"])
async def test_any_other_announcement_is_read(length: str) -> None:
    body = Body([b"x" * LIMIT])
    assert len(await limited(request_of(body, content_length=length), LIMIT).body()) == LIMIT


@given(sizes=st.lists(st.integers(0, 60), min_size=1, max_size=6))
async def test_what_is_read_never_passes_the_limit(sizes: list[int]) -> None:
    body = Body([b"x" * size for size in sizes])
    request = limited(request_of(body), LIMIT)
    if sum(sizes) <= LIMIT:
        assert len(await request.body()) == sum(sizes)
        return
    with pytest.raises(TooLargeError) as caught:
        await request.body()
    assert caught.value.status == 413
    over = next(i for i in range(len(sizes)) if sum(sizes[: i + 1]) > LIMIT)
    assert body.asked == over + 1
