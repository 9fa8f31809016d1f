"""Deploys this agent: its own files, and beside them the conversation of samples/voice.

python samples/webrtc-signalling/deploy.py [what trunkline deploy takes besides a folder]

WEBRTC_ADDRESSES and WEBRTC_ICE_SERVERS of the environment become the agent's.
"""

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

HERE = Path(__file__).resolve().parent
VOICE = HERE.parent / "voice"
OWN = ("main.py", "peer.py", "requirements.txt", "signalling.py")
CONVERSATION = (
    "audio.py",
    "conversation.py",
    "memory.py",
    "playback.py",
    "reply.py",
    "settings.py",
    "turns.py",
    "wire.py",
)


def gather(folder: Path, environment: Mapping[str, str]) -> None:
    """Put everything the agent is made of into a folder."""
    for name in OWN:
        shutil.copy(HERE / name, folder)
    manifest = (HERE / "agent.yaml").read_text()
    for name in ("WEBRTC_ADDRESSES", "WEBRTC_ICE_SERVERS"):
        # A text in JSON is one in YAML, too.
        manifest = manifest.replace(f'"${{{name}}}"', json.dumps(environment.get(name, "")))
    (folder / "agent.yaml").write_text(manifest)
    for name in CONVERSATION:
        shutil.copy(VOICE / name, folder)
    ignored = shutil.ignore_patterns("__pycache__")
    shutil.copytree(VOICE / "engines", folder / "engines", ignore=ignored)


def main(arguments: list[str]) -> int:
    with tempfile.TemporaryDirectory(prefix="webrtc-") as name:
        gather(Path(name), os.environ)
        command = [sys.executable, "-m", "trunkline", "deploy", name, *arguments]
        return subprocess.run(command, check=False).returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
