"""The main job once, from nothing: start the platform, deploy this agent, talk to it, end.

``make demo`` runs it. It asks nothing, keeps what it makes in ``demo-output/``, and exits with 0
only if every step did what it should.
"""

import asyncio
import shutil
import signal
import statistics
import sys
import textwrap
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from rich.console import Console
from websockets.exceptions import WebSocketException

from caller.call import Call, CallError, Turn, call
from caller.clips import Clip, ClipsError, recorded, synthesised
from caller.platform import Platform, PlatformError
from caller.recording import Recording

AGENT_DIR = Path(__file__).resolve().parent
OUTPUT = Path("demo-output")
STATE_DIR = OUTPUT / "state"
PLATFORM_LOG = OUTPUT / "platform.log"
QUESTIONS = [
    "Hello.",
    "My name is Ada.",
    "What time is it?",
    "Tell me the weather in Paris.",
    "Set the volume to seven.",
    "Increase the volume.",
    "How many questions have I asked?",
]
LONG_QUESTION = "Tell me a story."
INTERRUPTION = "Stop."
GOODBYE = "Goodbye."
MEMORY_QUESTION = "What is my name?"
SPEAKS_FOR_S = 2.0
"""How much of the story is heard before it is interrupted."""
PAUSE_S = 0.4

console = Console(highlight=False, soft_wrap=True, markup=False)


class StepError(Exception):
    """A step failed. ``str`` says what happened, ``look_at`` where to read on."""

    def __init__(self, step: str, message: str, look_at: str) -> None:
        super().__init__(message)
        self.step = step
        self.look_at = look_at


@contextmanager
def step(title: str, look_at: str) -> Iterator[None]:
    console.print(f"\n{title}", style="bold")
    started = time.monotonic()
    try:
        yield
        say(f"[{time.monotonic() - started:.1f} s]")
    except (CallError, ClipsError, PlatformError, OSError, WebSocketException) as error:
        raise StepError(title, f"{type(error).__name__}: {error}", look_at) from error


def say(text: str) -> None:
    for line in text.splitlines() or [""]:
        console.print(f"  {line}")


def check(condition: bool, otherwise: str) -> None:
    if not condition:
        raise CallError(otherwise)


async def demonstrate(platform: Platform) -> None:
    with step("Get something to say", "samples/voice/requirements.txt, and your package index"):
        clips, people = await asyncio.to_thread(find_speech)
    with step("Start the platform", str(PLATFORM_LOG)):
        await platform.start()
        say(f"it serves at {platform.url}, with its state in {STATE_DIR}")
    with step("Deploy samples/voice", str(PLATFORM_LOG)):
        said = await platform.run("deploy", str(AGENT_DIR), timeout_s=900.0)
        name, version, endpoint = said.split()[-3:]
        say(f"{name}, version {version}, at {endpoint}")
        token = (await platform.run("token", "--state-dir", str(STATE_DIR))).strip()
    url = platform.url.replace("http", "ws", 1) + (
        "/api/projects/default/agents/voice/endpoint/protocols/invocations_ws?api-version=v1"
    )
    with step("Talk to it", str(PLATFORM_LOG)):
        session_id = await talk(url, token, clips, people)
    with step("Read what the session logged", str(PLATFORM_LOG)):
        say(await platform.run("monitor", "voice", "--session-id", session_id, "--tail", "20"))
    with step("Come back to the same session", f"{PLATFORM_LOG}, and samples/voice/memory.py"):
        await come_back(f"{url}&agent_session_id={session_id}", token, session_id, clips)


def find_speech() -> tuple[dict[str, Clip], list[Clip]]:
    sentences = [*QUESTIONS, LONG_QUESTION, INTERRUPTION, GOODBYE, MEMORY_QUESTION]
    clips = {clip.words: clip for clip in synthesised(sentences, AGENT_DIR, OUTPUT)}
    say(f"{len(clips)} sentences, spoken by the voice of the agent's own requirements")
    people = recorded()
    if people:
        say(f"{len(people)} recordings of people, from the package pocketsphinx-testdata")
    else:
        say("no recordings of people: the package pocketsphinx-testdata isn't installed")
    return clips, people


