"""Has a few things done at a time, in the order in which they were asked for."""

import asyncio
from collections import deque
from types import TracebackType


class Turns:
    """Gives turns. For one event loop.

    A turn ends when what it was for is done, or after a while: what takes longer waits for
    something else than others' turns, and mustn't hold them up.
    """

    def __init__(self, at_once: int, longest_s: float) -> None:
        """Prepare.

        Args:
            at_once: How many there may be.
            longest_s: How long one lasts at most.
        """
        self._free = at_once
        self._longest_s = longest_s
        self._waiting: deque[asyncio.Future[None]] = deque()

    @property
    def waiting(self) -> int:
        """How many wait for a turn."""
        return len(self._waiting)

    async def take(self) -> "Turn":
        """Wait for a turn, and return it."""
        loop = asyncio.get_running_loop()
        if self._free:
            self._free -= 1
        else:
            called = loop.create_future()
            self._waiting.append(called)
            try:
                await called
            except asyncio.CancelledError:
                if called.cancelled():
                    self._waiting.remove(called)
                else:
                    # It came together with the cancellation.
                    self._next()
                raise
        return Turn(self, loop, self._longest_s)

    def _next(self) -> None:
        # One that was cancelled removes itself when its task runs.
        called = next((each for each in self._waiting if not each.done()), None)
        if called is None:
            self._free += 1
        else:
            self._waiting.remove(called)
            called.set_result(None)

    def end(self, turn: "Turn") -> None:
        """Give a turn to who is next, if it hasn't ended yet."""
        if turn.end_at is not None:
            turn.end_at.cancel()
            turn.end_at = None
            self._next()


class Turn:
    """One turn, which has begun; leaving its block ends it."""

    def __init__(self, turns: Turns, loop: asyncio.AbstractEventLoop, longest_s: float) -> None:
        self._turns = turns
        self.end_at: asyncio.TimerHandle | None = loop.call_later(longest_s, self.end)

    def end(self) -> None:
        """End it. Twice is fine."""
        self._turns.end(self)

    def __enter__(self) -> "Turn":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.end()
