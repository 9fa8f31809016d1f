"""Reads a client's connection while its agent is frozen."""

import asyncio
from collections.abc import Callable

from trunkline.gateway.leg import Leg
from trunkline.protocol.standin import StandIn


class Doze(asyncio.Protocol):
    """Is the protocol of a relay's downstream leg in the leg's place.

    Pings are answered here, so no keep-alive dies. Anything that only the agent can answer wakes
    it, and then the leg goes on with what is at hand.
    """

    __slots__ = ("_is_paused", "_leg", "_stand_in", "_wake")

    def __init__(self, leg: Leg, wake: Callable[[str], None]) -> None:
        """Begin to read in the place of a leg.

        Args:
            leg: The client's end; it stands between two frames, and so does its peer.
            wake: Has the agent go on, and :meth:`end` called. Takes the cause.
        """
        self._leg = leg
        self._wake = wake
        self._stand_in = StandIn()
        self._is_paused = False
        leg.transport.set_protocol(self)

    def wake(self, why: str) -> None:
        """Have the agent go on."""
        self._wake(why)

    def end(self) -> None:
        """Leave the connection to its leg again, with what it has to read first."""
        leg = self._leg
        if not leg.is_lost and not leg.transport.is_closing():
            leg.transport.set_protocol(leg)
            if self._is_paused and not (leg.is_held or leg.peer.is_full):
                leg.transport.resume_reading()
        rest, self._stand_in.rest = self._stand_in.rest, b""
        if rest:
            leg.data_received(rest)

    def data_received(self, data: bytes) -> None:
        leg, stand_in = self._leg, self._stand_in
        if not leg.peer.scanner.is_between_frames:
            # The agent was frozen while it sent: nothing can be put inside that frame.
            stand_in.rest += data
            self._wake("a frame")
            return
        done = stand_in.receive_data(data)
        leg.bytes_read += done.size
        leg.scanner.frames += done.frames
        leg.scanner.controls += done.frames
        if done.answers and not leg.transport.is_closing():
            leg.transport.write(done.answers)
        if done.passed_on and not leg.peer.transport.is_closing():
            leg.peer.transport.write(done.passed_on)
        if stand_in.is_agent_needed:
            self._wake("a frame")

    def eof_received(self) -> bool:
        self._wake("the client's end of its stream")
        return self._leg.eof_received()

    def connection_lost(self, exc: Exception | None) -> None:
        self._wake("the client's leaving")
        self._leg.connection_lost(exc)

    def pause_writing(self) -> None:
        # It pings, and doesn't read the answers: then it isn't read, either.
        self._is_paused = True
        self._leg.transport.pause_reading()
        self._leg.pause_writing()

    def resume_writing(self) -> None:
        self._is_paused = False
        self._leg.resume_writing()
        if not self._leg.is_held:
            self._leg.transport.resume_reading()
