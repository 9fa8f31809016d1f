"""Copies bytes between a client and its agent, and ends the two connections together.

Nothing is unmasked, re-framed or inflated. A scanner follows frame headers in each direction,
so the relay can count, hold the frame limit, and put a close frame of its own between frames.
While nothing special happens, `gateway.carrier` does the copying, if it can.
"""

import asyncio
import secrets
import time
from collections.abc import Awaitable, Callable, Iterable

from trunkline.aio.tasks import TaskOwner
from trunkline.gateway.carrier import Carried, Carrier, Taken
from trunkline.gateway.doze import Doze
from trunkline.gateway.leg import Leg, duplicates_of, tally_of
from trunkline.gateway.moved import MovedLeg, MovedRelay
from trunkline.gateway.overdue import TimeLimits
from trunkline.gateway.settings import GatewaySettings
from trunkline.gateway.summary import ClosedBy, Summary, Tally, tell_nobody
from trunkline.protocol.close import CloseCode, answer_to, encode_close
from trunkline.protocol.frames import FrameScanner
from trunkline.sessions.suspension import Traffic

_RESTARTING = "the platform is restarting; connect again with the same session id"
#: Who ended a connection, if nobody can be told.
_UNKNOWN = ClosedBy.NETWORK, int(CloseCode.ABNORMAL), "", ""


