import asyncio

import pytest
from starlette.responses import Response, StreamingResponse

from trunkline.agentserver._sse import keep_alive, with_comments

COMMENT = b": keep-alive\n\n"
QUICKLY = 0.001
NEVER = 60.0


async def collect(source):
    return [part async for part in source]


async def test_comments_fill_the_quiet_before_and_between_events():
    released = asyncio.Event()

    async def events():
        await released.wait()
        yield "data: a\n\n"

    stream = with_comments(events(), QUICKLY)
    assert await anext(stream) == COMMENT
    assert await anext(stream) == COMMENT
    released.set()
    rest = await collect(stream)
    assert [part for part in rest if part != COMMENT] == ["data: a\n\n"]


@pytest.mark.parametrize("end", ["\n\n", "\r\n\r\n", "\r\r"])
async def test_no_comment_goes_into_an_event(end):
    waits = asyncio.Event()

    async def events():
        yield "data: a"
        # Long enough for many comments, if there were any.
        await asyncio.sleep(20 * QUICKLY)
        yield b"b"
        yield memoryview(end.encode())
        await waits.wait()

    stream = with_comments(events(), QUICKLY)
    parts = []
    async for part in stream:
        # Before the event a comment is welcome, and after it one has to come.
        if part == COMMENT and len(parts) in (0, 3):
            if parts:
                break
            continue
        parts.append(part)
    assert parts == ["data: a", b"b", end.encode()]
    await stream.aclose()


async def test_errors_pass_through_in_order():
    async def events():
        yield "data: a\n\n"
        raise RuntimeError("broken")

    stream = with_comments(events(), NEVER)
    assert await anext(stream) == "data: a\n\n"
    with pytest.raises(RuntimeError, match="broken"):
        await anext(stream)


async def test_the_source_is_not_ahead_of_its_consumer():
    produced = []

    async def events():
        for number in range(10):
            produced.append(number)
            yield str(number)

    stream = with_comments(events(), NEVER)
    assert await anext(stream) == "0"
    await asyncio.sleep(0)
    assert produced == [0]
    await stream.aclose()


async def test_closing_closes_the_source():
    is_closed = False

    async def events():
        nonlocal is_closed
        try:
            yield "a"
            await asyncio.Event().wait()
        finally:
            is_closed = True

    stream = with_comments(events(), NEVER)
    await anext(stream)
    await stream.aclose()
    assert is_closed


async def test_a_time_limit_may_span_the_sources_yields():
    async def events():
        async with asyncio.timeout(NEVER):
            yield "a"
            yield "b"

    assert await collect(with_comments(events(), NEVER)) == ["a", "b"]


async def source():
    yield "x"


@pytest.mark.parametrize(
    ("response", "interval_s", "is_wrapped"),
    [
        (StreamingResponse(source(), media_type="text/event-stream"), 5, True),
        (StreamingResponse(source(), media_type="text/event-stream"), 0, False),
        (StreamingResponse(source(), media_type="application/x-ndjson"), 5, False),
        (
            StreamingResponse(
                source(), media_type="x/y", headers={"content-type": "text/event-stream"}
            ),
            5,
            True,
        ),
        (Response("x", media_type="text/event-stream"), 5, False),
    ],
)
def test_only_event_streams_are_kept_alive(response, interval_s, is_wrapped):
    before = getattr(response, "body_iterator", None)
    assert keep_alive(response, interval_s) is response
    assert (getattr(response, "body_iterator", None) is not before) == is_wrapped
