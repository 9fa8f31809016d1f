"""Messages of a WebSocket on the wire: frames in, frames out."""

import asyncio
from typing import Final

from picows import WSFrame, WSMsgType, WSTransport

from trunkline.agentserver._ending import ClosedBy
from trunkline.agentserver._ws_keepalive import KeepAlive
from trunkline.agentserver._ws_link import SENDS_PER_TURN, Link, Phase
from trunkline.agentserver._ws_messages import FrameError, MessageAssembler, check_close_payload
from trunkline.agentserver._ws_parser import start_parser
from trunkline.protocol.close import CloseCode, encode_close

_TEXT: Final = WSMsgType.TEXT
_BINARY: Final = WSMsgType.BINARY
_CONTINUATION: Final = WSMsgType.CONTINUATION
_PING: Final = WSMsgType.PING
_CLOSE: Final = WSMsgType.CLOSE

_EMPTY_CLOSE: Final = b"\x88\x00"
#: The parser's sending side copies a message up to here into one piece with its header.
_COPIED_BYTES: Final = 8192
#: What it needs before a longer one for that.
_HEADER_ROOM: Final = bytes(14)
#: A parser that took a longer frame is put away at the first occasion, for the room it holds.
_ROOMY_BYTES: Final = 64 * 1024
#: First byte of a whole pong, and what comes before a short payload.
_PONG_HEADER: Final = 0x8A
_MASKED_HEADER_BYTES: Final = 6
_OPEN: Final = Phase.OPEN


