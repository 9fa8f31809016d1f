"""The network half of a WebSocket: frames in, close frames, and the end of the connection."""

import asyncio
from enum import IntEnum
from typing import Any, Final, cast

from picows import WSFrame, WSListener, WSMsgType, WSTransport
from uvicorn.server import ServerState

from trunkline.agentserver._ending import ClosedBy, Ending
from trunkline.agentserver._ws_keepalive import KeepAlive
from trunkline.agentserver._ws_messages import FrameError, MessageAssembler, check_close_payload
from trunkline.agentserver._ws_parser import WSProtocol, start_parser
from trunkline.agentserver._ws_settings import WebSocketSettings
from trunkline.protocol.close import CloseCode, encode_close

_TEXT: Final = WSMsgType.TEXT
_BINARY: Final = WSMsgType.BINARY
_CONTINUATION: Final = WSMsgType.CONTINUATION
_PING: Final = WSMsgType.PING
_CLOSE: Final = WSMsgType.CLOSE

_EMPTY_CLOSE: Final = b"\x88\x00"
#: What one queued message costs besides its payload, so that empty ones fill the queue too.
MESSAGE_OVERHEAD_BYTES: Final = 256


class Phase(IntEnum):
    """Where a connection stands. It only moves forward."""

    HEAD = 0
    CONNECTING = 1
    OPEN = 2
    CLOSING = 3
    LOST = 4


