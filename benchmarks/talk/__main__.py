"""How long the voice sample takes to answer, measured in the console's page by its own clocks.

    python -m benchmarks.talk [TURNS] [--silence-ms MS]

Chromium's microphone is a file: sentences of the sample's own voice, with room for each answer.
The page measures from the last 20 ms in which somebody spoke to the first sound that its
loudspeaker gets, both on the audio context's clock.

A quick answer is worth nothing if people are cut off, so false ends of speech are counted as well:
in those sentences, in sentences with a pause in the middle, and in recordings of people, if
Debian's package pocketsphinx-testdata is there. ``--silence-ms`` sets the silence that ends a turn,
of every turn alike, for comparing; without it, they are what the sample's ``agent.yaml`` says.
"""

import argparse
import json
import os
import platform
import re
import shutil
import statistics
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from playwright.sync_api import Page, expect

from benchmarks.support.report import machine
from tests.support.chromium import chromium
from tests.support.console import Watch, signed_in
from tests.support.platform import Platform
from tests.support.spoken import SAMPLE, clips_of, pause, write_microphone

from caller.clips import RATE, Clip, recorded  # isort: skip - spoken puts its folder on the path

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
#: Said with a pause between the two parts.
HALTING = [
    ("Tell me the weather", "in Paris."),
    ("Set the volume", "to seven."),
    ("How many questions", "have I asked?"),
]
PAUSES_MS = (300, 350, 450, 600)
LEAD_S = 6.0
ROOM_S = 5.5
#: A recording's answer repeats it.
LONG_ROOM_S = 9.0


@dataclass(frozen=True)
class Utterance:
    """Something the microphone hears, and which count it belongs to."""

    words: str
    kind: str
    pcm: bytes

    @property
    def seconds(self) -> float:
        return len(self.pcm) / 2 / RATE


def spoken_part(clip: Clip) -> bytes:
    begins, ends = (int(at * RATE) * 2 for at in (clip.speech_begins_s, clip.speech_ends_s))
    return clip.pcm[begins:ends]


def utterances(turns: int, folder: Path) -> tuple[list[Utterance], list[Utterance]]:
    """Return what the times are measured with, and what is only for counting."""
    parts = [part for pair in HALTING for part in pair]
    clips = clips_of([*SENTENCES, *parts], folder)
    timed = [
        Utterance(words, "sentences", clips[words].pcm + pause(ROOM_S))
        for words in (SENTENCES[n % len(SENTENCES)] for n in range(turns))
    ]
    counted = [
        Utterance(
            f"{first} {second}",
            f"sentences with a pause of {pause_ms} ms",
            spoken_part(clips[first])
            + pause(pause_ms / 1000)
            + spoken_part(clips[second])
            + pause(ROOM_S),
        )
        for pause_ms in PAUSES_MS
        for first, second in HALTING
    ]
    counted += [
        Utterance(clip.words, "recordings of people", clip.pcm + pause(LONG_ROOM_S))
        for clip in recorded()
    ]
    return timed, counted


def false_ends(said: list[Utterance], stops: list[float]) -> dict[str, tuple[int, int, int]]:
    """Count for each kind what was said, what was cut off, and what nobody heard.

    Args:
        said: One after the other, the first after ``LEAD_S``.
        stops: When the agent thought that somebody had finished, in seconds of the microphone's
            file. What is said once should end once, before the next is said.
    """
    found: dict[str, tuple[int, int, int]] = {}
    begins = LEAD_S
    for one in said:
        ends = begins + one.seconds
        times = sum(begins <= at < ends for at in stops)
        count, cut_off, unheard = found.get(one.kind, (0, 0, 0))
        found[one.kind] = (count + 1, cut_off + (times > 1), unheard + (times == 0))
        begins = ends
    return found


#: Notes when the first sound is sent, and when the agent says that speech has stopped.
NOTE_STOPS = """() => {
  window.noted = { begun: null, stops: [] };
  window.WebSocket = class extends WebSocket {
    constructor(...given) {
      super(...given);
      this.addEventListener("message", ({ data }) => {
        if (typeof data !== "string" || JSON.parse(data).type !== "user_speech_stopped") return;
        window.noted.stops.push(performance.now());
      });
    }
    send(data) {
      if (typeof data !== "string") window.noted.begun ??= performance.now();
      super.send(data);
    }
  };
}"""


@dataclass(frozen=True)
class Seen:
    """What the page saw: how long answers took, what was understood, and when speech stopped."""

    times_ms: list[float]
    heard: list[str]
    stops: list[float]


