"""Sends speech no faster than it is heard.

The client plays what it gets at once, so all but the last ``LEAD_S`` of what was sent has been
heard. That makes an interruption simple: stop sending, and at most ``LEAD_S`` is left over there.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable

import wire

LEAD_S = 0.25
"""How far the client is ahead of the loudspeaker: what a hiccup of network or machine may take
without a gap, and what a client must throw away when the user interrupts."""
FRAME_S = 0.04
"""How much sound one message carries."""
FRAME_BYTES = int(FRAME_S * wire.SAMPLE_RATE) * wire.BYTES_PER_SAMPLE


class Playback:
    """The speech of one answer on its way to the client."""

    def __init__(
        self,
        send: Callable[[bytes], Awaitable[None]],
        *,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._send = send
        self._clock = clock
        self._sleep = sleep
        self._sent_s = 0.0
        self._heard_until = 0.0
        self.first_sent_at: float | None = None

    @property
    def played_ms(self) -> int:
        """How much the user has heard, as far as the agent can know."""
        left_s = max(0.0, self._heard_until - self._clock())
        return round(max(0.0, self._sent_s - left_s) * 1000)

    async def play(self, pcm: bytes) -> None:
        """Send speech, waiting as needed. Returns when the last of it is sent.

        Cancelling the call is safe between two messages and leaves ``played_ms`` right.
        """
        for start in range(0, len(pcm), FRAME_BYTES):
            frame = pcm[start : start + FRAME_BYTES]
            await self._wait_until_left(LEAD_S)
            # After a gap the client starts again from silence, so the past can't be made up for.
            started_at = max(self._heard_until, self._clock())
            await self._send(wire.audio_message(frame))
            if self.first_sent_at is None:
                self.first_sent_at = self._clock()
            duration_s = len(frame) / wire.BYTES_PER_S
            self._sent_s += duration_s
            self._heard_until = started_at + duration_s

    async def finish(self) -> None:
        """Wait until the user has heard everything."""
        await self._wait_until_left(0.0)

    async def _wait_until_left(self, left_s: float) -> None:
        if (wait_s := self._heard_until - self._clock() - left_s) > 0:
            await self._sleep(wait_s)
