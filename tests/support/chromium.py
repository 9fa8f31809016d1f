"""Debian's Chromium, driven by Playwright, with a microphone that is a file."""

import math
import random
import struct
import wave
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from playwright.sync_api import Browser, sync_playwright

RATE = 48_000
FLAGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--use-fake-device-for-media-stream",
    "--use-fake-ui-for-media-stream",
)


@contextmanager
def chromium(microphone: Path | None = None, *flags: str) -> Iterator[Browser]:
    """Start one; its microphone plays a WAV file once, beginning when it is first asked for."""
    heard = [f"--use-file-for-fake-audio-capture={microphone}%noloop"] if microphone else []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path="/usr/bin/chromium", args=[*FLAGS, *heard, *flags]
        )
        try:
            yield browser
        finally:
            browser.close()


def silence(seconds: float) -> list[float]:
    return [0.0] * int(RATE * seconds)


def babble(seconds: float) -> list[float]:
    """Return what a browser's noise suppression takes for speech: syllables of a gliding voice."""
    chance = random.Random(7)
    samples, phase = [], 0.0
    for n in range(int(RATE * seconds)):
        at = n / RATE
        phase += 2 * math.pi * (130 + 40 * math.sin(2 * math.pi * 0.9 * at)) / RATE
        syllable = max(0.0, math.sin(2 * math.pi * 4 * at)) ** 0.5
        voice = sum(math.sin(phase * k) / k for k in range(1, 12))
        samples.append(0.35 * syllable * (voice + 0.1 * chance.uniform(-1, 1)))
    return samples


def write_wav(path: Path, samples: list[float]) -> Path:
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(RATE)
        pcm = (int(32767 * max(-1.0, min(1.0, sample))) for sample in samples)
        file.writeframes(b"".join(struct.pack("<h", sample) for sample in pcm))
    return path
