"""Tasks with a name and an owner."""

import asyncio
import logging
from collections.abc import Coroutine
from typing import Any, TypeVar

from trunkline.protocol.errors import TrunklineError

_T = TypeVar("_T")
_log = logging.getLogger("trunkline.tasks")


class TaskOwner:
    """Keeps the tasks somebody started, logs those that fail, and ends them all at the end."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[Any]] = set()

    def spawn(
        self, work: Coroutine[Any, Any, _T], *, name: str, is_awaited: bool = False
    ) -> asyncio.Task[_T]:
        """Start ``work`` as a task of this owner.

        Args:
            work: What to run.
            name: The task's name, for logs and debuggers.
            is_awaited: Whether somebody takes its result: then a failure is theirs to tell.
        """
        task = asyncio.create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard if is_awaited else self._done)
        return task

    def _done(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if task.cancelled() or (error := task.exception()) is None:
            return
        if isinstance(error, TrunklineError):
            _log.info("task %s: %s", task.get_name(), error)
        else:
            _log.error("task %s failed", task.get_name(), exc_info=error)

    async def aclose(self) -> None:
        """Cancel what still runs and wait for it. Twice is fine."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
