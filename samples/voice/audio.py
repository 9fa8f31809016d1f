"""Sound as numbers: changing the sample rate, trimming silence, samples to bytes.

The only module of the conversation that needs numpy, which the engines need anyway.
"""

import numpy as np
from numpy.typing import NDArray

Samples = NDArray[np.float32]

_TAPS = 48
_CUTOFF_HZ = 7_200
_KEPT_LEAD_S = 0.02
_KEPT_TAIL_S = 0.15
_SILENCE_OF_PEAK = 0.01


def _low_pass() -> Samples:
    """Return a windowed-sinc filter at 48 kHz, the rate both 24 and 16 kHz divide."""
    position = np.arange(_TAPS) - (_TAPS - 1) / 2
    taps = np.sinc(2 * _CUTOFF_HZ / 48_000 * position) * np.hamming(_TAPS)
    # Two of three output samples fall between input samples: each phase must sum to one.
    return np.asarray(2 * taps / taps.sum(), np.float32)


class Downsampler:
    """Turns a stream of 24 kHz PCM into 16 kHz PCM, however it is cut into pieces.

    Sound is doubled to 48 kHz, filtered, and every third sample is kept; only the samples that are
    kept are worked out.
    """

    def __init__(self) -> None:
        taps = _low_pass()
        # Each output needs either the odd or the even taps, because the others meet the zeros
        # that doubling put in. Reversed, so that a dot product is a convolution.
        self._phases = (taps[1::2][::-1], taps[0::2][::-1])
        self._width = _TAPS // 2
        self._input: Samples = np.zeros(self._width - 1, np.float32)

    def convert(self, pcm: bytes) -> bytes:
        """Return the next piece. It may be a sample longer or shorter than two thirds."""
        self._input = np.concatenate([self._input, np.frombuffer(pcm, "<i2").astype(np.float32)])
        # Three samples in make two samples out.
        count = (len(self._input) - self._width + 1) // 3
        if count <= 0:
            return b""
        windows = np.lib.stride_tricks.sliding_window_view(self._input, self._width)
        output = np.empty(2 * count, np.float32)
        output[0::2] = windows[0 : 3 * count : 3] @ self._phases[1]
        output[1::2] = windows[1 : 3 * count : 3] @ self._phases[0]
        self._input = self._input[3 * count :]
        return to_pcm(output / np.float32(32_768))


def to_pcm(samples: Samples) -> bytes:
    """Return samples of -1 to 1 as 16-bit PCM; what is louder is cut off."""
    scaled = np.rint(samples * 32_768)
    return np.clip(scaled, -32_768, 32_767).astype("<i2").tobytes()


def to_samples(pcm: bytes) -> Samples:
    """Return 16-bit PCM as samples of -1 to 1."""
    return np.frombuffer(pcm, "<i2").astype(np.float32) / np.float32(32_768)


def trim(samples: Samples, rate: int) -> Samples:
    """Return the samples without the silence around them, but for a short rest.

    Silence before the first word is time the caller waits; the rest after the last keeps one
    sentence apart from the next.
    """
    loudness = np.abs(samples)
    if not len(samples) or not (peak := float(loudness.max())):
        return samples[:0]
    loud = np.flatnonzero(loudness > peak * _SILENCE_OF_PEAK)
    start = max(0, int(loud[0]) - int(_KEPT_LEAD_S * rate))
    return samples[start : int(loud[-1]) + 1 + int(_KEPT_TAIL_S * rate)]