class WireConnection(WSListener, asyncio.Protocol):
    """What a WebSocket connection does without its application.

    The transport's protocol is the parser while the WebSocket is open, and calls
    :meth:`on_ws_frame`. Before and after, this object is: it drops whatever a peer still sends
    after the end.
    """

    def __init__(self, server_state: ServerState, settings: WebSocketSettings) -> None:
        self._server_state = server_state
        self._settings = settings
        self._loop = asyncio.get_running_loop()
        self._phase = Phase.HEAD
        self._ending = Ending()
        self.transport: asyncio.Transport = None  # type: ignore[assignment]
        self._parser: WSProtocol | None = None
        self._ws: WSTransport | None = None
        self._has_parser_failed = False
        self._task: asyncio.Task[None] | None = None
        self._inbox: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self._queued_bytes = 0
        self._is_read_paused = False
        self._is_writable = asyncio.Event()
        self._is_writable.set()
        self._frames_seen = 0
        self._pong_due: bytes | None = None
        self._messages = MessageAssembler(settings.max_message_bytes)
        self._keepalive: KeepAlive | None = None
        self._close_timer: asyncio.TimerHandle | None = None
        self._abandon_timer: asyncio.TimerHandle | None = None

    # The transport's callbacks

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin with a connection whose request head was just read."""
        # Not every event loop derives its transports from asyncio's.
        self.transport = cast(asyncio.Transport, transport)
        self._server_state.connections.add(self)  # type: ignore[arg-type]

    def data_received(self, data: bytes) -> None:
        """Drop what comes after the end."""

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
        self._is_writable.clear()

    def resume_writing(self) -> None:
        """Let senders go on."""
        self._is_writable.set()
        if self._pong_due is not None and self._phase is Phase.OPEN and self._ws is not None:
            self._ws.send_pong(self._pong_due)
        self._pong_due = None

    def abort(self) -> None:
        """Drop the connection, with all that was not sent."""
        self.transport.abort()

    def open(self, key: bytes) -> None:
        """Start reading frames; the handshake's answer has been written."""
        self._parser, self._ws = start_parser(
            self.transport,
            self,
            key,
            max_frame_bytes=self._settings.max_message_bytes,
            on_failure=self._parser_failed,
        )
        self.transport.set_protocol(self._parser)
        self._phase = Phase.OPEN
        self.transport.resume_reading()
        self._keepalive = KeepAlive(
            self._loop,
            self._settings.keepalive_interval_s,
            ping=self._ping,
            seen=self._seen,
            on_dead=self._peer_is_dead,
        )

    # Frames in

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        """Take one frame."""
        self._frames_seen += 1
        if self._phase is not Phase.OPEN:
            if frame.msg_type is _CLOSE and self._phase is Phase.CLOSING:
                self.transport.close()
            return
        try:
            self._take_frame(frame)
        except FrameError as error:
            self._fail(error.code, error.reason)
        except UnicodeDecodeError:
            self._fail(CloseCode.INVALID_PAYLOAD, "the text is not UTF-8")

    def _take_frame(self, frame: WSFrame) -> None:
        if frame.rsv1 or frame.rsv2 or frame.rsv3:
            raise FrameError(CloseCode.PROTOCOL_ERROR, "a reserved bit is set")
        kind = frame.msg_type
        if kind is _TEXT or kind is _BINARY:
            if not frame.fin or self._messages.is_midway:
                self._messages.begin(kind.value, frame.get_payload_as_bytes())
            elif kind is _TEXT:
                text = frame.get_payload_as_utf8_text()
                self._deliver({"type": "websocket.receive", "text": text}, len(text))
            else:
                data = frame.get_payload_as_bytes()
                self._deliver({"type": "websocket.receive", "bytes": data}, len(data))
        elif kind is _CONTINUATION:
            message = self._messages.proceed(frame.get_payload_as_bytes(), is_last=bool(frame.fin))
            if message is not None:
                key = "text" if isinstance(message, str) else "bytes"
                self._deliver({"type": "websocket.receive", key: message}, len(message))
        elif kind is _PING:
            self._pong(frame.get_payload_as_bytes())
        elif kind is _CLOSE:
            self._client_closed(frame.get_payload_as_bytes())

    def _deliver(self, message: dict[str, Any], size: int) -> None:
        self._inbox.put_nowait(message)
        self._queued_bytes += size + MESSAGE_OVERHEAD_BYTES
        # Pings and closes behind this point aren't seen until the handler catches up: the
        # alternative is to take in without end what nobody consumes.
        if self._queued_bytes > self._settings.max_queued_bytes and not self._is_read_paused:
            self._is_read_paused = True
            self.transport.pause_reading()

    def _pong(self, payload: bytes) -> None:
        assert self._ws is not None
        if self._is_writable.is_set():
            self._ws.send_pong(payload)
        else:
            # RFC 6455 section 5.5.3 lets us answer the latest ping only. A peer that pings
            # and doesn't read would otherwise fill our memory with pongs.
            self._pong_due = payload

    def _client_closed(self, payload: bytes) -> None:
        code = check_close_payload(payload)
        self.transport.write(_EMPTY_CLOSE if code == CloseCode.NO_STATUS else encode_close(code))
        reason = payload[2:].decode()
        self._end(code, reason, ClosedBy.CLIENT)
        self._watch_handler()
        self.transport.close()

    # The end

    def _close(self, code: int, reason: str, closed_by: ClosedBy) -> None:
        """Send a close frame, and wait for the peer's for a bounded time."""
        self.transport.write(encode_close(code, reason))
        self._end(code, reason, closed_by)
        if self._is_read_paused:
            self._is_read_paused = False
            self.transport.resume_reading()

    def _fail(self, code: int, reason: str) -> None:
        """End a connection whose peer broke the rules (RFC 6455 section 7.1.7)."""
        self.transport.write(encode_close(code, reason))
        self._end(code, reason, ClosedBy.PROTOCOL)
        self._watch_handler()
        # Closing a socket with unread data in it resets the connection, and the reset may
        # overtake the close frame. So only our half is closed, and the rest read and dropped.
        self.transport.set_protocol(self)
        if self._is_read_paused:
            self._is_read_paused = False
            self.transport.resume_reading()
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
        self.transport.set_protocol(self)
        if self._phase is Phase.OPEN:
            found = self._ws.close_handshake.sent
            assert found is not None
            self._fail(cast(int, found.code), found.reason)

    def _end(self, code: int, reason: str, closed_by: ClosedBy) -> None:
        self._phase = Phase.CLOSING
        self._ending.settle(code, closed_by)
        self._is_writable.set()
        self._inbox.put_nowait({"type": "websocket.disconnect", "code": code, "reason": reason})
        if self._keepalive is not None:
            self._keepalive.stop()
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

    def _handler_noticed(self) -> None:
        if self._abandon_timer is not None:
            self._abandon_timer.cancel()
            self._abandon_timer = None

    def _abandon(self) -> None:
        if self._task is not None and not self._task.done():
            self._ending.is_abandoned = True
            self._task.cancel("the client has left")

    def _peer_is_dead(self) -> None:
        seconds = self._settings.keepalive_interval_s
        self._close(
            CloseCode.GOING_AWAY,
            f"no pong within {seconds:g} s (ws_keepalive_interval_s)",
            ClosedBy.KEEPALIVE,
        )
        self._watch_handler()

    def _seen(self) -> object:
        if self._is_read_paused or self._parser is None:
            return None
        # Free room in the parser's buffer changes with every part of a frame that comes in.
        return self._frames_seen, len(self._parser.get_buffer(-1))

    def _ping(self) -> None:
        if self._ws is not None and self._is_writable.is_set():
            self._ws.send_ping()
