"""How long the voice sample takes to answer, measured in the console's page by its own clocks.

    python -m benchmarks.talk [TURNS]

Chromium's microphone is a file: sentences of the sample's own voice, with room for each answer.
The page measures from the last 20 ms in which somebody spoke to the first sound that its
loudspeaker gets, both on the audio context's clock.
"""

import json
import os
import platform as machine
import re
import statistics
import sys
import tempfile
from pathlib import Path

from playwright.sync_api import Page

from tests.support.chromium import chromium
from tests.support.console import Watch, signed_in
from tests.support.platform import Platform
from tests.support.spoken import SAMPLE, clips_of, pause, write_microphone

SENTENCES = [
    "Hello.",
    "What time is it?",
    "Tell me the weather in Paris.",
    "Set the volume to seven.",
    "Increase the volume.",
    "How many questions have I asked?",
    "My name is Ada.",
    "What is my name?",
]
LEAD_S = 6.0
ROOM_S = 5.5


def measure(page: Page, wait_s: float) -> tuple[list[float], list[str]]:
    """Talk until the microphone's file is over; return the times and what was understood."""
    page.get_by_role("link", name="Talk to voice").click()
    page.get_by_role("button", name="Talk", exact=True).click()
    page.wait_for_timeout(wait_s * 1000)
    times = page.evaluate("() => document.querySelector('canvas.latency').values")
    heard = page.locator(".transcript .you span").all_inner_texts()
    print(f"page: {[round(ms) for ms in times]}")
    page.get_by_role("button", name="Hang up").click()
    return times, heard


def page_session(platform: Platform) -> str:
    """Return the one session there is."""
    listed = platform.run("sessions", "list", "voice", "--output", "json")
    return str(json.loads(listed.stdout)[0]["agent_session_id"])


def main(turns: int) -> None:
    asked = [SENTENCES[n % len(SENTENCES)] for n in range(turns)]
    with tempfile.TemporaryDirectory(prefix="trunkline-") as name:
        folder = Path(name)
        clips = clips_of(SENTENCES, folder)
        parts = [pause(LEAD_S)]
        for words in asked:
            parts += [clips[words].pcm, pause(ROOM_S)]
        wav = write_microphone(folder / "microphone.wav", *parts)
        seconds = sum(len(part) for part in parts) / 48_000
        platform = Platform(folder / "state").start()
        try:
            platform.deploy(SAMPLE)
            with chromium(wav) as browser:
                page = signed_in(browser, platform, Watch())
                times, heard = measure(page, seconds + 3)
            session = page_session(platform)
            log = platform.run("monitor", "voice", "--session-id", session, "--tail", "200").stdout
            agent = [int(ms) for ms in re.findall(r"first_audio_ms=(\d+)", log)]
            print(f"agent: {agent}")
        finally:
            platform.stop()
    wrong = [
        f"{said!r} for {want!r}" for said, want in zip(heard, asked, strict=False) if said != want
    ]
    print(f"{machine.platform()}, {os.cpu_count()} CPUs, Python {machine.python_version()}")
    print(f"{len(times)} answers to {turns} sentences; {len(heard)} turns were heard")
    print(f"other words: {', '.join(wrong) or 'none'}")
    ordered = sorted(times)
    p95 = ordered[min(len(ordered) - 1, -(-95 * len(ordered) // 100) - 1)]
    print(
        f"end of speech to first sound: p50 {statistics.median(times):.0f} ms, p95 {p95:.0f} ms, ",
        end="",
    )
    print(f"fastest {ordered[0]:.0f} ms, slowest {ordered[-1]:.0f} ms")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 20)
