"""Blocking work in threads, for those who must not go on while it still runs."""

import asyncio
import contextlib
import contextvars
import functools
from collections.abc import Callable
from typing import ParamSpec, TypeVar

_P = ParamSpec("_P")
_T = TypeVar("_T")


async def in_thread(work: Callable[_P, _T], /, *args: _P.args, **kwargs: _P.kwargs) -> _T:
    """Run something that blocks in a thread, as :func:`asyncio.to_thread`, and to its end.

    Cancelling a call doesn't end it early: threads can't be cancelled, and a caller that went on
    would close what the thread still uses. It raises ``CancelledError`` when the work is over,
    whose result or error is lost then.
    """
    context = contextvars.copy_context()
    call = functools.partial(context.run, work, *args, **kwargs)
    running = asyncio.get_running_loop().run_in_executor(None, call)
    try:
        return await asyncio.shield(running)
    except asyncio.CancelledError:
        while not running.done():
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.wait((running,))
        if not running.cancelled():
            # Taken, so that nobody complains that it wasn't.
            running.exception()
        raise
