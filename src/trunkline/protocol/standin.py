"""Answers a client's signs of life in the place of an agent that can't (RFC 6455 section 5.5)."""

from dataclasses import dataclass

_PING = 0x89
_PONG = 0x8A
_MASKED = 0x80
_LENGTH = 0x7F
_MASK_BYTES = 4
_MAX_CONTROL_PAYLOAD = 125
#: The answers to pings that the agent sent before it was frozen come soon, and are few. Whatever
#: comes after them answers nothing, and would fill the agent's socket in time.
MAX_PONGS = 16


@dataclass(frozen=True, slots=True)
class StoodIn:
    """What was done with the bytes that were received.

    Attributes:
        answers: Pongs, for the client.
        passed_on: Pongs of the client's, for the agent to find when it wakes.
        frames: How many frames were taken.
        size: How many bytes those were.
    """

    answers: bytes
    passed_on: bytes
    frames: int
    size: int


class StandIn:
    """Takes pings and pongs off the front of what a client sends.

    At the first byte of anything else, or of what isn't well formed, the agent is needed:
    :attr:`rest` is its to judge.
    """

    __slots__ = ("_pongs", "is_agent_needed", "rest")

    def __init__(self) -> None:
        self.rest = b""
        self.is_agent_needed = False
        self._pongs = 0

    def receive_data(self, data: bytes) -> StoodIn:
        """Take bytes as read; they begin where the last ones ended."""
        data = self.rest + data
        answers, passed_on, frames, at = bytearray(), bytearray(), 0, 0
        while at < len(data) and not self.is_agent_needed:
            size = _control_size(data, at)
            if size is None:
                break
            if size == 0:
                self.is_agent_needed = True
                break
            frame = data[at : at + size]
            if frame[0] == _PING:
                answers += _pong(frame)
            elif self._pongs < MAX_PONGS:
                self._pongs += 1
                passed_on += frame
            frames += 1
            at += size
        self.rest = data[at:]
        return StoodIn(bytes(answers), bytes(passed_on), frames, at)


def _control_size(data: bytes, at: int) -> int | None:
    """Return how long the ping or pong is; None if it isn't all there, 0 if it is neither."""
    if data[at] not in (_PING, _PONG):
        return 0
    if len(data) - at < 2:
        return None
    second = data[at + 1]
    length = second & _LENGTH
    if not second & _MASKED or length > _MAX_CONTROL_PAYLOAD:
        return 0
    size = 2 + _MASK_BYTES + length
    return size if len(data) - at >= size else None


def _pong(ping: bytes) -> bytes:
    mask, payload = ping[2 : 2 + _MASK_BYTES], ping[2 + _MASK_BYTES :]
    return bytes((_PONG, len(payload))) + bytes(
        byte ^ mask[i % _MASK_BYTES] for i, byte in enumerate(payload)
    )
