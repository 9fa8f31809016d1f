"""The messages between a client and the agent: what they look like, and what is refused.

Up: binary messages of 16-bit PCM (24 kHz, mono, little-endian) and ``{"type":"text","content"}``.
Down: binary messages of an 8-byte header and 16-bit PCM, and events as JSON text.
"""

import json
import struct
from typing import Any

SAMPLE_RATE = 24_000
CHANNELS = 1
BYTES_PER_SAMPLE = 2
BYTES_PER_S = SAMPLE_RATE * CHANNELS * BYTES_PER_SAMPLE

MAX_AUDIO_BYTES = 64 * 1024
"""The largest binary message taken, 1.4 s of sound. Voice activity is worked out between two
receives, so this bounds how long one message can keep the others waiting."""
MAX_TEXT_CHARS = 2_000
"""The longest text message taken, JSON included: ten minutes of speech at most."""

_HEADER = struct.Struct("<II")


class BadMessageError(Exception):
    """A message the agent can't take. It is answered with an ``error`` event; the call goes on."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


def audio_message(pcm: bytes) -> bytes:
    """Return the binary message that carries ``pcm`` to the client."""
    return _HEADER.pack(SAMPLE_RATE, CHANNELS) + pcm


def event(kind: str, **fields: Any) -> str:
    """Return the text message of one event."""
    return json.dumps({"type": kind, **fields}, ensure_ascii=False, separators=(",", ":"))


def check_audio(pcm: bytes) -> None:
    """Raise if a binary message isn't whole samples, or is too long.

    Raises:
        BadMessageError: With the code ``odd_audio`` or ``audio_too_long``.
    """
    if len(pcm) % BYTES_PER_SAMPLE:
        raise BadMessageError(
            "odd_audio", f"audio is 16-bit samples, but {len(pcm)} bytes came; none were used"
        )
    if len(pcm) > MAX_AUDIO_BYTES:
        raise BadMessageError(
            "audio_too_long",
            f"a binary message may have {MAX_AUDIO_BYTES} bytes, this one had {len(pcm)}",
        )


def typed_words(message: str) -> str:
    """Return what the user typed, out of a text message.

    Raises:
        BadMessageError: With the code ``text_too_long``, ``invalid_json``, ``unknown_type`` or
            ``invalid_content``.
    """
    if len(message) > MAX_TEXT_CHARS:
        raise BadMessageError(
            "text_too_long",
            f"a text message may have {MAX_TEXT_CHARS} characters, this one had {len(message)}",
        )
    try:
        decoded = json.loads(message)
    except (ValueError, RecursionError):
        raise BadMessageError("invalid_json", "a text message is one JSON object") from None
    if not isinstance(decoded, dict):
        raise BadMessageError("invalid_json", "a text message is one JSON object")
    if decoded.get("type") != "text":
        raise BadMessageError("unknown_type", 'the only message type is "text"')
    content = decoded.get("content")
    if not isinstance(content, str) or not content.strip():
        raise BadMessageError("invalid_content", '"content" is a string that is not empty')
    return content.strip()