async def talk(url: str, token: str, clips: dict[str, Clip], people: list[Clip]) -> str:
    recording = Recording()
    turns: list[Turn] = []
    async with call(url, token, recording) as line:
        check(bool(line.session_id), "the 101 had no x-agent-session-id")
        say(f"connected, session {line.session_id}")
        for clip in [clips[words] for words in QUESTIONS] + people:
            turn = await line.ask(clip)
            show(turn)
            check(bool(turn.heard), f"nothing was understood of {clip.words!r}")
            turns.append(turn)
            await asyncio.sleep(PAUSE_S)
        await interrupt(line, clips)
        show(await line.ask(clips[GOODBYE]))
        session_id = line.session_id
    say(f"closed with {line.websocket.close_code}")
    check(line.websocket.close_code == 1000, "the connection wasn't closed with 1000")
    latencies = [turn.first_audio_ms for turn in turns]
    say(
        f"end of speech to first sound of the answer, {len(turns)} turns:"
        f" p50 {statistics.median(latencies):.0f} ms,"
        f" best {min(latencies):.0f} ms, worst {max(latencies):.0f} ms"
    )
    path = OUTPUT / "conversation.wav"
    length_s = recording.write(path)
    say(f"{path} has the {length_s:.0f} s of it: the caller left, the agent right")
    return session_id


async def interrupt(line: Call, clips: dict[str, Clip]) -> None:
    story = await line.begin(clips[LONG_QUESTION])
    await line.wait_for("bot_text", story)
    await asyncio.sleep(SPEAKS_FOR_S)
    stop, told_s, silent_s = await line.interrupt(clips[INTERRUPTION])
    show(story)
    say(
        f"  interrupted: {told_s * 1000:.0f} ms after the caller began to speak the agent said so,"
        f" its last sound came after {silent_s * 1000:.0f} ms"
    )
    await line.finish(stop)
    show(stop)
    await asyncio.sleep(PAUSE_S)


async def come_back(url: str, token: str, session_id: str, clips: dict[str, Clip]) -> None:
    async with call(url, token, Recording()) as line:
        check(line.session_id == session_id, f"another session answered: {line.session_id}")
        say(f"connected again, session {line.session_id}")
        turn = await line.ask(clips[MEMORY_QUESTION])
        show(turn)
        check("Ada" in (turn.answer or ""), "it doesn't know the name it was told before")
        say("it still knows: the name is in the session's home folder")


def show(turn: Turn) -> None:
    source = "" if turn.clip.source == "synthesised" else f" ({turn.clip.source})"
    say(f"caller{source}: {turn.clip.words}")
    say(f"  heard: {turn.heard}")
    answer = textwrap.shorten(turn.answer or "", 90, placeholder=" ...")
    say(f"  agent, after {turn.first_audio_ms:.0f} ms: {answer}")


async def show_agents_last_words(platform: Platform) -> None:
    """Print the end of the last session's log, which can't be asked for once the platform ended."""
    with suppress(PlatformError):
        if platform.url:
            lines = await platform.run("monitor", "voice", "--tail", "20")
            say(f"The agent's last lines:\n{lines}")


async def run() -> int:
    platform = Platform(STATE_DIR.resolve(), PLATFORM_LOG)
    task = asyncio.current_task()
    assert task is not None
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, task.cancel)
    try:
        await demonstrate(platform)
    except StepError as error:
        console.print(f"\nFAILED: {error.step}", style="bold red")
        say(str(error))
        await show_agents_last_words(platform)
        say(f"Look at: {error.look_at}")
        return 1
    except asyncio.CancelledError:
        console.print("\nSTOPPED", style="bold red")
        return 130
    finally:
        code = await platform.stop()
    console.print("\nEnd the platform", style="bold")
    say(f"it ended with exit code {code}")
    return 0 if code == 0 else 1


def main() -> int:
    OUTPUT.mkdir(exist_ok=True)
    # A fresh start each time: what an earlier run left behind must not help this one.
    shutil.rmtree(STATE_DIR, ignore_errors=True)
    STATE_DIR.mkdir()
    return asyncio.run(run())


if __name__ == "__main__":
    sys.exit(main())
