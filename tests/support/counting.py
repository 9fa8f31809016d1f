"""Conversations that never stop, and notice every message that is lost, doubled or out of order."""

import asyncio
import contextlib
import time
from collections import deque
from collections.abc import AsyncIterator, Sequence
from typing import Any

from websockets.asyncio.client import ClientConnection

from tests.support.platform import Platform

#: Now and then a message is larger than what is read at once.
_LARGE = "x" * 100_000


class Conversation:
    """One connection to the agent that counts: messages go out at a pace, whatever comes back."""

    def __init__(self, websocket: ClientConnection, pace_s: float, large_every: int = 50) -> None:
        self._websocket = websocket
        self._pace_s = pace_s
        self._large_every = large_every
        self.sent = 0
        self.received = 0
        self.longest_silence_s = 0.0
        #: Of all messages, what the slowest answer took.
        self.slowest_answer_s = 0.0
        self._sent_at: deque[float] = deque()
        self._is_over = False
        self._has_said_all = False
        self._last_at = 0.0

    async def run(self, delay_s: float = 0.0) -> None:
        """Talk until told to stop, and take what is still to come."""
        await asyncio.sleep(delay_s)
        self._last_at = time.monotonic()
        async with asyncio.TaskGroup() as group:
            group.create_task(self._send())
            group.create_task(self._receive())

    def stop(self) -> None:
        """Send nothing more."""
        self._is_over = True

    async def _send(self) -> None:
        while not self._has_said_all:
            # The last one is sent after being told to stop: whoever waits for one gets it.
            self._has_said_all = self._is_over
            is_large = self._large_every and self.sent % self._large_every == self._large_every - 1
            self._sent_at.append(time.monotonic())
            await self._websocket.send(f"{self.sent} {_LARGE if is_large else ''}")
            self.sent += 1
            await asyncio.sleep(self._pace_s)

    async def _receive(self) -> None:
        while not (self._has_said_all and self.received == self.sent):
            answer = await self._websocket.recv()
            now = time.monotonic()
            self.longest_silence_s = max(self.longest_silence_s, now - self._last_at)
            self._last_at = now
            self.slowest_answer_s = max(self.slowest_answer_s, now - self._sent_at.popleft())
            assert isinstance(answer, str)
            number, _, rest = answer.partition(" ")
            assert number == str(self.received), answer[:100]
            assert rest in ("", _LARGE)
            self.received += 1


class OwnLateness:
    """How late this process's own event loop is at most: it waits for a core like all others.

    An answer that a client saw late may have been there for as long.
    """

    def __init__(self, every_s: float = 0.005) -> None:
        self._every_s = every_s
        self._longest_s = 0.0

    def take_ms(self) -> float:
        """Return the longest so far, and begin anew."""
        longest_s, self._longest_s = self._longest_s, 0.0
        return longest_s * 1000

    async def watch(self) -> None:
        """Look for as long as the task runs."""
        while True:
            due = time.monotonic() + self._every_s
            await asyncio.sleep(self._every_s)
            self._longest_s = max(self._longest_s, time.monotonic() - due)


@contextlib.asynccontextmanager
async def conversations(
    platform: Platform, token: str, sessions: Sequence[str], *, pace_s: float, **options: Any
) -> AsyncIterator[list[Conversation]]:
    """Hold one conversation for each session named; a session may be named more than once.

    At the end of the block they stop, and everything that was said has been answered.
    """
    async with contextlib.AsyncExitStack() as stack:
        talking = []
        for session in sessions:
            connecting = platform.connect("counter", session, token=token)
            talking.append(
                Conversation(await stack.enter_async_context(connecting), pace_s, **options)
            )
        async with asyncio.TaskGroup() as group:
            for number, conversation in enumerate(talking):
                # Not all at the same moment, ever again.
                delay_s = pace_s * number / len(talking)
                group.create_task(conversation.run(delay_s))
            try:
                yield talking
            finally:
                for conversation in talking:
                    conversation.stop()
