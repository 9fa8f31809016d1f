"""One of a relay's two connections, as the event loop sees it."""

import asyncio
import logging
import os
import time
from collections.abc import Iterable
from typing import Protocol

from trunkline.aio.light import LightTransport
from trunkline.aio.passing import close_all
from trunkline.aio.sockets import unsent_bytes
from trunkline.gateway.carrier import Counters, Given, Taken
from trunkline.gateway.moved import MovedLeg
from trunkline.gateway.summary import Tally
from trunkline.protocol.frames import FrameScanner

_log = logging.getLogger("trunkline.gateway")


class LegOwner(Protocol):
    """What a leg tells its relay."""

    def on_read(self) -> None:
        """Take note of a read that needs no decision."""

    def on_attention(self, leg: "Leg") -> None:
        """Look at what its scanner has just seen."""

    def on_eof(self, leg: "Leg") -> bool:
        """Take the end of what it sends; return whether it may still be written to."""

    def on_lost(self, leg: "Leg") -> None:
        """Take the end of the connection."""

    def drain(self) -> None:
        """Close both connections because the platform stops."""


class _Nobody:
    """Owns the legs of relays that are over."""

    def on_read(self) -> None:
        pass

    def on_attention(self, leg: "Leg") -> None:
        pass

    def on_eof(self, leg: "Leg") -> bool:
        return False

    def on_lost(self, leg: "Leg") -> None:
        pass

    def drain(self) -> None:
        pass


_NOBODY = _Nobody()