class Relay:
    """A client's connection and its agent's, from the 101 to the end of both."""

    # Most of them are idle, and memory is what they cost then.
    __slots__ = (
        "_carried",
        "_carrier",
        "_client_is_gone",
        "_doze",
        "_ended",
        "_explain_loss",
        "_for_agent",
        "_has_ended",
        "_is_closing",
        "_is_encrypted",
        "_may_carry",
        "_on_end",
        "_settings",
        "_tasks",
        "_timer",
        "_times",
        "_unsent_bytes",
        "_was_cut",
        "downstream",
        "upstream",
    )

    def __init__(
        self,
        downstream: asyncio.Transport,
        upstream: asyncio.Transport,
        settings: GatewaySettings,
        *,
        carrier: Carrier,
        on_end: Callable[[Summary], None],
        explain_loss: Callable[[], Awaitable[str]],
    ) -> None:
        """Take over two connections whose handshake is over.

        Args:
            downstream: The client's connection.
            upstream: The agent's connection.
            settings: The limits.
            carrier: Copies the bytes while nothing special happens.
            on_end: Called once, when both connections are gone.
            explain_loss: Says why the agent went away without a close frame.
        """
        self._settings = settings
        self._on_end = on_end
        self._explain_loss = explain_loss
        self._tasks: TaskOwner | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._times = TimeLimits(settings, time.monotonic())
        self._carrier = carrier
        self._carried: Carried | None = None
        self._is_encrypted = bool(
            downstream.get_extra_info("ssl_object") or upstream.get_extra_info("ssl_object")
        )
        self._may_carry = carrier.is_available and not self._is_encrypted
        self._is_closing = False
        self._doze: Doze | None = None
        self._client_is_gone = False
        self._has_ended = False
        self._unsent_bytes: int | None = None
        self._was_cut = False
        #: The close frame that the agent hasn't got yet, while its client has one.
        self._for_agent: bytes | None = None
        self._ended: tuple[ClosedBy, int, str, str] | None = None
        self.downstream = Leg(self, downstream, FrameScanner(settings.max_frame_bytes))
        self.upstream = Leg(self, upstream, FrameScanner(settings.max_frame_bytes))
        self.downstream.peer, self.upstream.peer = self.upstream, self.downstream
        for leg in (self.downstream, self.upstream):
            leg.transport.set_write_buffer_limits(high=settings.write_buffer_bytes)
            leg.transport.set_protocol(leg)

    def resume(self, moved: MovedRelay) -> None:
        """Start where another relay left off whose connections these were."""
        self._times.started_at = moved.started_at
        pairs = ((self.downstream, moved.downstream), (self.upstream, moved.upstream))
        for leg, state in pairs:
            leg.active_at, leg.bytes_seen = state.active_at, state.bytes_read
        self._times.frames_seen = moved.downstream.frames
        self._go_on(pairs)

    def hold(self) -> None:
        """Read nothing for now, so that what was read can be sent."""
        # From the pump it is taken with all that has at hand.
        if self._carried is None:
            self.downstream.hold()
            self.upstream.hold()

    def go_on(self) -> None:
        """Read again after `hold`."""
        for leg in (self.downstream, self.upstream):
            leg.go_on(may_read=self._carried is None)

    @property
    def is_encrypted(self) -> bool:
        """Whether TLS ends here: then only this process can go on with it."""
        return self._is_encrypted

    def detach(self) -> MovedRelay | None:
        """Leave both connections as they are, for a relay of another process to take over.

        Call `hold` before it, and let the loop turn, so that what was read is sent if nobody reads
        slowly. Call `leave` or `come_back` after it; until then nothing touches the connections.

        Returns:
            None if they can't be moved now: one is ending, encrypted, or has bytes that only its
            transport knows of, or there are no descriptors for them. Then nothing has changed.
        """
        legs = (self.downstream, self.upstream)
        if self._is_encrypted or self._has_ended:
            return None
        is_known = self._carried is not None or all(leg.is_known for leg in legs)
        if self.is_ending or not is_known or (files := duplicates_of(legs)) is None:
            return None
        if self._carried is not None:
            taken, self._carried = self._carried.take_back(), None
            for leg, state in zip(legs, taken, strict=True):
                leg.scanner.controls = leg.controls_before + state.controls
        else:
            taken = self.downstream.take(), self.upstream.take()
        self._may_carry, self._has_ended = False, True
        downstream, upstream = (
            leg.moved(state, file) for leg, state, file in zip(legs, taken, files, strict=True)
        )
        return MovedRelay(downstream, upstream, self._times.started_at)

    def leave(self) -> None:
        """Be over after `detach`: another process relays. Nobody is told of an end."""
        for leg in (self.downstream, self.upstream):
            leg.transport.abort()
            leg.peer = leg

    def come_back(self, moved: MovedRelay) -> None:
        """Go on after `detach`, as if nothing had been: nobody took the connections over."""
        self._has_ended = False
        self._may_carry = self._carrier.is_available and not self._is_encrypted
        for leg in (self.downstream, self.upstream):
            leg.come_back()
        self._go_on(((self.downstream, moved.downstream), (self.upstream, moved.upstream)))

    @property
    def is_ending(self) -> bool:
        """Whether somebody closes it, or has begun to say so: the rest has to be read to end it."""
        is_special = self.downstream.scanner.is_special or self.upstream.scanner.is_special
        return self._timer is not None or self._is_closing or is_special

    def _is_settled(self) -> bool:
        """Whether all that was read is sent, and nothing needs a decision."""
        return not self.is_ending and self.downstream.is_quiet and self.upstream.is_quiet

    def start(self, from_agent: bytes, from_client: bytes) -> None:
        """Start copying, with what has come so far. The agent's reading is paused."""
        if self._may_carry and not (from_agent or from_client) and self._is_settled():
            self._may_carry = False
            self._give()
            if self._carried is not None:
                return
        # Reading goes on before the bytes at hand are relayed: if they fill the peer's buffer,
        # the pause that follows must be the last word.
        for leg, data in ((self.upstream, from_agent), (self.downstream, from_client)):
            leg.transport.resume_reading()
            if data:
                leg.data_received(data)

    def on_read(self) -> None:
        """Take note of a read that needs no decision."""
        if self._may_carry:
            # Once this read is written there may be nothing left to wait for.
            self._may_carry = False
            asyncio.get_running_loop().call_soon(self._carry)

    def _carry(self) -> None:
        if self._has_ended or self._doze is not None:
            return
        legs = (self.downstream, self.upstream)
        if not (self._is_settled() and all(leg.scanner.is_plain for leg in legs)):
            self._may_carry = True
            return
        self._give()

    def _give(self) -> None:
        """Have the pump carry, which it can: all is settled, and between whole headers."""
        legs = (self.downstream, self.upstream)
        for leg in legs:
            leg.transport.pause_reading()
            leg.controls_before = leg.scanner.controls
        self._carried = self._carrier.carry(
            self.downstream.given, self.upstream.given, self._take_back
        )
        if self._carried is None:
            for leg in legs:
                leg.transport.resume_reading()

    def refresh(self) -> None:
        """Bring what is known of both legs up to date."""
        legs = (self.downstream, self.upstream)
        if self._carried is None:
            for leg in legs:
                leg.waiting_bytes = 0 if leg.is_lost else leg.transport.get_write_buffer_size()
            return
        for leg, counters in zip(legs, self._carried.counters(), strict=True):
            leg.count(counters)

    def _take_back(self) -> None:
        """Go on in the event loop with what the pump had at hand."""
        if self._carried is None:
            return
        legs = (self.downstream, self.upstream)
        pairs = tuple(zip(legs, self._carried.take_back(), strict=True))
        self._carried = None
        self._may_carry = True
        for leg, taken in pairs:
            leg.scanner.controls = leg.controls_before + taken.controls
            # Before the bytes at hand are written: if they fill the peer's buffer, the pause that
            # follows must be the last word.
            leg.transport.resume_reading()
        self._go_on(pairs)

    def _go_on(self, pairs: Iterable[tuple[Leg, Taken | MovedLeg]]) -> None:
        """Start where somebody else stopped."""
        for leg, state in pairs:
            leg.bytes_read = state.bytes_read
            leg.scanner.skip(state.frames, state.left)
        for leg, state in pairs:
            if state.unsent:
                leg.peer.transport.write(state.unsent)
        for leg, state in pairs:
            if state.rest:
                leg.data_received(state.rest)

    # While the agent is frozen

    def traffic(self) -> Traffic | None:
        """Return what went over it both ways; None while something else is going on."""
        if self._is_closing or self._has_ended or self._timer is not None:
            return None
        self.refresh()
        legs = (self.downstream, self.upstream)
        if self._carried is None and not all(leg.scanner.is_between_frames for leg in legs):
            return None
        return Traffic(
            sum(leg.scanner.frames - leg.scanner.controls for leg in legs),
            sum(leg.bytes_read for leg in legs),
        )

    def fall_asleep(self, wake: Callable[[str], None]) -> bool:
        """Answer the client's pings from here on, and call ``wake`` for anything else.

        Returns:
            Whether that can be done. If not, nothing has changed.
        """
        self._take_back()
        legs = (self.downstream, self.upstream)
        if self._has_ended or not (
            self._is_settled()
            and all(leg.scanner.is_plain and leg.scanner.is_between_frames for leg in legs)
        ):
            return False
        self._may_carry = False
        self._doze = Doze(self.downstream, wake)
        return True

    def wake(self) -> None:
        """Go on with the agent. One that isn't asleep stays as it is."""
        doze, self._doze = self._doze, None
        if doze is not None:
            self._may_carry = self._carrier.is_available and not self._is_encrypted
            doze.end()

    def _rouse(self, why: str) -> None:
        if self._doze is not None:
            self._doze.wake(why)

    def on_attention(self, leg: Leg) -> None:
        """Look at what the scanner of a leg has just seen: a close frame, or a limit."""
        scanner, peer = leg.scanner, leg.peer
        if peer.close_due is not None and scanner.is_between_frames:
            self._write_close(peer, peer.close_due)
        if scanner.oversize_bytes:
            self.close(
                CloseCode.MESSAGE_TOO_BIG,
                f"a frame of {scanner.oversize_bytes} bytes is over max_frame_bytes "
                f"({scanner.max_frame_bytes})",
                ClosedBy.LIMIT,
                limit="max_frame_bytes",
            )
        if scanner.close is None:
            return
        if leg.sent_close or (peer.is_lost and peer.scanner.close is not None):
            # Close frames went both ways on this leg: its handshake is over.
            leg.transport.close()
            return
        by = ClosedBy.CLIENT if leg is self.downstream else ClosedBy.AGENT
        self._note(by, scanner.close.code, scanner.close.reason)
        self._start_timer()

    def look(self, now: float) -> None:
        """Hold the limits that only time decides. To be called about once a second."""
        quiet_s = self.quiet_s(now)
        if self._is_closing:
            return
        found = self._times.overdue(self.downstream, self.upstream, quiet_s, now)
        if found is not None:
            self.close(found.code, found.reason, ClosedBy.LIMIT, limit=found.limit)

    def quiet_s(self, now: float) -> float:
        """Return for how long nothing has come from either side, to about a second."""
        self.refresh()
        self.downstream.note_activity(now)
        self.upstream.note_activity(now)
        return now - max(self.downstream.active_at, self.upstream.active_at, self._times.started_at)

    def so_far(self) -> Tally:
        """Return what has gone over it until now."""
        self.quiet_s(time.monotonic())
        return tally_of(self.downstream, self.upstream, self._times.started_at)

    def drain(self, *, client_first: bool = False) -> None:
        """Close because the platform is told to stop. Twice is fine.

        Args:
            client_first: Leave the agent to a second call, or to the client's end.
        """
        self._begin_close(CloseCode.GOING_AWAY, _RESTARTING, ClosedBy.DRAIN)
        if not client_first:
            self._close_agent()

    def abort(self) -> None:
        """Cut both connections."""
        self._rouse("the connection's end")
        self._take_back()
        self._was_cut, self._for_agent = True, None
        for leg in (self.downstream, self.upstream):
            if not leg.is_lost:
                leg.transport.abort()

    def close(self, code: int, reason: str, by: ClosedBy, *, limit: str = "") -> None:
        """Close both connections with a close frame between frames. Twice is fine."""
        self._begin_close(code, reason, by, limit)
        self._close_agent()

    def _begin_close(self, code: int, reason: str, by: ClosedBy, limit: str = "") -> None:
        self._rouse("the connection's end")
        self._take_back()
        if self._is_closing:
            return
        self._is_closing = True
        self._note(by, code, reason, limit)
        self._start_timer()
        self._for_agent = encode_close(code, reason, mask=secrets.token_bytes(4))
        if self.downstream.is_to_close(frame := encode_close(code, reason)):
            self._write_close(self.downstream, frame)

    def _close_agent(self) -> None:
        frame, self._for_agent = self._for_agent, None
        if frame is not None and not self._has_ended and self.upstream.is_to_close(frame):
            self._write_close(self.upstream, frame)

    def _write_close(self, leg: Leg, frame: bytes) -> None:
        leg.close_due = None
        leg.sent_close = True
        if not leg.is_lost:
            leg.transport.write(frame)
            # Its answer must be read even if its peer was too slow for its other bytes.
            leg.transport.resume_reading()
        if leg.scanner.close is not None:
            leg.transport.close()

    def on_eof(self, leg: Leg) -> bool:
        """Take the end of what a leg sends; return whether it may still be written to."""
        if leg is self.downstream and leg.scanner.close is not None and not self.upstream.is_lost:
            # A client that half-closes after its close frame still waits for the answer; the
            # close timer bounds how long.
            return True
        self._gone(leg)
        return False

    def on_lost(self, leg: Leg) -> None:
        """Take the end of one connection."""
        self._gone(leg)
        if self.downstream.is_lost and self.upstream.is_lost:
            self._finish()

    def _gone(self, leg: Leg) -> None:
        self._rouse("the connection's end")
        # What is still buffered for the other side has this long to go out, and no longer.
        self._start_timer()
        if leg.peer.is_lost:
            return
        if leg is self.downstream:
            self._client_is_gone = True
            self._note(ClosedBy.NETWORK, CloseCode.ABNORMAL, "the client went away")
            self._close_agent()
            self.upstream.transport.close()
        else:
            self._agent_gone()

    def _agent_gone(self) -> None:
        if self._client_is_gone:
            # We closed the agent's connection because the client left: nobody is to be told.
            return
        client, scanner = self.downstream, self.upstream.scanner
        if client.close_due is not None or not scanner.is_between_frames:
            # Half a frame is out and its rest won't come: a close frame would be read as it.
            self._note(ClosedBy.AGENT, CloseCode.ABNORMAL, "the agent went away inside a frame")
            client.transport.close()
        elif scanner.close is not None or client.sent_close:
            # The client has a close frame. Its own ends the connection, or the timer.
            self._start_timer()
            if client.scanner.close is not None:
                client.transport.close()
        elif not self._is_closing:
            self._is_closing = True
            self._tasks = TaskOwner()
            self._tasks.spawn(self._close_for_lost_agent(), name="relay:agent-lost")

    async def _close_for_lost_agent(self) -> None:
        client = self.downstream
        reason = "" if client.scanner.close is not None else await self._explain_loss()
        self._start_timer()
        if client.scanner.close is not None:
            # It asked to close; the agent closed without saying so. The client gets its answer.
            self._write_close(client, encode_close(answer_to(client.scanner.close.code)))
        else:
            self._note(ClosedBy.AGENT, CloseCode.INTERNAL_ERROR, reason)
            self._write_close(client, encode_close(CloseCode.INTERNAL_ERROR, reason))

    def _note(self, by: ClosedBy, code: int, reason: str, limit: str = "") -> None:
        # What ended the connection is what happened first; the rest follows from it.
        if self._ended is None:
            self._ended = by, int(code), reason, limit

    def _start_timer(self) -> None:
        if self._timer is None and not self._has_ended:
            loop = asyncio.get_running_loop()
            self._timer = loop.call_later(self._settings.close_timeout_s, self._cut)

    def _cut(self) -> None:
        self._timer = None
        legs = [leg for leg in (self.downstream, self.upstream) if not leg.is_lost]
        unsent = sum(leg.transport.get_write_buffer_size() for leg in legs)
        if unsent > 0 and (self._unsent_bytes is None or unsent <= self._unsent_bytes // 2):
            # Somebody reads slowly, but reads: the last words before a close are worth it.
            # Having to halve what is left bounds how often.
            self._unsent_bytes = unsent
            self._start_timer()
            return
        self.abort()

    def _finish(self) -> None:
        if self._has_ended:
            return
        self._has_ended = self._is_closing = True
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        by, code, reason, limit = self._ended or _UNKNOWN
        on_end, self._on_end = self._on_end, tell_nobody
        tally = tally_of(self.downstream, self.upstream, self._times.started_at)
        was_cut = self._was_cut
        on_end(
            Summary(**tally.fields(), by=by, code=code, reason=reason, limit=limit, was_cut=was_cut)
        )
        for leg in (self.downstream, self.upstream):
            leg.let_go()
