"""How much sound there is in some bytes, and how loud it is. No I/O."""

import array
import math
import re
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from operator import mul

_FORM = re.compile(r"(pcm16|mulaw)(?:[:@](\d+))?(?:[:x](\d+))?")
_FULL_SCALE = 32768.0
SILENCE_DBFS = -96.0
#: G.711's bias, and the sign bit of a byte, which is sent inverted.
_MULAW_BIAS, _SIGN = 0x84, 0x80


@dataclass(frozen=True, slots=True)
class AudioFormat:
    """What an agent's binary messages hold."""

    encoding: str = "pcm16"
    """``pcm16`` (little-endian) or ``mulaw``."""
    rate_hz: int = 24000
    channels: int = 1

    @classmethod
    def parse(cls, text: str) -> "AudioFormat":
        """Read ``pcm16``, ``pcm16:16000``, ``mulaw:8000``, ``pcm16:48000:2``.

        Raises:
            ValueError: If it is anything else.
        """
        match = _FORM.fullmatch(text)
        if match is None or match[2] == "0" or match[3] == "0":
            raise ValueError(f"{text!r} isn't a form of sound; write pcm16:24000 or mulaw:8000")
        default_hz = 24000 if match[1] == "pcm16" else 8000
        return cls(match[1], int(match[2] or default_hz), int(match[3] or 1))

    @property
    def bytes_per_second(self) -> int:
        """How many bytes a second takes."""
        return self.rate_hz * self.channels * (2 if self.encoding == "pcm16" else 1)


@dataclass(frozen=True, slots=True)
class Sound:
    """What is compared of some sound."""

    duration_s: float
    level_dbfs: float
    """Root mean square, in decibels below full scale."""


def measure(chunks: Iterable[bytes], form: AudioFormat) -> Sound:
    """Return how long and how loud some sound is; chunks may split samples."""
    data = b"".join(chunks)
    duration_s = len(data) / form.bytes_per_second
    if form.encoding == "mulaw":
        samples = array.array("h", (_MULAW[byte] for byte in data))
    else:
        samples = array.array("h", data[: len(data) - len(data) % 2])
        if sys.byteorder == "big":
            samples.byteswap()
    if not samples:
        return Sound(duration_s, SILENCE_DBFS)
    power = sum(map(mul, samples, samples)) / len(samples)
    level = 10 * math.log10(power / _FULL_SCALE**2) if power else SILENCE_DBFS
    return Sound(duration_s, max(level, SILENCE_DBFS))


def _mulaw_sample(byte: int) -> int:
    byte = ~byte & 0xFF
    magnitude = (((byte & 0x0F) << 3) + _MULAW_BIAS) << ((byte >> 4) & 0x07)
    return _MULAW_BIAS - magnitude if byte & _SIGN else magnitude - _MULAW_BIAS


_MULAW = tuple(_mulaw_sample(byte) for byte in range(256))