class WireConnection(Link):
    """What a WebSocket connection does without its application."""

    __slots__ = ()

    def open(self) -> None:
        """Start reading frames; the handshake's answer has been written."""
        self._phase = _OPEN
        self._doze()
        self.transport.resume_reading()
        if self._settings.keepalive_interval_s > 0:
            self._keepalive = KeepAlive(self._loop, self._settings.keepalive_interval_s, self)

    # A parser is most of what a connection holds, and while nothing is said there is no need
    # for one. Nothing of a frame may have come when it is put away.

    def _doze(self) -> None:
        self._parser = self._ws = None
        self._can_send = self._is_roomy = False
        self._is_dozing = True
        self._take_over(self)

    def _wake(self) -> None:
        self._is_dozing = False
        self._parser, self._ws = start_parser(
            self.transport,
            self,
            max_frame_bytes=self._settings.max_message_bytes,
            on_failure=self._parser_failed,
        )
        self._can_send = self._phase is _OPEN and not self._is_congested
        self._take_over(self._parser)

    def data_received(self, data: bytes) -> None:
        """Take what arrives when there is no parser: drop it after the end."""
        if not self._is_dozing:
            return
        size = len(data)
        # A read may end after a frame's first byte.
        if (
            size >= _MASKED_HEADER_BYTES
            and data[0] == _PONG_HEADER
            and size == _MASKED_HEADER_BYTES + (data[1] & 0x7F)
        ):
            self._other_frames += 1
            return
        rest = memoryview(data)
        while rest:
            if self._is_dozing:
                self._wake()
            parser = self._parser
            if parser is None:
                return
            room = parser.get_buffer(-1)
            size = min(len(room), len(rest))
            room[:size] = rest[:size]
            parser.buffer_updated(size)
            rest = rest[size:]

    # Frames in

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        """Take one frame."""
        kind = frame.msg_type
        # A whole message in one frame, as nearly all are.
        if (
            (kind is _BINARY or kind is _TEXT)
            and self._phase is _OPEN
            and self._messages is None
            and frame.fin
            and not (frame.rsv1 or frame.rsv2 or frame.rsv3)
        ):
            ending = self._ending
            if kind is _BINARY:
                data = frame.get_payload_as_bytes()
                size = len(data)
                self.inbox.put(data)
            else:
                try:
                    self.inbox.put(frame.get_payload_as_utf8_text())
                except UnicodeDecodeError:
                    self._fail(CloseCode.INVALID_PAYLOAD, "the text is not UTF-8")
                    return
                size = frame.payload_size
            ending.received_messages += 1
            ending.received_bytes += size
            if size > _ROOMY_BYTES:
                self._is_roomy = True
            return
        self._other_frames += 1
        if self._phase is not _OPEN:
            if kind is _CLOSE and self._phase is Phase.CLOSING:
                self.transport.close()
            return
        try:
            self._take_frame(kind, frame)
        except FrameError as error:
            self._fail(error.code, error.reason)

    def _take_frame(self, kind: WSMsgType, frame: WSFrame) -> None:
        if frame.rsv1 or frame.rsv2 or frame.rsv3:
            raise FrameError(CloseCode.PROTOCOL_ERROR, "a reserved bit is set")
        payload = frame.get_payload_as_bytes()
        if kind is _TEXT or kind is _BINARY:
            if self._messages is None:
                self._messages = MessageAssembler(self._settings.max_message_bytes)
            self._messages.begin(kind.value, payload)
        elif kind is _CONTINUATION:
            if self._messages is None:
                raise FrameError(CloseCode.PROTOCOL_ERROR, "a continuation without a beginning")
            message = self._messages.proceed(payload, is_last=bool(frame.fin))
            if message is not None:
                self._ending.received_messages += 1
                self._ending.received_bytes += self._messages.size_bytes
                self._messages = None
                self.inbox.put(message)
        elif kind is _PING:
            self._pong(payload)
        elif kind is _CLOSE:
            self._client_closed(payload)
        elif not frame.tail_size:
            # A pong, and nothing behind it. It comes once per ping of ours.
            self._ponder_rest()
        if len(payload) > _ROOMY_BYTES:
            self._is_roomy = True

    def _ponder_rest(self) -> None:
        said = self._ending.received_messages + self._ending.sent_messages
        if (
            (self._is_roomy or said == self._said_at_pong)
            and self._messages is None
            and not self.inbox.is_reading_paused
            and not self._is_congested
        ):
            self._doze()
        self._said_at_pong = said

    def _pong(self, payload: bytes) -> None:
        assert self._ws is not None
        if self._is_congested:
            # RFC 6455 section 5.5.3 lets us answer the latest ping only. A peer that pings
            # and doesn't read would otherwise fill our memory with pongs.
            self._pong_due = payload
        else:
            self._ws.send_pong(payload)

    def _client_closed(self, payload: bytes) -> None:
        code = check_close_payload(payload)
        self.transport.write(_EMPTY_CLOSE if code == CloseCode.NO_STATUS else encode_close(code))
        reason = payload[2:].decode()
        self._end(code, reason, ClosedBy.CLIENT)
        self._watch_handler()
        self.transport.close()

    # Messages out

    def send_now(self, kind: WSMsgType, payload: bytes | bytearray | memoryview | str) -> bool:
        """Send a message, unless that has to wait for something, or can't be done any more."""
        ending = self._ending
        sent = ending.sent_messages
        if not self._can_send or sent >= self._turn_ends_at:
            return False
        if type(payload) is not bytes:
            payload = payload.encode() if isinstance(payload, str) else bytes(payload)
        size = len(payload)
        assert self._ws is not None
        if size <= _COPIED_BYTES:
            self._ws.send(kind, payload)
        else:
            # One copy, and straight to the socket.
            buffer = bytearray(_HEADER_ROOM)
            buffer += payload
            self._ws.send_reuse_external_bytearray(kind, buffer, len(_HEADER_ROOM))
        ending.sent_messages = sent + 1
        ending.sent_bytes += size
        return True

    async def until_sendable(self) -> None:
        """Wait for whatever kept :meth:`send_now` from sending, unless that is the end."""
        if self._is_dozing and self._phase is _OPEN:
            self._wake()
        elif self._ending.sent_messages >= self._turn_ends_at:
            # While the peer reads as fast as we write nothing ever waits, and a loop of sends
            # would keep everybody else from running.
            self._turn_ends_at = self._ending.sent_messages + SENDS_PER_TURN
            await asyncio.sleep(0)
        elif self._is_congested and self._phase is _OPEN:
            sender: asyncio.Future[None] = self._loop.create_future()
            self._waiting_senders.append(sender)
            await sender
