"""The Pipecat sample with its real models: spoken to, heard, interrupted, and typed to."""

import asyncio
import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.platform import Platform, clean_environment
from tests.support.spoken import SAMPLE, clips_of

from caller.call import Turn, call  # isort: skip - spoken puts its folder on the path
from caller.recording import Recording  # isort: skip

pytestmark = [pytest.mark.long, pytest.mark.timeout(600)]
NAME, QUESTION = "My name is Ada.", "Tell me the weather in Paris."
LONG_QUESTION, INTERRUPTION = "Tell me a story.", "Stop."
MEMORY_QUESTION = "What is my name?"


@pytest.fixture(scope="module")
def settings() -> dict[str, str]:
    """Nobody else is in its network: what it needs, it has brought along."""
    return {"TRUNKLINE_PROCESS_NETWORK": "none"}


def deploy(platform: Platform) -> None:
    done = subprocess.run(
        [sys.executable, str(SAMPLE.parent / "pipecat" / "deploy.py")],
        env=clean_environment()
        | {"TRUNKLINE_ENDPOINT": platform.endpoint, "TRUNKLINE_HOME": str(platform.state_dir)},
        capture_output=True, text=True, timeout=400, check=False,
    )  # fmt: skip
    assert done.returncode == 0, f"{done.stderr}\n{platform.log()}"


async def test_a_spoken_conversation(platform: Platform, token: str, tmp_path: Path) -> None:
    spoken = [NAME, QUESTION, LONG_QUESTION, INTERRUPTION, MEMORY_QUESTION]
    clips = await asyncio.to_thread(clips_of, spoken, tmp_path)
    await asyncio.to_thread(deploy, platform)
    url = platform.websocket_url("pipecat", "call-1")
    # A busy machine takes long to start it, and to load its models.
    async with platform.connect("pipecat", "call-1", token=token) as websocket:
        await websocket.send(json.dumps({"type": "text", "content": "Hello."}))
        async with asyncio.timeout(120):
            while '"response_done"' not in (message := str(await websocket.recv())):
                assert '"error"' not in message
    try:
        async with call(url, token, Recording()) as line:
            await line.wait_for("session_started", Turn(clips[QUESTION]))
            turn = await line.ask(clips[NAME])
            assert (turn.heard, turn.answer) == (NAME, "Nice to meet you, Ada.")
            turn = await line.begin(clips[QUESTION])
            done_at, done = await line.wait_for("response_done", turn)
            assert turn.heard == QUESTION
            assert "Paris" in str(turn.answer)
            # It was answered in sound, at the speed of speech, and not before it was asked.
            assert turn.audio_s > 3
            assert done["played_ms"] == pytest.approx(turn.audio_s * 1000, abs=50)
            assert done_at - turn.first_audio_at > turn.audio_s - 0.1
            assert 300 < turn.first_audio_ms < 5000
            print(f"first sound after {turn.first_audio_ms:.0f} ms")

            story = await line.begin(clips[LONG_QUESTION])
            await line.wait_for("bot_text", story)
            await asyncio.sleep(2)
            stop, told_s, silent_s = await line.interrupt(clips[INTERRUPTION])
            assert "rocks" in str(story.answer)
            # The whole of it takes half a minute.
            assert 0.5 < story.audio_s < 6
            assert max(told_s, silent_s) < 3
            await line.finish(stop)
            assert stop.answer == "Okay."
            # Nothing of the story came after the agent had said that it was interrupted.
            assert stop.first_audio_ms > 200

            await line.websocket.send(json.dumps({"type": "text", "content": "What is my name?"}))
            typed = Turn(clips[MEMORY_QUESTION])
            await line.wait_for("response_done", typed)
            assert (typed.heard, "Ada" in str(typed.answer)) == (None, True)
            await line.websocket.send("nonsense")
            with pytest.raises(Exception, match="invalid_json"):
                await line.wait_for("error", typed)
        assert line.websocket.close_code == 1000
        async with call(url, token, Recording()) as line:
            story = await line.begin(clips[LONG_QUESTION])
            await line.wait_for("bot_text", story)
            # Hangs up in the middle of the answer.
        # Neither left anything behind that would keep the next call from being heard.
        async with call(url, token, Recording()) as line:
            turn = await line.ask(clips[MEMORY_QUESTION])
            assert turn.heard == MEMORY_QUESTION
            assert "Ada" in str(turn.answer)
    finally:
        log = platform.events("pipecat", "call-1")
        print(log)
    assert f"heard {QUESTION!r}" in log
    home = platform.run("files", "list", "pipecat", "--session-id", "call-1")
    assert home.code == 0, home.stderr
    assert "conversation.json" in home.stdout
    # Where onnxruntime would keep its device id.
    assert ".cache" not in home.stdout
    assert "Traceback" not in log
    assert "WARNING" not in log
