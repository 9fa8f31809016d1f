"""What waits for a WebSocket's handler: messages in, messages out, and reading stopped between."""

import asyncio
from collections import deque
from typing import Any, Final

#: What one queued message costs besides its payload, so that empty ones fill the queue too.
MESSAGE_OVERHEAD_BYTES: Final = 256
#: After so many messages that were there already the others on the event loop get their turn.
_TAKES_PER_TURN: Final = 64

#: A message, or an event that is none: an ASGI dictionary.
Item = str | bytes | dict[str, Any]


class Inbox:
    """A queue with one reader in mind that serves several.

    Taking is two plain calls and not a coroutine, because it is done for every message::

        while (item := inbox.take()) is None:
            await inbox.arrival()

    Cancelling the wait loses nothing: what has arrived stays here until it is taken.
    """

    __slots__ = (
        "_first",
        "_is_over",
        "_items",
        "_loop",
        "_max_bytes",
        "_more_waiters",
        "_queued_bytes",
        "_takes",
        "_transport",
        "_waiter",
        "is_reading_paused",
    )

    def __init__(
        self, loop: asyncio.AbstractEventLoop, transport: asyncio.Transport, max_bytes: int
    ) -> None:
        """Begin empty.

        Args:
            loop: Where the takers run.
            transport: Stopped while there is too much here.
            max_bytes: How much may wait.
        """
        self._loop = loop
        self._transport = transport
        self._max_bytes = max_bytes
        #: What came while somebody waited. Most messages pass through here, and need no queue.
        self._first: Item | None = None
        self._items: deque[Item] | None = None
        self._queued_bytes = 0
        self._takes = 0
        self._is_over = False
        self._waiter: asyncio.Future[None] | None = None
        self._more_waiters: list[asyncio.Future[None]] | None = None
        self.is_reading_paused = False

    def put(self, message: str | bytes) -> None:
        """Add a message, and stop reading if that makes too many."""
        waiter = self._waiter
        if waiter is not None:
            self._waiter = None
            self._first = message
            if not waiter.done():
                waiter.set_result(None)
            if self._more_waiters is not None:
                self._wake_more()
            return
        self._enqueue(message)
        self._queued_bytes += len(message) + MESSAGE_OVERHEAD_BYTES
        if self._queued_bytes > self._max_bytes and not self.is_reading_paused:
            # Pings and closes behind this point aren't seen until the handler catches up: the
            # alternative is to take in without end what nobody consumes.
            self.is_reading_paused = True
            self._transport.pause_reading()

    def put_event(self, event: dict[str, Any]) -> None:
        """Add an event that is no message and doesn't count."""
        self._enqueue(event)
        waiter = self._waiter
        if waiter is not None:
            self._waiter = None
            _finish(waiter)
        self._wake_more()

    def end(self, event: dict[str, Any]) -> None:
        """Add the last event. It is told to everyone who asks from here on."""
        self._is_over = True
        self.put_event(event)

    def take(self) -> Item | None:
        """Return what came first, or None if :meth:`arrival` has to be awaited before."""
        item = self._first
        if item is not None:
            self._first = None
            return item
        return self._take_queued() if self._items else None

    def arrival(self) -> asyncio.Future[None]:
        """Return what to await before taking again."""
        # Not the loop's create_future(), which does the same by a longer way.
        waiter: asyncio.Future[None] = asyncio.Future(loop=self._loop)
        if self._first is not None or self._items:
            self._takes = 0
            self._loop.call_soon(_finish, waiter)
        elif self._waiter is None or self._waiter.done():
            self._waiter = waiter
        elif self._more_waiters is None:
            self._more_waiters = [waiter]
        else:
            self._more_waiters.append(waiter)
        return waiter

    def resume_reading(self) -> None:
        """Read again, if that was stopped."""
        if self.is_reading_paused:
            self.is_reading_paused = False
            self._transport.resume_reading()

    def _enqueue(self, item: Item) -> None:
        if self._items is None:
            self._items = deque()
        self._items.append(item)

    def _take_queued(self) -> Item | None:
        items = self._items
        if not items or self._takes >= _TAKES_PER_TURN:
            return None
        self._takes += 1
        item = items.popleft()
        if isinstance(item, dict):
            if self._is_over and not items:
                items.append(item)
        else:
            self._queued_bytes -= len(item) + MESSAGE_OVERHEAD_BYTES
            if self.is_reading_paused and self._queued_bytes * 2 < self._max_bytes:
                self.resume_reading()
        if not items:
            # Empty it still holds more than everything else here together.
            self._items = None
        return item

    def _wake_more(self) -> None:
        # All of them: one that was woken and cancelled at once could not pass it on. Who finds
        # nothing waits again.
        if self._more_waiters is not None:
            waiters, self._more_waiters = self._more_waiters, None
            for waiter in waiters:
                _finish(waiter)


def _finish(waiter: asyncio.Future[None]) -> None:
    if not waiter.done():
        waiter.set_result(None)
