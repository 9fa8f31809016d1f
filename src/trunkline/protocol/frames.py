"""Follows WebSocket frame headers in a stream of bytes (RFC 6455 section 5.2).

The scanner never looks at a payload, except a close frame's, and never copies one: its cost
is per frame and per read, not per byte. It knows where frames end, which is all a relay
needs to count frames, hold a frame limit, and put a close frame of its own between frames.
"""

from trunkline.protocol.close import CloseInfo

_OPCODE = 0x0F
_CONTROL = 0x8
_CLOSE = 0x8
_MASKED = 0x80
_LENGTH = 0x7F
_MAX_CONTROL_PAYLOAD = 125


class FrameScanner:
    """One direction of one connection.

    Attributes:
        frames: How many frame headers were let through, control frames included.
        controls: How many of those were control frames.
        close: What the close frame said, once one has been read whole.
        oversize_bytes: The announced payload of the frame that was refused, else 0.
    """

    __slots__ = (
        "_close_payload",
        "_head",
        "_is_stopped",
        "_is_stopping",
        "_left",
        "close",
        "controls",
        "frames",
        "max_frame_bytes",
        "oversize_bytes",
    )

    def __init__(self, max_frame_bytes: int) -> None:
        self.max_frame_bytes = max_frame_bytes
        self.frames = 0
        self.controls = 0
        self.close: CloseInfo | None = None
        self.oversize_bytes = 0
        self._left = 0
        self._head = b""
        self._close_payload: bytearray | None = None
        self._is_stopping = False
        self._is_stopped = False

    @property
    def is_between_frames(self) -> bool:
        """Whether all that was let through is whole frames, so that one may be put after it."""
        return self._is_stopped or self._left == 0

    @property
    def is_special(self) -> bool:
        """Whether it is stopping, or has seen anything of a close frame."""
        return bool(self._is_stopping or self.close or self._close_payload)

    @property
    def is_plain(self) -> bool:
        """Whether nothing but whole headers of ordinary frames was seen so far."""
        return not (self._head or self.is_special)

    def take_rest(self) -> bytes:
        """Return the beginning of a header that was kept back, and forget it."""
        rest, self._head = self._head, b""
        return rest

    @property
    def left(self) -> int:
        """Bytes that the frame under way still has: payload, and its mask before that."""
        return self._left

    def skip(self, frames: int, left: int) -> None:
        """Go on where somebody else stopped who followed the stream for a while.

        Args:
            frames: How many frame headers went through so far, all told.
            left: Bytes that the frame under way still has.
        """
        self.frames = frames
        self._left = left

    def stop(self) -> None:
        """Let nothing through any more but the rest of a frame that is under way.

        What comes after it is still followed, so that a close frame is seen.
        """
        self._is_stopping = True
        if self._left == 0:
            self._is_stopped = True

    # One loop on purpose: a call per frame would cost more than the scan itself.
    def feed(self, data: bytes) -> bytes:  # noqa: C901, PLR0912, PLR0915
        """Take bytes as read and return those that may be sent on.

        Almost always that is ``data`` itself. A header cut off by the end of the read is kept
        back (at most 9 bytes) until the rest of it is there, so that a frame is either
        announced to the other side in full knowledge of its length, or not at all. At a
        frame over the limit :attr:`oversize_bytes` is set, everything before it is returned,
        and the scanner stops.
        """
        if self._head:
            data = self._head + data
            self._head = b""
        size = len(data)
        # Most reads are one whole frame: that needs neither the loop nor its state.
        if self._left == 0 and size > 2 and not self._is_stopping and data[0] & _OPCODE != _CLOSE:
            second = data[1]
            length = second & _LENGTH
            header = 2
            if length == 126 and size > 4:
                length = data[2] << 8 | data[3]
                header = 4
            if second & _MASKED:
                header += 4
            if header + length == size and length <= self.max_frame_bytes and length != 127:
                self.frames += 1
                if data[0] & _CONTROL:
                    self.controls += 1
                return data
        position = 0
        # Where letting through ends, or -1 while it doesn't.
        cut = 0 if self._is_stopped else -1
        left = self._left
        while True:
            if left:
                if self._close_payload is not None:
                    self._take_close(data[position : position + left], left)
                position += left
                if position > size:
                    self._left = position - size
                    return data if cut < 0 else data[:cut]
            self._left = 0
            if self._is_stopping and cut < 0:
                self._is_stopped = True
                cut = position
            if position == size:
                return data if cut < 0 else data[:cut]
            # The second byte says how long the header is, so one lone byte has to wait too.
            header, second, length = 2, 0, 0
            if size - position >= header:
                second = data[position + 1]
                length = second & _LENGTH
                if length == 126:
                    header = 4
                elif length == 127:
                    header = 10
            if size - position < header:
                self._head = data[position:]
                return data[: position if cut < 0 else cut]
            if header != 2:
                length = int.from_bytes(data[position + 2 : position + header])
            if cut < 0:
                if length > self.max_frame_bytes:
                    self.oversize_bytes = length
                    self._is_stopping = self._is_stopped = True
                    cut = position
                else:
                    self.frames += 1
                    if data[position] & _CONTROL:
                        self.controls += 1
            left = length
            if second & _MASKED:
                left += 4
            if data[position] & _OPCODE == _CLOSE and self.close is None:
                self._open_close(second, length)
            position += header

    def _open_close(self, second: int, length: int) -> None:
        if not second & _MASKED and length == 0:
            self.close = CloseInfo.from_payload(b"")
        elif length <= _MAX_CONTROL_PAYLOAD:
            # The first byte remembers whether a masking key comes before the payload.
            self._close_payload = bytearray((second & _MASKED,))

    def _take_close(self, part: bytes, left: int) -> None:
        assert self._close_payload is not None
        self._close_payload += part
        if len(part) < left:
            return
        masked, payload = self._close_payload[0], bytes(self._close_payload[1:])
        if masked:
            mask, payload = payload[:4], payload[4:]
            payload = bytes(byte ^ mask[i & 3] for i, byte in enumerate(payload))
        self.close = CloseInfo.from_payload(payload)
        self._close_payload = None
