"""Blocking work that isn't left behind."""

import asyncio
import threading

import pytest

from trunkline.aio.threads import in_thread


async def test_gives_what_the_work_gives() -> None:
    assert await in_thread(divmod, 7, 2) == (3, 1)
    with pytest.raises(ZeroDivisionError):
        await in_thread(divmod, 7, 0)


@pytest.mark.parametrize("error", [None, ValueError("nobody sees this")])
async def test_a_cancelled_call_ends_when_its_work_has(error: Exception | None) -> None:
    begun, may_end, ended = threading.Event(), threading.Event(), threading.Event()

    def work() -> None:
        begun.set()
        may_end.wait()
        ended.set()
        if error is not None:
            raise error

    call = asyncio.ensure_future(in_thread(work))
    await asyncio.to_thread(begun.wait)
    for _ in range(3):
        call.cancel()
        await asyncio.sleep(0)
        assert not call.done()
    may_end.set()
    with pytest.raises(asyncio.CancelledError):
        await call
    assert ended.is_set()