class Leg(asyncio.Protocol):
    """One of the two connections: what it reads goes to its peer."""

    # There are two for every connection, most of them idle.
    __slots__ = (
        "active_at",
        "bytes_read",
        "bytes_seen",
        "close_due",
        "controls_before",
        "is_full",
        "is_held",
        "is_lost",
        "peer",
        "relay",
        "scanner",
        "sent_close",
        "stalled_since",
        "taken_seen",
        "transport",
        "waiting_bytes",
    )

    def __init__(
        self, relay: LegOwner, transport: asyncio.Transport, scanner: FrameScanner
    ) -> None:
        self.relay: LegOwner = relay
        self.transport = transport
        self.scanner = scanner
        self.peer: Leg = self
        self.bytes_read = 0
        #: Bytes that wait to be sent here, when the relay's refresh() looked.
        self.waiting_bytes = 0
        self.is_lost = False
        #: Whether as much waits to be sent here as may.
        self.is_full = False
        #: Whether nothing is to be read from it for now.
        self.is_held = False
        #: A close frame of ours for this leg that waits for its peer's frame to end.
        self.close_due: bytes | None = None
        self.sent_close = False
        #: Control frames that its scanner had seen when the pump took over.
        self.controls_before = 0
        # What the last look at it saw, see the relay's look().
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
        else:
            self.relay.on_read()

    def eof_received(self) -> bool:
        return self.relay.on_eof(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self.is_lost = True
        self.relay.on_lost(self)

    def pause_writing(self) -> None:
        # The peer's bytes don't go out fast enough: reading fewer of them is all it takes, the
        # sender then feels it through TCP.
        self.is_full = True
        if not self.peer.is_lost:
            self.peer.transport.pause_reading()

    def resume_writing(self) -> None:
        self.is_full = False
        if not self.peer.is_lost and not self.peer.is_held:
            self.peer.transport.resume_reading()

    def count(self, counters: Counters) -> None:
        """Keep what the pump has counted."""
        self.bytes_read = counters.bytes_read
        self.scanner.frames = counters.frames
        self.scanner.controls = self.controls_before + counters.controls
        self.peer.waiting_bytes = counters.waiting_bytes

    def note_activity(self, now: float) -> None:
        """Keep when bytes last came."""
        if self.bytes_read != self.bytes_seen:
            self.bytes_seen = self.bytes_read
            self.active_at = now

    def quiet_s(self, now: float) -> float | None:
        """Return for how long no bytes have come; None if none ever came."""
        self.note_activity(now)
        return now - self.active_at if self.bytes_read else None

    def is_to_close(self, frame: bytes) -> bool:
        """Send it nothing more of its peer's; return whether a close frame may be sent now.

        One that may be sent later is kept until its peer's frame has ended.
        """
        source = self.peer.scanner
        source.stop()
        if self.is_lost or source.close is not None:
            return False
        if not source.is_between_frames:
            self.close_due = frame
            return False
        return True

    @property
    def is_quiet(self) -> bool:
        """Whether all its bytes are sent."""
        return not (
            self.is_lost or self.transport.is_closing() or self.transport.get_write_buffer_size()
        )

    @property
    def is_known(self) -> bool:
        """Whether its transport keeps nothing to itself of what is to be sent."""
        return self.is_quiet or (
            isinstance(self.transport, LightTransport) and not self.transport.is_closing()
        )

    def stalled_s(self, now: float) -> float:
        """Return for how long nothing of what waits for it has been taken."""
        waiting = self.waiting_bytes
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

    @property
    def fd(self) -> int:
        found: int = self.transport.get_extra_info("socket").fileno()
        return found

    @property
    def given(self) -> Given:
        return Given(self.fd, self.scanner.left, self.scanner.frames, self.bytes_read)

    def take(self) -> Taken:
        """Read nothing more; give up what it knows of its direction, on which all is as usual."""
        self.transport.pause_reading()
        scanner, rest = self.scanner, self.scanner.take_rest()
        to = self.peer.transport
        unsent = to.take_unsent() if isinstance(to, LightTransport) else b""
        return Taken(scanner.frames, self.bytes_read - len(rest), scanner.left, rest, unsent)

    def moved(self, taken: Taken, file: int) -> MovedLeg:
        """Hear nothing more of the connection, which has moved or comes back; describe it."""
        self.bytes_read = taken.bytes_read
        self.note_activity(time.monotonic())
        self.transport.set_protocol(asyncio.Protocol())
        return MovedLeg(
            file,
            taken.left,
            taken.frames,
            taken.bytes_read,
            self.active_at,
            taken.rest,
            taken.unsent,
        )

    def hold(self) -> None:
        """Read nothing for now."""
        self.is_held = True
        if not self.is_lost:
            self.transport.pause_reading()

    def go_on(self, *, may_read: bool) -> None:
        """Read again after `hold`, if somebody else doesn't."""
        if self.is_held and may_read and not (self.is_lost or self.peer.is_full):
            self.transport.resume_reading()
        self.is_held = False

    def come_back(self) -> None:
        """Hear of the connection again."""
        self.is_held = self.is_full = False
        self.transport.set_protocol(self)
        self.transport.resume_reading()

    def shutdown(self) -> None:
        """Drain: uvicorn calls this on every connection when it stops."""
        self.relay.drain()

    def let_go(self) -> None:
        """Refer to neither the relay nor the other leg any more: the relay is over.

        Without this all three would stay until a garbage collection.
        """
        self.relay = _NOBODY
        del self.peer


def duplicates_of(legs: Iterable[Leg]) -> list[int] | None:
    """Return a duplicate of each connection's descriptor; None if the system has too few."""
    files: list[int] = []
    try:
        files += (os.dup(leg.fd) for leg in legs)
    except OSError as exc:
        close_all(files)
        _log.warning("a connection can't move to another process yet: %s", exc)
        return None
    return files


def tally_of(client: Leg, agent: Leg, started_at: float) -> Tally:
    """Return what has gone over the two legs of a connection."""
    now = time.monotonic()
    return Tally(
        frames_in=client.scanner.frames,
        frames_out=agent.scanner.frames,
        bytes_in=client.bytes_read,
        bytes_out=agent.bytes_read,
        age_s=now - started_at,
        quiet_in_s=client.quiet_s(now),
        quiet_out_s=agent.quiet_s(now),
    )
