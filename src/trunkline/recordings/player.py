"""Plays the client's side of a recording to an agent, and keeps what the agent does."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Protocol

from trunkline.aio.tasks import TaskOwner
from trunkline.client import ClosedError, Message
from trunkline.protocol.close import CloseCode, CloseInfo
from trunkline.recordings.format import Recording, TimedMessage


class Talk(Protocol):
    """What is needed of a connection."""

    async def send(self, message: Message) -> None:
        """Send one message."""

    async def receive(self) -> Message:
        """Return the next message."""

    async def aclose(self, code: int = 1000, reason: str = "") -> None:
        """Close, twice if need be."""


@dataclass(slots=True, kw_only=True)
class Played:
    """What came of it. Times are counted from the connection's opening."""

    sent: list[TimedMessage] = field(default_factory=list)
    received: list[TimedMessage] = field(default_factory=list)
    late_s: list[float] = field(default_factory=list)
    """How long after its time each message was sent."""
    close: CloseInfo = field(default_factory=lambda: CloseInfo(CloseCode.NO_STATUS, ""))


class Player:
    """Plays one recording once.

    With the original timing each message is sent when it was sent in the recording. As fast as
    possible, it is sent as soon as the agent has said as much as it had said before it in the
    recording; when it doesn't within ``linger_s``, the rest is sent without waiting for it.

    It ends when the agent closes; else, after the recording's end, when as many messages came as
    were recorded, or none for ``linger_s``.
    """

    def __init__(
        self,
        recording: Recording,
        *,
        is_fast: bool = False,
        linger_s: float = 2.0,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        """Prepare; nothing is sent yet."""
        self._recording = recording
        self._is_fast = is_fast
        self._linger_s = linger_s
        self._clock = clock
        self._sleep = sleep
        self._started_s = 0.0
        self._played = Played()
        self._came = asyncio.Event()
        self._is_over = False
        self._may_wait = True
        self._expected = recording.messages(from_agent=True)

    async def play(self, connection: Talk) -> Played:
        """Play it on a connection that has just been opened. Cancelling leaves it open."""
        self._started_s = self._clock()
        tasks = TaskOwner()
        receiving = tasks.spawn(self._receive(connection), name="replay:receive", is_awaited=True)
        try:
            await self._send(connection)
            await self._wait_for_the_rest()
            if not self._is_over:
                close = self._recording.close
                code = close.code if close and self._recording.is_closed_by_client else 1000
                sendable = code in (1000, 1001) or 3000 <= code <= 4999
                await connection.aclose(code if sendable else 1000)
            await receiving
        finally:
            await tasks.aclose()
        return self._played

    async def _send(self, connection: Talk) -> None:
        seen = 0
        for due in self._recording.messages(from_agent=False):
            if self._is_fast:
                while seen < len(self._expected) and self._expected[seen].at_s < due.at_s:
                    seen += 1
                await self._until_received(seen)
            else:
                wait_s = self._started_s + due.at_s - self._clock()
                if wait_s > 0:
                    await self._sleep(wait_s)
            if self._is_over:
                return
            now_s = self._clock() - self._started_s
            try:
                await connection.send(due.message)
            except ClosedError:
                return
            self._played.sent.append(TimedMessage(now_s, due.message))
            if not self._is_fast:
                self._played.late_s.append(now_s - due.at_s)

    async def _until_received(self, number: int) -> None:
        while self._may_wait and len(self._played.received) < number and not self._is_over:
            if not await self._next_within(self._linger_s):
                self._may_wait = False

    async def _wait_for_the_rest(self) -> None:
        if not self._is_fast:
            # What comes too much should be seen as well.
            end_s = self._started_s + self._recording.duration_s
            while not self._is_over:
                left_s = end_s - self._clock()
                if left_s <= 0 or not await self._next_within(left_s):
                    break
        ends_itself = self._recording.close is not None and not self._recording.is_closed_by_client
        while not self._is_over:
            is_enough = len(self._played.received) >= len(self._expected) and not ends_itself
            if is_enough and not self._is_fast:
                return
            if not await self._next_within(self._linger_s):
                return

    async def _next_within(self, seconds: float) -> bool:
        """Wait for a message or the end; tell whether either came."""
        self._came.clear()
        try:
            async with asyncio.timeout(seconds):
                await self._came.wait()
        except TimeoutError:
            return False
        return True

    async def _receive(self, connection: Talk) -> None:
        try:
            while True:
                message = await connection.receive()
                now_s = self._clock() - self._started_s
                self._played.received.append(TimedMessage(now_s, message))
                self._came.set()
        except ClosedError as exc:
            self._played.close = CloseInfo(exc.close_code, exc.reason)
        finally:
            self._is_over = True
            self._came.set()
