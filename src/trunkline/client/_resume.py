"""A connection that comes back to its session after it was lost."""

import asyncio
import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from trunkline.aio.tasks import TaskOwner
from trunkline.client._connect import ENDED_WELL, ClosedError, Connection, Message
from trunkline.client._errors import RefusedError, UnreachableError
from trunkline.protocol.close import CloseCode

#: Closes that end a connection, not the conversation: the session is still there.
RESUMABLE = frozenset(
    {
        CloseCode.GOING_AWAY,
        CloseCode.ABNORMAL,
        CloseCode.SERVICE_RESTART,
        CloseCode.TRY_AGAIN_LATER,
        CloseCode.BAD_GATEWAY,
    }
)
_WORTH_ANOTHER_TRY = frozenset({408, 424, 429, 500, 502, 503, 504})

Dial = Callable[[str], Awaitable[Connection]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Backoff:
    """How long to wait between attempts to come back."""

    first_s: float = 0.25
    """Before the second attempt; the first is made at once, give or take the chance."""
    max_s: float = 15.0
    """The longest wait. Each is twice the one before until then."""
    give_up_after_s: float = 300.0
    """A platform that is being restarted or moved is back by then."""

    def pause_s(self, attempt: int, chance: float) -> float:
        """Return the wait before an attempt, counted from 0; ``chance`` is from 0 to 1.

        All of it is chance, so that clients that were cut off together don't come back together.
        """
        return min(self.first_s * float(2 ** min(attempt, 30)), self.max_s) * chance


DEFAULT_BACKOFF = Backoff()


class ResumingConnection:
    """A conversation with one session, over as many connections as it takes.

    One task may send and another receive at the same time. When the connection is lost, or the
    platform asks to come back (1001, 1012, 1013), both wait until there is a new one to the same
    session. Nothing is repeated: what the agent sent while nobody was connected is gone, and so
    may be what was sent last; ``on_resume`` is the place to tell the agent where one was. A
    message that is being sent when the connection breaks is sent again, so it may arrive twice.

    Any other close ends it: 1000, an error of the agent, an application's own code.

    Attributes:
        on_loss: Called when the connection is lost, with the error, before it is made again.
        on_resume: Called when there is a connection again, before anything is sent on it.
    """

    def __init__(
        self,
        connection: Connection,
        dial: Dial,
        backoff: Backoff | None,
        *,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        chance: Callable[[], float] = random.random,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Take over a connection.

        Args:
            connection: The first one.
            dial: Opens another to the session it is given.
            backoff: How to come back; None to end with the first connection.
            sleep: How to wait, for tests.
            chance: Where the jitter comes from, for tests.
            clock: What the time is, for tests.
        """
        self._connection = connection
        self._dial = dial
        self._backoff = backoff
        self._sleep = sleep
        self._chance = chance
        self._clock = clock
        self._coming_back: asyncio.Task[Connection] | None = None
        self._tasks = TaskOwner()
        self._is_closed = False
        self._connections = 1
        self.on_loss: Callable[[ClosedError], None] = lambda _error: None
        self.on_resume: Callable[[], None] = lambda: None

    @property
    def session_id(self) -> str:
        """The session all the connections are to."""
        return self._connection.session_id

    @property
    def connections(self) -> int:
        """How many connections it took so far."""
        return self._connections

    @property
    def close_code(self) -> int | None:
        """The code the last connection was closed with; None while it is open."""
        return self._connection.close_code

    @property
    def close_reason(self) -> str:
        """The text that came with the close code."""
        return self._connection.close_reason

    async def send(self, message: Message) -> None:
        """Send one message as one frame: text if it is ``str``, else binary.

        Waits while the agent takes nothing more, and while there is no connection. Cancelling
        may close the connection, as a frame can't be sent by half.

        Raises:
            ClosedError: If the conversation is over.
            RefusedError: If the platform won't let the session be resumed.
            UnreachableError: If there was no connection for too long.
        """
        while True:
            connection = await self._present()
            try:
                await connection.send(message)
            except ClosedError as exc:
                await self._come_back(connection, exc)
            else:
                return

    async def receive(self) -> Message:
        """Return the next message; waits and raises as :meth:`send` does.

        Cancelling is safe: no message is lost, and coming back goes on.
        """
        while True:
            connection = await self._present()
            try:
                return await connection.receive()
            except ClosedError as exc:
                await self._come_back(connection, exc)

    async def __aiter__(self) -> AsyncIterator[Message]:
        """Yield messages until the conversation ends.

        Raises:
            ClosedError: If it ended otherwise than by 1000, or by a close without a code.
        """
        while True:
            try:
                message = await self.receive()
            except ClosedError as exc:
                if exc.close_code in ENDED_WELL:
                    return
                raise
            yield message

    async def aclose(self, code: int = CloseCode.NORMAL, reason: str = "") -> None:
        """Close, waiting a few seconds for the other side to agree. Twice is fine.

        While there is no connection there is nobody to tell, and it ends at once.
        """
        self._is_closed = True
        await self._tasks.aclose()
        await self._connection.aclose(code, reason)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.aclose()

    async def _present(self) -> Connection:
        if self._coming_back is not None:
            await self._wait(self._coming_back)
        return self._connection

    async def _come_back(self, lost: Connection, error: ClosedError) -> None:
        if self._backoff is None or self._is_closed or error.close_code not in RESUMABLE:
            raise error
        if lost is not self._connection:
            # The other direction noticed first, and has made a new one since.
            return
        if self._coming_back is None:
            self.on_loss(error)
            self._coming_back = self._tasks.spawn(
                self._reconnect(self._backoff), name="client:resume", is_awaited=True
            )
            # Both directions may have been cancelled by the time it fails.
            self._coming_back.add_done_callback(_take_note)
        await self._wait(self._coming_back)

    async def _wait(self, task: asyncio.Task[Connection]) -> None:
        # It belongs to both directions: cancelling one must not end it for the other.
        try:
            await asyncio.shield(task)
        except asyncio.CancelledError:
            if task.cancelled() and self._is_closed:
                raise ClosedError(CloseCode.NORMAL, "closed here") from None
            raise

    async def _reconnect(self, backoff: Backoff) -> Connection:
        deadline, attempt = self._clock() + backoff.give_up_after_s, 0
        while True:
            await self._sleep(backoff.pause_s(attempt, self._chance()))
            try:
                connection = await self._dial(self.session_id)
            except (UnreachableError, RefusedError) as exc:
                if self._clock() >= deadline or not _may_pass(exc):
                    raise
                if isinstance(exc, RefusedError) and exc.retry_after_s:
                    await self._sleep(exc.retry_after_s)
                attempt += 1
                continue
            self._connection, self._coming_back = connection, None
            self._connections += 1
            self.on_resume()
            return connection


def _may_pass(error: Exception) -> bool:
    return not isinstance(error, RefusedError) or error.status in _WORTH_ANOTHER_TRY


def _take_note(task: asyncio.Task[Connection]) -> None:
    if not task.cancelled():
        task.exception()
