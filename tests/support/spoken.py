"""Sentences in the voice of the voice sample, as a file that Chromium takes for a microphone."""

import sys
import wave
from array import array
from pathlib import Path

SAMPLE = Path(__file__).parents[2] / "samples" / "voice"
sys.path.insert(0, str(SAMPLE))

from caller.clips import RATE, Clip, synthesised  # noqa: E402 - its folder is on the path now


def clips_of(sentences: list[str], work_dir: Path) -> dict[str, Clip]:
    """Return what speaking the sentences sounds like; makes the speaker's environment first."""
    return {clip.words: clip for clip in synthesised(sentences, SAMPLE, work_dir)}


def pause(seconds: float) -> bytes:
    return bytes(2 * int(RATE * seconds))


def write_microphone(path: Path, *parts: bytes) -> Path:
    """Write sound at 48 kHz, which every Chromium takes: each sample twice, smoothed."""
    pcm = b"".join(parts)
    samples = array("h", pcm)
    doubled = array("h")
    for before, after in zip(samples, [*samples[1:], 0], strict=True):
        doubled.append(before)
        doubled.append((before + after) // 2)
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(2 * RATE)
        file.writeframes(doubled.tobytes())
    return path
