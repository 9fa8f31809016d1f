"""Comments in quiet event streams, so that nothing on the way takes them for dead."""

import asyncio
from collections.abc import AsyncIterable, AsyncIterator
from dataclasses import dataclass

from starlette.responses import Response, StreamingResponse

_KEEP_ALIVE = b": keep-alive\n\n"
_EVENT_ENDS = (b"\n\n", b"\r\n\r\n", b"\r\r")
_MEDIA_TYPE = "text/event-stream"

Part = str | bytes | memoryview


@dataclass(frozen=True, slots=True)
class _Over:
    """The source has no more parts, or failed."""

    error: BaseException | None


def keep_alive(response: Response, interval_s: float) -> Response:
    """Make a streamed response of server-sent events send comments while it is idle.

    Any other response, and any with an interval of 0, is returned as it is.
    """
    if (
        interval_s > 0
        and isinstance(response, StreamingResponse)
        and response.headers.get("content-type", "").startswith(_MEDIA_TYPE)
    ):
        response.body_iterator = with_comments(response.body_iterator, interval_s)
    return response


async def with_comments(source: AsyncIterable[Part], interval_s: float) -> AsyncIterator[Part]:
    """Yield what ``source`` yields, and a comment after each idle interval.

    A comment only goes between events, never into one that came in parts. The source is asked
    for its next part when this is asked for one, so it is never ahead of a slow client. Its
    end, its errors and its cancellation pass through, and closing this closes it.
    """
    asked = asyncio.Semaphore(0)
    answers: asyncio.Queue[Part | _Over] = asyncio.Queue()
    # One task for the whole source: a time limit or a task group around one of its yields has
    # to be entered and left in the same task.
    pump = asyncio.get_running_loop().create_task(_pump(source, asked, answers), name="sse")
    tail = b"\n\n"
    try:
        while True:
            asked.release()
            while (part := await _get_within(answers, interval_s)) is None:
                if tail.endswith(_EVENT_ENDS):
                    yield _KEEP_ALIVE
            if isinstance(part, _Over):
                if part.error is not None:
                    raise part.error
                return
            end = part[-4:]
            tail = (tail + (end.encode() if isinstance(end, str) else bytes(end)))[-4:]
            yield part
    finally:
        pump.cancel()
        await asyncio.wait((pump,))


async def _get_within(answers: asyncio.Queue[Part | _Over], seconds: float) -> Part | _Over | None:
    try:
        async with asyncio.timeout(seconds):
            return await answers.get()
    except TimeoutError:
        return None


async def _pump(
    source: AsyncIterable[Part], asked: asyncio.Semaphore, answers: asyncio.Queue[Part | _Over]
) -> None:
    iterator = aiter(source)
    try:
        await asked.acquire()
        async for part in iterator:
            answers.put_nowait(part)
            await asked.acquire()
        answers.put_nowait(_Over(None))
    except BaseException as error:  # noqa: BLE001 - raised again where the parts are consumed
        answers.put_nowait(_Over(error))
    finally:
        close = getattr(iterator, "aclose", None)
        if close is not None:
            await close()
