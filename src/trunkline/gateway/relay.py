"""Copies bytes between a client and its agent, and ends the two connections together.

Nothing is unmasked, re-framed or inflated. A scanner follows frame headers in each direction,
so the relay can count, hold the frame limit, and put a close frame of its own between frames.
"""

import asyncio
import secrets
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from enum import StrEnum

from trunkline.aio.sockets import unsent_bytes
from trunkline.aio.tasks import TaskOwner
from trunkline.gateway.settings import GatewaySettings
from trunkline.protocol.close import CloseCode, encode_close
from trunkline.protocol.frames import FrameScanner


class ClosedBy(StrEnum):
    """Who ended a connection."""

    CLIENT = "client"
    AGENT = "agent"
    LIMIT = "limit"
    DRAIN = "drain"
    NETWORK = "network"


@dataclass(frozen=True, slots=True)
class Summary:
    """What a relayed connection was, told once at its end.

    Attributes:
        by: Who ended it.
        code: The close code the client got or sent; 1006 if there was none.
        reason: The close frame's text.
        limit: The setting that ended it, if it was a limit.
        frames_in: Frames from the client to the agent; ``frames_out`` the other way.
        bytes_in: Bytes from the client to the agent; ``bytes_out`` the other way.
        age_s: Seconds from the 101 to the end.
        quiet_in_s: Seconds from the client's last byte to the end, to about a second; None if it
            sent none. ``quiet_out_s`` the other way.
        was_cut: Whether the close handshake wasn't over in time.
    """

    by: ClosedBy
    code: int
    reason: str
    limit: str
    frames_in: int
    frames_out: int
    bytes_in: int
    bytes_out: int
    age_s: float
    quiet_in_s: float | None
    quiet_out_s: float | None
    was_cut: bool


