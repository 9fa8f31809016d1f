"""A WebSocket's connection from its first byte to its last: pressure, signs of life, the end."""

import asyncio
from enum import IntEnum
from typing import Final, cast

from picows import WSListener, WSTransport
from uvicorn.server import ServerState

from trunkline.agentserver._ending import ClosedBy, Ending
from trunkline.agentserver._ws_inbox import Inbox
from trunkline.agentserver._ws_keepalive import KeepAlive
from trunkline.agentserver._ws_messages import MessageAssembler
from trunkline.agentserver._ws_parser import WSProtocol
from trunkline.agentserver._ws_settings import WebSocketSettings
from trunkline.protocol.close import CloseCode, encode_close

#: After so many messages sent in a row the others on the event loop get their turn.
SENDS_PER_TURN: Final = 64


class Phase(IntEnum):
    """Where a connection stands. It only moves forward."""

    HEAD = 0
    CONNECTING = 1
    OPEN = 2
    CLOSING = 3
    LOST = 4


_OPEN: Final = Phase.OPEN
_NOBODY: Final = asyncio.BufferedProtocol()
_PING_FRAME: Final = b"\x89\x00"


class Link(WSListener, asyncio.Protocol):
    """What a WebSocket connection does besides moving messages.

    The transport's protocol is the parser while the WebSocket is open, and calls
    :meth:`on_ws_frame`. Before and after, this object is: it drops whatever a peer still sends
    after the end.
    """

    __slots__ = (
        "_abandon_timer",
        "_can_send",
        "_close_timer",
        "_ending",
        "_has_parser_failed",
        "_is_congested",
        "_is_dozing",
        "_is_roomy",
        "_keepalive",
        "_loop",
        "_messages",
        "_other_frames",
        "_parser",
        "_phase",
        "_pong_due",
        "_said_at_pong",
        "_server_state",
        "_settings",
        "_task",
        "_turn_ends_at",
        "_waiting_senders",
        "_ws",
        "inbox",
        "transport",
    )

    def __init__(self, server_state: ServerState, settings: WebSocketSettings) -> None:
        self._server_state = server_state
        self._settings = settings
        self._loop = asyncio.get_running_loop()
        self._phase = Phase.HEAD
        self._ending = Ending()
        self.transport: asyncio.Transport = None  # type: ignore[assignment]
        self.inbox: Inbox = None  # type: ignore[assignment]
        self._parser: WSProtocol | None = None
        self._ws: WSTransport | None = None
        self._has_parser_failed = False
        self._task: asyncio.Task[None] | None = None
        self._can_send = False
        self._is_congested = False
        self._is_dozing = False
        self._said_at_pong = -1
        self._waiting_senders: list[asyncio.Future[None]] = []
        self._turn_ends_at = SENDS_PER_TURN
        self._other_frames = 0
        self._is_roomy = False
        self._pong_due: bytes | None = None
        #: Only while a message comes in fragments.
        self._messages: MessageAssembler | None = None
        self._keepalive: KeepAlive | None = None
        self._close_timer: asyncio.TimerHandle | None = None
        self._abandon_timer: asyncio.TimerHandle | None = None

    # The transport's callbacks

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin with a connection whose request head was just read."""
        # Not every event loop derives its transports from asyncio's.
        self.transport = cast(asyncio.Transport, transport)
        self.inbox = Inbox(self._loop, self.transport, self._settings.max_queued_bytes)
        self._server_state.connections.add(self)  # type: ignore[arg-type]

    def eof_received(self) -> bool:
        """Let the transport close: a WebSocket has no half-closed state."""
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        """Note that the connection is gone."""
        self._lost()

    def on_ws_disconnected(self, transport: WSTransport) -> None:
        """Note that the connection is gone, unless the parser was only made to believe it."""
        if not self._has_parser_failed:
            self._lost()

    def pause_writing(self) -> None:
        """Make senders wait: the peer reads slower than the handler sends."""
        self._is_congested = True
        self._can_send = False

    def resume_writing(self) -> None:
        """Let senders go on."""
        self._is_congested = False
        self._can_send = self._phase is _OPEN and self._ws is not None
        self._wake_senders()
        if self._pong_due is not None and self._can_send and self._ws is not None:
            self._ws.send_pong(self._pong_due)
        self._pong_due = None

    def _wake_senders(self) -> None:
        if self._waiting_senders:
            senders, self._waiting_senders = self._waiting_senders, []
            for sender in senders:
                if not sender.done():
                    sender.set_result(None)

    def _take_over(self, protocol: asyncio.BaseProtocol) -> None:
        """Give what is read from here on to another protocol."""
        if protocol is self:
            # uvloop keeps hold of the last protocol that reads into a buffer of its own, which
            # is the parser. This one takes its place.
            self.transport.set_protocol(_NOBODY)
        self.transport.set_protocol(protocol)
        if self.transport.is_reading():
            # Not every event loop asks each time which way its protocol wants the bytes.
            self.transport.pause_reading()
            self.transport.resume_reading()

    def abort(self) -> None:
        """Drop the connection, with all that was not sent."""
        self.transport.abort()

    # The end

    def _close(self, code: int, reason: str, closed_by: ClosedBy) -> None:
        """Send a close frame, and wait for the peer's for a bounded time."""
        self.transport.write(encode_close(code, reason))
        self._end(code, reason, closed_by)
        self.inbox.resume_reading()

    def _fail(self, code: int, reason: str) -> None:
        """End a connection whose peer broke the rules (RFC 6455 section 7.1.7)."""
        self.transport.write(encode_close(code, reason))
        self._end(code, reason, ClosedBy.PROTOCOL)
        self._watch_handler()
        # Closing a socket with unread data in it resets the connection, and the reset may
        # overtake the close frame. So only our half is closed, and the rest read and dropped.
        self._is_dozing = False
        self._parser = None
        self._take_over(self)
        self.inbox.resume_reading()
        self.transport.write_eof()

    def _parser_failed(self) -> None:
        # The parser reads one frame ahead. Before it hands over the last good frame it sends a
        # close frame about the bad one behind it, too early: the good one may be a close.
        # Believing the connection lost it sends nothing, and the close frame is ours.
        assert self._parser is not None
        if not self._has_parser_failed:
            self._has_parser_failed = True
            self._parser.connection_lost(None)
            self._loop.call_soon(self._after_parser_failure)

    def _after_parser_failure(self) -> None:
        if self._ws is None:
            return
        self._take_over(self)
        if self._phase is _OPEN:
            found = self._ws.close_handshake.sent
            assert found is not None
            self._fail(cast(int, found.code), found.reason)

    def _end(self, code: int, reason: str, closed_by: ClosedBy) -> None:
        self._phase = Phase.CLOSING
        self._ending.settle(code, closed_by)
        self._can_send = False
        self._wake_senders()
        self.inbox.end({"type": "websocket.disconnect", "code": code, "reason": reason})
        if self._keepalive is not None:
            self._keepalive.stop()
            self._keepalive = None
        self._close_timer = self._loop.call_later(self._settings.close_timeout_s, self.abort)

    def _lost(self) -> None:
        if self._phase is Phase.LOST:
            return
        was_live = self._phase in (Phase.CONNECTING, Phase.OPEN)
        if was_live:
            self._end(CloseCode.ABNORMAL, "", ClosedBy.NETWORK)
            self._watch_handler()
        self._phase = Phase.LOST
        if self._close_timer is not None:
            self._close_timer.cancel()
        self._server_state.connections.discard(self)
        # The parser and this object know each other; apart, both are freed at once.
        self._parser = self._ws = None

    def _watch_handler(self) -> None:
        """Give the handler some time to notice that nobody is there any more."""
        grace_s = self._settings.disconnect_grace_s
        if grace_s is not None and self._task is not None and not self._task.done():
            self._abandon_timer = self._loop.call_later(grace_s, self._abandon)

    def handler_noticed(self) -> None:
        """Note that the handler knows of the end; it may take its time from here on."""
        if self._abandon_timer is not None:
            self._abandon_timer.cancel()
            self._abandon_timer = None

    def _abandon(self) -> None:
        if self._task is not None and not self._task.done():
            self._ending.is_abandoned = True
            self._task.cancel("the client has left")

    # What the keep-alive asks

    def ping(self) -> None:
        """Send a ping, unless a peer that doesn't read has enough to read already."""
        if not self._is_congested:
            self.transport.write(_PING_FRAME)

    def seen(self) -> object:
        """Return what differs after anything was received; None if nothing is read."""
        if self.inbox.is_reading_paused:
            return None
        # Free room in the parser's buffer changes with every part of a frame that comes in.
        room = 0 if self._parser is None else len(self._parser.get_buffer(-1))
        return self._ending.received_messages, self._other_frames, room

    def is_dead(self) -> None:
        """Close, since the peer no longer answers."""
        seconds = self._settings.keepalive_interval_s
        self._close(
            CloseCode.GOING_AWAY,
            f"no pong within {seconds:g} s (ws_keepalive_interval_s)",
            ClosedBy.KEEPALIVE,
        )
        self._watch_handler()
