"""One thread for one engine."""

import asyncio
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Generic, TypeVar

E = TypeVar("E")
T = TypeVar("T")


class EngineThread(Generic[E]):
    """Loads an engine on a thread of its own, and runs everything that uses it there.

    The event loop never waits for a model, and an engine is never called twice at once. Loading
    is the thread's first job: whatever is asked meanwhile waits its turn.
    """

    def __init__(self, name: str, load: Callable[[], E]) -> None:
        self._executor = ThreadPoolExecutor(max_workers=1, thread_name_prefix=name)
        self._engine = self._executor.submit(_load_aloud, name, load)

    async def run(self, job: Callable[[E], T]) -> T:
        """Return what ``job`` makes of the engine.

        Cancelling the call takes a job off the queue; one that runs is finished and forgotten.

        Raises:
            Exception: Whatever loading or the job raised.
        """
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._executor, lambda: job(self._engine.result()))


def _load_aloud(name: str, load: Callable[[], E]) -> E:
    started = time.monotonic()
    try:
        engine = load()
    except BaseException as error:
        print(f"{name} could not be loaded: {type(error).__name__}: {error}", flush=True)
        raise
    print(f"{name} loaded in {time.monotonic() - started:.1f} s", flush=True)
    return engine