class _Leg(asyncio.Protocol):
    """One of the two connections: what it reads goes to its peer."""

    def __init__(self, relay: "Relay", transport: asyncio.Transport, scanner: FrameScanner) -> None:
        self.relay = relay
        self.transport = transport
        self.scanner = scanner
        self.peer: _Leg = self
        self.bytes_read = 0
        self.is_lost = False
        #: A close frame of ours for this leg that waits for its peer's frame to end.
        self.close_due: bytes | None = None
        self.sent_close = False
        # What the last look at it saw, see Relay.look().
        self.bytes_seen = 0
        self.active_at = 0.0
        self.taken_seen = -1
        self.stalled_since = 0.0

    def data_received(self, data: bytes) -> None:
        self.bytes_read += len(data)
        scanner = self.scanner
        out = scanner.feed(data)
        if out and not self.peer.transport.is_closing():
            self.peer.transport.write(out)
        if scanner.close is not None or scanner.oversize_bytes or self.peer.close_due is not None:
            self.relay.on_attention(self)

    def eof_received(self) -> bool:
        return self.relay.on_eof(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self.is_lost = True
        self.relay.on_lost(self)

    def pause_writing(self) -> None:
        # The peer's bytes don't go out fast enough: reading fewer of them is all it takes, the
        # sender then feels it through TCP.
        if not self.peer.is_lost:
            self.peer.transport.pause_reading()

    def resume_writing(self) -> None:
        if not self.peer.is_lost:
            self.peer.transport.resume_reading()

    def note_activity(self, now: float) -> None:
        """Keep when bytes last came."""
        if self.bytes_read != self.bytes_seen:
            self.bytes_seen = self.bytes_read
            self.active_at = now

    def stalled_s(self, now: float) -> float:
        """Return for how long nothing of what waits for it has been taken."""
        waiting = self.transport.get_write_buffer_size()
        if not waiting:
            self.taken_seen = -1
            return 0.0
        # The system's own buffer is large, and asks for more only once a good part of it is free:
        # a slow reader may be at work on it for long.
        taken = self.peer.bytes_read - waiting - unsent_bytes(self.transport)
        if taken != self.taken_seen:
            self.taken_seen = taken
            self.stalled_since = now
        return now - self.stalled_since

    def shutdown(self) -> None:
        """Drain: uvicorn calls this on every connection when it is told to stop."""
        self.relay.close(
            CloseCode.GOING_AWAY,
            "the platform is restarting; connect again with the same session id",
            ClosedBy.DRAIN,
        )


class Relay:
    """A client's connection and its agent's, from the 101 to the end of both."""

    def __init__(
        self,
        downstream: asyncio.Transport,
        upstream: asyncio.Transport,
        settings: GatewaySettings,
        *,
        on_end: Callable[[Summary], None],
        explain_loss: Callable[[], Awaitable[str]],
    ) -> None:
        """Take over two connections whose handshake is over.

        Args:
            downstream: The client's connection.
            upstream: The agent's connection.
            settings: The limits.
            on_end: Called once, when both connections are gone.
            explain_loss: Says why the agent went away without a close frame.
        """
        self._settings = settings
        self._on_end = on_end
        self._explain_loss = explain_loss
        self._loop = asyncio.get_running_loop()
        self._tasks = TaskOwner()
        self._timer: asyncio.TimerHandle | None = None
        self._started_at = time.monotonic()
        self._is_closing = False
        self._client_is_gone = False
        self._has_ended = False
        self._unsent_bytes: int | None = None
        self._was_cut = False
        self._frames_seen = 0
        self._looked_at = self._started_at
        self._ended: tuple[ClosedBy, int, str, str] | None = None
        self.downstream = _Leg(self, downstream, FrameScanner(settings.max_frame_bytes))
        self.upstream = _Leg(self, upstream, FrameScanner(settings.max_frame_bytes))
        self.downstream.peer, self.upstream.peer = self.upstream, self.downstream
        for leg in (self.downstream, self.upstream):
            leg.transport.set_write_buffer_limits(high=settings.write_buffer_bytes)
            leg.transport.set_protocol(leg)

    def on_attention(self, leg: _Leg) -> None:
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
        client, agent, settings = self.downstream, self.upstream, self._settings
        client.note_activity(now)
        agent.note_activity(now)
        if self._is_closing:
            return
        age_s = now - self._started_at
        if 0 < settings.max_connection_s <= age_s:
            self._close_for_limit(
                CloseCode.GOING_AWAY,
                "max_connection_s",
                "connections last {} s (max_connection_s); connect again with the same session id",
            )
            return
        quiet_s = now - max(client.active_at, agent.active_at, self._started_at)
        if 0 < settings.idle_connection_s <= quiet_s:
            self._close_for_limit(
                CloseCode.GOING_AWAY,
                "idle_connection_s",
                "not a byte for {} s (idle_connection_s); connect again with the same session id",
            )
            return
        if settings.max_frames_per_s:
            frames = client.scanner.frames - self._frames_seen
            # A second's worth may come at once.
            if frames > settings.max_frames_per_s * max(now - self._looked_at, 1.0):
                self._close_for_limit(
                    CloseCode.POLICY_VIOLATION,
                    "max_frames_per_s",
                    "more than {} frames a second (max_frames_per_s)",
                )
                return
            self._frames_seen, self._looked_at = client.scanner.frames, now
        for leg, who in ((client, "client"), (agent, "agent")):
            if 0 < settings.stalled_reader_s <= leg.stalled_s(now):
                self._close_for_limit(
                    CloseCode.TRY_AGAIN_LATER,
                    "stalled_reader_s",
                    f"the {who} read nothing for {{}} s (stalled_reader_s)",
                )
                return

    def _close_for_limit(self, code: int, limit: str, words: str) -> None:
        reason = words.format(f"{getattr(self._settings, limit):g}")
        self.close(code, reason, ClosedBy.LIMIT, limit=limit)

    def close(self, code: int, reason: str, by: ClosedBy, *, limit: str = "") -> None:
        """Close both connections with a close frame between frames. Twice is fine."""
        if self._is_closing:
            return
        self._is_closing = True
        self._note(by, code, reason, limit)
        self._start_timer()
        for leg in (self.downstream, self.upstream):
            source = leg.peer.scanner
            source.stop()
            if leg.is_lost or source.close is not None:
                continue
            mask = secrets.token_bytes(4) if leg is self.upstream else None
            frame = encode_close(code, reason, mask=mask)
            if source.is_between_frames:
                self._write_close(leg, frame)
            else:
                leg.close_due = frame

    def _write_close(self, leg: _Leg, frame: bytes) -> None:
        leg.close_due = None
        leg.sent_close = True
        if not leg.is_lost:
            leg.transport.write(frame)
            # Its answer must be read even if its peer was too slow for its other bytes.
            leg.transport.resume_reading()
        if leg.scanner.close is not None:
            leg.transport.close()

    def on_eof(self, leg: _Leg) -> bool:
        """Take the end of what a leg sends; return whether it may still be written to."""
        if leg is self.downstream and leg.scanner.close is not None and not self.upstream.is_lost:
            # A client that half-closes after its close frame still waits for the answer; the
            # close timer bounds how long.
            return True
        self._gone(leg)
        return False

    def on_lost(self, leg: _Leg) -> None:
        """Take the end of one connection."""
        self._gone(leg)
        if self.downstream.is_lost and self.upstream.is_lost:
            self._finish()

    def _gone(self, leg: _Leg) -> None:
        # What is still buffered for the other side has this long to go out, and no longer.
        self._start_timer()
        if leg.peer.is_lost:
            return
        if leg is self.downstream:
            self._client_is_gone = True
            self._note(ClosedBy.NETWORK, CloseCode.ABNORMAL, "the client went away")
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
            self._tasks.spawn(self._close_for_lost_agent(), name="relay:agent-lost")

    async def _close_for_lost_agent(self) -> None:
        client = self.downstream
        reason = "" if client.scanner.close is not None else await self._explain_loss()
        self._start_timer()
        if client.scanner.close is not None:
            # It asked to close; the agent closed without saying so. The client gets its answer.
            code = client.scanner.close.code
            self._write_close(
                client, encode_close(CloseCode.NORMAL if code == CloseCode.NO_STATUS else code)
            )
        else:
            self._note(ClosedBy.AGENT, CloseCode.INTERNAL_ERROR, reason)
            self._write_close(client, encode_close(CloseCode.INTERNAL_ERROR, reason))

    def _note(self, by: ClosedBy, code: int, reason: str, limit: str = "") -> None:
        # What ended the connection is what happened first; the rest follows from it.
        if self._ended is None:
            self._ended = by, int(code), reason, limit

    def _start_timer(self) -> None:
        if self._timer is None and not self._has_ended:
            self._timer = self._loop.call_later(self._settings.close_timeout_s, self._cut)

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
        self._was_cut = True
        for leg in legs:
            leg.transport.abort()

    def _finish(self) -> None:
        if self._has_ended:
            return
        self._has_ended = True
        if self._timer is not None:
            self._timer.cancel()
        # They refer to each other; without this they would stay until a garbage collection.
        self.downstream.peer, self.upstream.peer = self.downstream, self.upstream
        by, code, reason, limit = self._ended or (
            ClosedBy.NETWORK,
            int(CloseCode.ABNORMAL),
            "",
            "",
        )
        client, agent, now = self.downstream, self.upstream, time.monotonic()
        self._on_end(
            Summary(
                by=by,
                code=code,
                reason=reason,
                limit=limit,
                frames_in=client.scanner.frames,
                frames_out=agent.scanner.frames,
                bytes_in=client.bytes_read,
                bytes_out=agent.bytes_read,
                age_s=now - self._started_at,
                quiet_in_s=_quiet_s(client, now),
                quiet_out_s=_quiet_s(agent, now),
                was_cut=self._was_cut,
            )
        )


def _quiet_s(leg: _Leg, now: float) -> float | None:
    leg.note_activity(now)
    return now - leg.active_at if leg.bytes_read else None
