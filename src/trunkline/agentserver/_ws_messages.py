"""From frames to messages: fragments, UTF-8 and the message limit (RFC 6455 section 5.4)."""

import codecs
from typing import Final

from trunkline.protocol.close import CloseCode

CONTINUATION: Final = 0x0
TEXT: Final = 0x1
BINARY: Final = 0x2

_utf8_decoder = codecs.getincrementaldecoder("utf-8")


class FrameError(Exception):
    """The peer broke the protocol, or a limit. ``code`` is what to close with."""

    def __init__(self, code: CloseCode, reason: str) -> None:
        super().__init__(reason)
        self.code = code
        self.reason = reason


class MessageAssembler:
    """Puts fragmented messages together."""

    __slots__ = ("_decoder", "_kind", "_max_bytes", "_parts", "size_bytes")

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._kind = CONTINUATION
        #: Of the message that was last whole.
        self.size_bytes = 0
        self._parts = bytearray()
        self._decoder: codecs.IncrementalDecoder | None = None

    @property
    def is_midway(self) -> bool:
        """Whether a message was begun and not ended."""
        return self._kind != CONTINUATION

    def begin(self, kind: int, payload: bytes) -> None:
        """Take the first fragment of a text or binary message.

        Raises:
            FrameError: If another message isn't complete, or the text isn't UTF-8.
        """
        if self.is_midway:
            raise FrameError(CloseCode.PROTOCOL_ERROR, "a new message began inside another one")
        self._kind = kind
        self._decoder = _utf8_decoder() if kind == TEXT else None
        self._take(payload, is_last=False)

    def proceed(self, payload: bytes, *, is_last: bool) -> str | bytes | None:
        """Take a further fragment, and return the message once it is whole.

        Raises:
            FrameError: If no message was begun, it got too long, or its text isn't UTF-8.
        """
        if not self.is_midway:
            raise FrameError(CloseCode.PROTOCOL_ERROR, "a continuation without a beginning")
        self._take(payload, is_last=is_last)
        if not is_last:
            return None
        data = bytes(self._parts)
        self.size_bytes = len(data)
        kind = self._kind
        self._parts = bytearray()
        self._kind = CONTINUATION
        self._decoder = None
        return data.decode() if kind == TEXT else data

    def _take(self, payload: bytes, *, is_last: bool) -> None:
        if len(self._parts) + len(payload) > self._max_bytes:
            raise FrameError(
                CloseCode.MESSAGE_TOO_BIG,
                f"message over {self._max_bytes} bytes (ws_max_message_bytes)",
            )
        # A bad character ends the connection with the fragment it is in, not with the message:
        # nobody should have to send the rest of something that is already wrong.
        if self._decoder is not None:
            try:
                self._decoder.decode(payload, is_last)
            except UnicodeDecodeError:
                raise FrameError(CloseCode.INVALID_PAYLOAD, "the text is not UTF-8") from None
        self._parts += payload


def check_close_payload(payload: bytes) -> int:
    """Return the code in a received close frame; 1005 stands for none.

    Raises:
        FrameError: If a peer may not send that (RFC 6455 sections 5.5.1 and 7.4).
    """
    if not payload:
        return CloseCode.NO_STATUS
    if len(payload) == 1:
        raise FrameError(CloseCode.PROTOCOL_ERROR, "a close code has two bytes")
    code = int.from_bytes(payload[:2])
    is_valid = (1000 <= code <= 1014 and code not in (1004, 1005, 1006)) or 3000 <= code <= 4999
    if not is_valid:
        raise FrameError(CloseCode.PROTOCOL_ERROR, f"{code} may not be sent as a close code")
    try:
        payload[2:].decode()
    except UnicodeDecodeError:
        raise FrameError(CloseCode.INVALID_PAYLOAD, "the close reason is not UTF-8") from None
    return code
