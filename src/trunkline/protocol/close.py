"""WebSocket close codes, in numbers, in words, and as frames (RFC 6455 section 5.5.1)."""

from dataclasses import dataclass
from enum import IntEnum

_CLOSE_OPCODE_FIN = 0x88
_MASK_BIT = 0x80
MAX_REASON_BYTES = 123
#: Why a connection is said to have ended whose process died with all that it knew of it.
WORKER_ENDED = "the gateway's worker that relayed it ended; what went either way isn't known"


class CloseCode(IntEnum):
    """The codes trunkline sends or explains (RFC 6455 section 7.4.1 and the IANA registry)."""

    NORMAL = 1000
    GOING_AWAY = 1001
    PROTOCOL_ERROR = 1002
    UNSUPPORTED_DATA = 1003
    NO_STATUS = 1005
    ABNORMAL = 1006
    INVALID_PAYLOAD = 1007
    POLICY_VIOLATION = 1008
    MESSAGE_TOO_BIG = 1009
    INTERNAL_ERROR = 1011
    SERVICE_RESTART = 1012
    TRY_AGAIN_LATER = 1013
    BAD_GATEWAY = 1014


WORDS = {
    CloseCode.NORMAL: "the conversation ended normally",
    CloseCode.GOING_AWAY: "the platform is going away (drain, restart or connection age); "
    "connect again with the same session id",
    CloseCode.PROTOCOL_ERROR: "one side broke the WebSocket protocol",
    CloseCode.UNSUPPORTED_DATA: "one side got a kind of data it doesn't take",
    CloseCode.NO_STATUS: "closed without a code",
    CloseCode.ABNORMAL: "the TCP connection ended without a close frame",
    CloseCode.INVALID_PAYLOAD: "a text message was not UTF-8",
    CloseCode.POLICY_VIOLATION: "a policy was violated",
    CloseCode.MESSAGE_TOO_BIG: "a frame was over the frame limit",
    CloseCode.INTERNAL_ERROR: "the agent failed; `trunkline monitor` shows why",
    CloseCode.SERVICE_RESTART: "the service is restarting; connect again",
    CloseCode.TRY_AGAIN_LATER: "too busy or too slow; try again later",
    CloseCode.BAD_GATEWAY: "the gateway got a bad answer from the agent",
}

#: Those below 3000 that stand in a frame: 1005, 1006 and 1015 say that there was none.
_SENDABLE = frozenset({*range(1000, 1004), *range(1007, 1015)})


def explain(code: int) -> str:
    """Say in words what a close code means."""
    if code in WORDS:
        return WORDS[CloseCode(code)]
    if 4000 <= code <= 4999:
        return "the application's own code"
    return "a code without a meaning known here"


def answer_to(code: int) -> int:
    """Return the code to answer a close frame with: its own, if an endpoint may send that.

    Args:
        code: The one that came, or 1005 if none did.
    """
    if code == CloseCode.NO_STATUS:
        return CloseCode.NORMAL
    # RFC 6455 section 7.4, and the registry it begins.
    is_sendable = code in _SENDABLE or 3000 <= code <= 4999
    return code if is_sendable else CloseCode.PROTOCOL_ERROR


def encode_close(code: int, reason: str = "", *, mask: bytes | None = None) -> bytes:
    """Return one whole close frame.

    Args:
        code: The status code to send.
        reason: Text for people; cut to 123 bytes of UTF-8 at a character's edge.
        mask: Four bytes when a client would send the frame (RFC 6455 section 5.3), else None.
    """
    text = reason.encode()[:MAX_REASON_BYTES].decode(errors="ignore").encode()
    payload = int(code).to_bytes(2) + text
    if mask is None:
        return bytes((_CLOSE_OPCODE_FIN, len(payload))) + payload
    masked = bytes(byte ^ mask[i & 3] for i, byte in enumerate(payload))
    return bytes((_CLOSE_OPCODE_FIN, _MASK_BIT | len(payload))) + mask + masked


@dataclass(frozen=True, slots=True)
class CloseInfo:
    """What a received close frame said."""

    code: int
    reason: str

    @classmethod
    def from_payload(cls, payload: bytes) -> "CloseInfo":
        """Read an unmasked close payload; an empty one is 1005 (RFC 6455 section 7.1.5)."""
        if len(payload) < 2:
            return cls(CloseCode.NO_STATUS, "")
        return cls(int.from_bytes(payload[:2]), payload[2:].decode(errors="replace"))
