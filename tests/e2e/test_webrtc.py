"""The WebRTC sample in Chromium: spoken to and heard, with nothing but loopback there."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.platform import Platform, clean_environment
from tests.support.spoken import SAMPLE, clips_of, pause, write_microphone
from tests.support.webrtc_call import NETWORK

pytestmark = [pytest.mark.long, pytest.mark.timeout(600)]
ROOT = Path(__file__).parents[2]
QUESTION = "Tell me the weather in Paris."


@pytest.mark.skipif(os.getuid() != 0, reason="it takes root to make a network namespace")
def test_a_call_without_a_network(tmp_path: Path) -> None:
    clips = clips_of([QUESTION], tmp_path)
    wav = write_microphone(tmp_path / "microphone.wav", pause(8), clips[QUESTION].pcm, pause(8))
    # Building the agent's environment takes the package index; the call takes nothing.
    platform = Platform(tmp_path / "state", **NETWORK).start()
    try:
        done = subprocess.run(
            [sys.executable, str(SAMPLE.parent / "webrtc-signalling" / "deploy.py")],
            env=clean_environment()
            | {
                "TRUNKLINE_ENDPOINT": platform.endpoint,
                "TRUNKLINE_HOME": str(platform.state_dir),
                "WEBRTC_ADDRESSES": "127.0.0.1",
            },
            capture_output=True, text=True, timeout=400, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
    finally:
        platform.stop()
    called = subprocess.run(
        ["unshare", "--net", sys.executable, "-m", "tests.support.webrtc_call",
         str(platform.state_dir), str(wav)],
        cwd=ROOT, capture_output=True, text=True, timeout=400, check=False,
    )  # fmt: skip
    assert called.returncode == 0, f"{called.stderr}\n{platform.log()}"
    seen = json.loads(called.stdout.strip().splitlines()[-1])
    assert seen["has_only_loopback"]
    # Which stop it hears is the engine's affair.
    assert seen["said"][0].rstrip(".,").endswith(QUESTION.rstrip("."))
    assert "Paris" in seen["said"][1]
    assert seen["loudness"] > 0.01
