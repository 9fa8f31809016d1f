"""Pings, and noticing that nobody answers them."""

import asyncio
from typing import Final, Protocol

#: After the event loop was held up the answer may have arrived and not been read: what is due
#: on the loop comes before what can be read. So silence is looked at twice.
_SECOND_LOOK_S: Final = 0.5


class Peer(Protocol):
    """Whom to keep alive."""

    def ping(self) -> None:
        """Send one ping."""

    def seen(self) -> object:
        """Return a value that differs after anything was received.

        None says that the peer can't be heard at present because nothing is read.
        """

    def is_dead(self) -> None:
        """Take note that the peer has been silent for a whole interval. Called once."""


class KeepAlive:
    """Pings a peer every so often and gives it up when it stays silent from one ping to the next.

    Anything that arrives counts as a sign of life, also part of a frame that takes long.
    """

    __slots__ = (
        "_interval_s",
        "_is_answer_due",
        "_is_suspect",
        "_last_seen",
        "_loop",
        "_peer",
        "_timer",
    )

    def __init__(self, loop: asyncio.AbstractEventLoop, interval_s: float, peer: Peer) -> None:
        """Begin, unless the interval is 0.

        Args:
            loop: Where the timer runs.
            interval_s: Seconds between two pings; also how long an answer may take.
            peer: Whom to ping.
        """
        self._loop = loop
        self._interval_s = interval_s
        self._peer = peer
        self._is_answer_due = False
        self._is_suspect = False
        self._last_seen: object = None
        self._timer: asyncio.TimerHandle | None = None
        if interval_s > 0:
            self._timer = loop.call_later(interval_s, self._tick)

    def stop(self) -> None:
        """Stop. Twice is fine."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _tick(self) -> None:
        seen = self._peer.seen()
        if self._is_answer_due and seen is not None and seen == self._last_seen:
            if self._is_suspect:
                self._timer = None
                self._peer.is_dead()
            else:
                self._is_suspect = True
                self._timer = self._loop.call_later(_SECOND_LOOK_S, self._tick)
            return
        self._is_suspect = False
        self._is_answer_due = seen is not None
        self._last_seen = seen
        self._timer = self._loop.call_later(self._interval_s, self._tick)
        self._peer.ping()
