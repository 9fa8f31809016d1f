"""The client's end of a WebSocket: answers pings and closes, and puts messages together."""

import base64
import secrets
from collections import deque
from typing import Final

from trunkline.protocol.close import CloseCode, CloseInfo
from trunkline.testing._frames import BrokenFrameError, Frame, FrameReader, Opcode, client_frame
from trunkline.testing._wire import Connection

_SWITCHING_PROTOCOLS: Final = 101
#: How much may wait for the test before nothing more is read from the agent.
_MAX_UNREAD_BYTES: Final = 16 * 1024 * 1024
#: What one unread message counts besides its payload.
_MESSAGE_OVERHEAD_BYTES: Final = 256


def handshake_headers() -> list[tuple[str, str]]:
    """Return the headers that ask for a WebSocket (RFC 6455 section 4.1)."""
    return [
        ("host", "agent"),
        ("upgrade", "websocket"),
        ("connection", "Upgrade"),
        ("sec-websocket-version", "13"),
        ("sec-websocket-key", base64.b64encode(secrets.token_bytes(16)).decode()),
    ]


class WebSocketWire(Connection):
    """A WebSocket connection to the agent, from its handshake on.

    Attributes:
        answers_pings: Whether pings are answered.
        unread: Messages the test hasn't taken.
        close_info: What the first close frame said, the agent's or ours; None before.
        is_ours: Whether that was ours.
        pings: How many pings have come.
        pongs: The payloads of the pongs that have come.
        received: How many messages have come.
        last: The latest of them, None before the first.
    """

    def __init__(self, *, answers_pings: bool) -> None:
        super().__init__()
        self.answers_pings = answers_pings
        self.unread: deque[str | bytes] = deque()
        self.close_info: CloseInfo | None = None
        self.is_ours = False
        self.fault = ""
        self.pings = 0
        self.pongs: list[bytes] = []
        self.received = 0
        self.last: str | bytes | None = None
        self._frames = FrameReader()
        self._kind = Opcode.BINARY
        self._parts = bytearray()
        self._unread_bytes = 0
        self._is_full = False
        self._is_paused = False

    @property
    def is_open(self) -> bool:
        """Whether messages may go both ways."""
        return self._is_upgraded and self.close_info is None and not self.is_over

    @property
    def has_ended(self) -> bool:
        """Whether a close frame has come or gone, or the connection is lost."""
        return self.close_info is not None or self.is_over

    @property
    def is_paused(self) -> bool:
        """Whether the test has stopped reading."""
        return self._is_paused

    @property
    def _is_upgraded(self) -> bool:
        return self.answer.status_code == _SWITCHING_PROTOCOLS

    def data_received(self, data: bytes) -> None:
        """Take the answer to the handshake, and frames after it."""
        if not self._is_upgraded:
            super().data_received(data)
            data = self.answer.rest
            if not self._is_upgraded:
                return
        try:
            for frame in self._frames.feed(data):
                self._take(frame)
        except BrokenFrameError as error:
            self.fault = str(error)
            self.close(CloseCode.PROTOCOL_ERROR, self.fault)

    def send(self, opcode: Opcode, payload: bytes) -> None:
        """Send one frame."""
        if not self.transport.is_closing():
            self.transport.write(client_frame(opcode, payload))

    def close(self, code: int, reason: str) -> None:
        """Send a close frame, unless one has come or gone."""
        if self.close_info is None:
            self.is_ours = True
            self.close_info = CloseInfo(code, reason)
            payload = b"" if code == CloseCode.NO_STATUS else code.to_bytes(2) + reason.encode()
            self.send(Opcode.CLOSE, payload)

    def take(self) -> str | bytes:
        """Return the message that came first, and read on if reading has stopped for it."""
        message = self.unread.popleft()
        self._unread_bytes -= _cost(message)
        if self._is_full and self._unread_bytes < _MAX_UNREAD_BYTES // 2:
            self._is_full = False
            self._set_reading()
        return message

    def pause(self, *, is_paused: bool) -> None:
        """Stop reading, or go on."""
        self._is_paused = is_paused
        self._set_reading()

    def _take(self, frame: Frame) -> None:
        match frame.opcode:
            case Opcode.PING:
                self.pings += 1
                if self.answers_pings:
                    self.send(Opcode.PONG, frame.payload)
            case Opcode.PONG:
                self.pongs.append(frame.payload)
            case Opcode.CLOSE:
                self._closed(CloseInfo.from_payload(frame.payload), frame.payload)
            case Opcode.CONTINUATION:
                self._take_data(frame)
            case Opcode.TEXT | Opcode.BINARY:
                self._kind = frame.opcode
                self._take_data(frame)

    def _take_data(self, frame: Frame) -> None:
        self._parts += frame.payload
        if not frame.is_last:
            return
        data, self._parts = bytes(self._parts), bytearray()
        if self.close_info is not None and not self.is_ours:
            raise BrokenFrameError("a message came after the close frame")
        message = data.decode() if self._kind is Opcode.TEXT else data
        self.unread.append(message)
        self.received += 1
        self.last = message
        self._unread_bytes += _cost(message)
        if self._unread_bytes > _MAX_UNREAD_BYTES:
            self._is_full = True
            self._set_reading()

    def _closed(self, info: CloseInfo, payload: bytes) -> None:
        if self.close_info is None:
            self.close_info = info
            # RFC 6455 section 5.5.1: the same code goes back, and the server ends the connection.
            self.send(Opcode.CLOSE, payload[:2])

    def _set_reading(self) -> None:
        if self.transport.is_closing():
            return
        wants = not (self._is_paused or self._is_full)
        if wants and not self.transport.is_reading():
            self.transport.resume_reading()
        elif not wants and self.transport.is_reading():
            self.transport.pause_reading()


def _cost(message: str | bytes) -> int:
    return len(message) + _MESSAGE_OVERHEAD_BYTES