def measure(page: Page, timed_s: float, counted_s: float) -> Seen:
    """Talk until the microphone's file is over."""
    page.evaluate(NOTE_STOPS)
    page.get_by_role("link", name="Talk to voice").click()
    # Written first, so that the models are there when the first sentence is said.
    page.get_by_label("Message").fill("Hello.")
    page.get_by_role("button", name="Send").click()
    expect(page.locator(".transcript .agent")).to_be_visible(timeout=120_000)
    written = page.evaluate("() => document.querySelector('canvas.latency').values.length")
    page.get_by_role("button", name="Talk", exact=True).click()
    page.wait_for_function("() => window.noted.begun !== null", timeout=60_000)
    page.wait_for_timeout(timed_s * 1000)
    times = page.evaluate("() => [...document.querySelector('canvas.latency').values]")[written:]
    page.wait_for_timeout(counted_s * 1000)
    heard = page.locator(".transcript .you span").all_inner_texts()[1:]
    stops = page.evaluate("() => noted.stops.map((at) => (at - noted.begun) / 1000)")
    page.get_by_role("button", name="Hang up").click()
    return Seen(times, heard, stops)


def with_silence(silence_ms: int | None, folder: Path) -> Path:
    """Return the sample, or a copy with one silence that ends every turn."""
    if silence_ms is None:
        return SAMPLE
    copy = folder / "voice"
    shutil.copytree(SAMPLE, copy, ignore=shutil.ignore_patterns("__pycache__", ".trunkline"))
    manifest = copy / "agent.yaml"
    text, changed = re.subn(
        r'((?:ENDPOINT|WHOLE)_SILENCE_MS\n\s+value: )"\d+"',
        rf'\g<1>"{silence_ms}"',
        manifest.read_text(),
    )
    assert changed == 2, "agent.yaml doesn't set both silences any more"
    manifest.write_text(text)
    return copy


def agents_own(trunkline: Platform) -> list[int]:
    """Return what the agent itself measured, of the one session there is."""
    listed = trunkline.run("sessions", "list", "voice", "--output", "json")
    session = str(json.loads(listed.stdout)[0]["agent_session_id"])
    log = trunkline.run("monitor", "voice", "--session-id", session, "--tail", "300")
    assert log.code == 0, log.stderr
    return [int(ms) for ms in re.findall(r": heard .* first_audio_ms=(\d+)", log.stdout)]


def main(turns: int, silence_ms: int | None) -> None:
    with tempfile.TemporaryDirectory(prefix="trunkline-") as name:
        folder = Path(name)
        timed, counted = utterances(turns, folder)
        wav = write_microphone(
            folder / "microphone.wav", pause(LEAD_S), *(one.pcm for one in timed + counted)
        )
        timed_s = LEAD_S + sum(one.seconds for one in timed)
        counted_s = sum(one.seconds for one in counted) + 3
        print(f"talking for {timed_s + counted_s:.0f} s", flush=True)
        trunkline = Platform(folder / "state").start()
        try:
            trunkline.deploy(with_silence(silence_ms, folder))
            with chromium(wav) as browser:
                page = signed_in(browser, trunkline, Watch())
                seen = measure(page, timed_s, counted_s)
            agent = agents_own(trunkline)[: len(seen.times_ms)]
        finally:
            trunkline.stop()
    report(timed + counted, seen, agent)


def processor() -> str:
    found = re.search(r"^model name\s*: (.*)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    return found[1] if found else platform.machine()


def report(said: list[Utterance], seen: Seen, agent: list[int]) -> None:
    load = ", ".join(f"{number:.1f}" for number in os.getloadavg())
    print(f"{processor()}, {machine()}, Python {platform.python_version()}")
    print(f"load at the end: {load}")
    print(f"page:  {[round(ms) for ms in seen.times_ms]}")
    print(f"agent: {agent}")
    print(f"understood: {seen.heard}")
    print("false ends of speech:")
    for kind, (count, cut_off, unheard) in false_ends(said, seen.stops).items():
        print(f"  {cut_off} of {count} {kind}" + (f"; {unheard} not heard" if unheard else ""))
    if not seen.times_ms:
        sys.exit("the page heard no answer: this machine is too busy to measure anything")
    ordered = sorted(seen.times_ms)
    p95 = ordered[min(len(ordered) - 1, -(-95 * len(ordered) // 100) - 1)]
    print(
        f"end of speech to first sound, {len(ordered)} turns: p50 {statistics.median(ordered):.0f}"
        f" ms, p95 {p95:.0f} ms, fastest {ordered[0]:.0f} ms, slowest {ordered[-1]:.0f} ms"
    )


if __name__ == "__main__":
    options = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    options.add_argument("turns", type=int, nargs="?", default=20)
    options.add_argument("--silence-ms", type=int)
    given = options.parse_args()
    main(given.turns, given.silence_ms)
