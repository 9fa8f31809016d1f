"""What has to be over within a time: the same for many, so that one timer is enough for all."""

import asyncio
import logging
from collections import OrderedDict
from types import TracebackType
from typing import Protocol

_log = logging.getLogger("trunkline.deadlines")


class Late(Protocol):
    """Something that is told when its time is over."""

    def late(self) -> None:
        """End, or be ended."""


class Deadlines:
    """Tells whoever wasn't over in time. For one event loop."""

    def __init__(self, delay_s: float) -> None:
        """Begin with nobody.

        Args:
            delay_s: The time that each has.
        """
        self.delay_s = delay_s
        # All have the same time, so who came first is due first.
        self._due: OrderedDict[Late, float] = OrderedDict()
        self._timer: asyncio.TimerHandle | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    def add(self, member: Late) -> float:
        """Have it told when its time is over; return when that is, by the loop's clock."""
        loop = self._loop
        if loop is None:
            # Asking for it is a call to the system each time.
            loop = self._loop = asyncio.get_running_loop()
        due = self._due[member] = loop.time() + self.delay_s
        if self._timer is None:
            self._timer = loop.call_at(due, self._tick, loop)
        return due

    def discard(self, member: Late) -> None:
        """Tell it nothing. Twice is fine."""
        self._due.pop(member, None)

    def __len__(self) -> int:
        return len(self._due)

    def limit(self) -> "TimeLimit":
        """Return a limit on what a task does: a context to do it in."""
        return TimeLimit(self)

    def _tick(self, loop: asyncio.AbstractEventLoop) -> None:
        self._timer = None
        now = loop.time()
        while self._due:
            member = next(iter(self._due))
            if self._due[member] > now:
                self._timer = loop.call_at(self._due[member], self._tick, loop)
                return
            del self._due[member]
            try:
                member.late()
            except Exception:  # noqa: BLE001 - one that fails must not keep the others from it
                _log.exception("telling %r that it is late failed", member)


class TimeLimit:
    """As `asyncio.timeout`, for as long as its deadlines give."""

    __slots__ = ("_cancelled_before", "_deadlines", "_is_late", "_task")

    def __init__(self, deadlines: Deadlines) -> None:
        self._deadlines = deadlines
        self._is_late = False

    def __enter__(self) -> None:
        task = asyncio.current_task()
        assert task is not None, "only a task can be limited"
        self._task = task
        self._cancelled_before = task.cancelling()
        self._deadlines.add(self)

    def late(self) -> None:
        self._is_late = True
        self._task.cancel()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        _: TracebackType | None,
    ) -> None:
        self._deadlines.discard(self)
        if (
            self._is_late
            and self._task.uncancel() <= self._cancelled_before
            and kind is asyncio.CancelledError
        ):
            # Somebody else may want the task's end, too: then it isn't only late.
            raise TimeoutError from error
