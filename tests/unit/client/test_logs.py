"""A log stream that is lost and found again."""

import json
from typing import Any

import httpx2
import pytest

from trunkline.client import BadAnswerError, LogQuery, Project, RefusedError, UnreachableError

SSE = {"content-type": "text/event-stream"}


class Logs:
    def __init__(self, *answers: bytes | httpx2.Response | Exception) -> None:
        self.answers = list(answers)
        self.requests: list[httpx2.Request] = []
        self.waits: list[float] = []

    async def __call__(self, request: httpx2.Request) -> httpx2.Response:
        self.requests.append(request)
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        if isinstance(answer, bytes):
            return httpx2.Response(200, content=answer, headers=SSE)
        return answer

    async def sleep(self, wait_s: float) -> None:
        self.waits.append(wait_s)

    async def read(self, limit: int = 100, **query: Any) -> list[str]:
        demo = Project(
            "http://localhost/api/projects/x", "token", transport=httpx2.MockTransport(self)
        )
        async with demo:
            stream = demo.log_stream("echo", "s1", LogQuery(**query))
            stream._sleep = self.sleep
            stream._jitter = lambda: 1.0
            seen: list[str] = []
            async for event in stream:
                seen.append(event.data)
                if len(seen) == limit:
                    break
            return seen


def event(data: str, number: int | None = None) -> bytes:
    named = f"id: {number}\n" if number is not None else ""
    return f"event: log\n{named}data: {data}\n\n".encode()


def line(message: str, **more: Any) -> str:
    return json.dumps({"stream": "stdout", "message": message, **more})


async def test_without_follow_it_ends() -> None:
    logs = Logs(event("a", 1) + event("b", 2))
    assert await logs.read(tail=7, kind="system") == ["a", "b"]
    assert dict(logs.requests[0].url.params) == {
        "api-version": "v1",
        "follow": "false",
        "kind": "system",
        "tail": "7",
    }


async def test_following_goes_on_after_the_last_event() -> None:
    logs = Logs(event("a", 1), httpx2.ConnectError("refused"), event("b", 2) + event("c", 3))
    assert await logs.read(3, follow=True) == ["a", "b", "c"]
    assert [r.headers.get("last-event-id") for r in logs.requests] == [None, "1", "1"]
    assert logs.waits == [0.25, 0.5]


async def test_a_platform_without_ids_repeats_its_last_line() -> None:
    state = json.dumps({"session_state": "Running"})
    a, b = line("a"), line("b")
    logs = Logs(event(state) + event(a) + event(b), event(state) + event(b) + event(b))
    assert await logs.read(5, follow=True) == [state, a, b, state, b]
    assert logs.requests[1].url.params["tail"] == "1"


async def test_offsets_say_where_to_go_on() -> None:
    first, second = line("a", offset=17), line("a", offset=34)
    logs = Logs(event(first), event(second))
    assert await logs.read(2, follow=True) == [first, second]
    assert [r.url.params.get("after") for r in logs.requests] == [None, "17"]


async def test_the_stream_may_ask_for_patience() -> None:
    logs = Logs(b"retry: 3000\n\n" + event("a", 1), event("b", 2))
    assert await logs.read(2, follow=True) == ["a", "b"]
    assert logs.waits == [3.0]


async def test_it_gives_up_in_the_end() -> None:
    logs = Logs(event("a", 1), *(httpx2.ConnectError("refused") for _ in range(60)))
    with pytest.raises(UnreachableError):
        await logs.read(follow=True)
    assert max(logs.waits) == 8.0
    assert 300 <= sum(logs.waits) < 320


async def test_a_platform_that_is_stopping_isnt_asked_ever_faster() -> None:
    state = event(json.dumps({"session_state": "Idle"}))
    logs = Logs(event("a", 1), *([state] * 6), event("b", 2))
    assert (await logs.read(8, follow=True))[-1] == "b"
    assert logs.waits == [0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 8.0]


async def test_what_was_never_there_isnt_waited_for() -> None:
    logs = Logs(httpx2.ConnectError("refused"))
    with pytest.raises(UnreachableError):
        await logs.read(follow=True)
    assert logs.waits == []


async def test_a_deleted_session_ends_it() -> None:
    gone = httpx2.Response(404, json={"error": {"code": "session_not_found", "message": "gone"}})
    logs = Logs(event("a", 1), gone)
    with pytest.raises(RefusedError, match="gone"):
        await logs.read(follow=True)


async def test_something_else_answers() -> None:
    with pytest.raises(BadAnswerError, match="isn't a stream of events"):
        await Logs(httpx2.Response(200, text="hi")).read()
