"""Deploys this agent: its own files, and beside them what it has of samples/voice.

python samples/pipecat/deploy.py [what trunkline deploy takes besides a folder]
"""

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
VOICE = HERE.parent / "voice"
OWN = ("agent.yaml", "main.py", "requirements.txt", "services.py", "transport.py")
SHARED = (
    "audio.py",
    "engines/__init__.py",
    "engines/hibari.py",
    "engines/interfaces.py",
    "engines/moonshine.py",
    "engines/thread.py",
    "memory.py",
    "playback.py",
    "reply.py",
    "wire.py",
)


def gather(folder: Path) -> None:
    """Put everything the agent is made of into a folder."""
    (folder / "engines").mkdir()
    for source, names in ((HERE, OWN), (VOICE, SHARED)):
        for name in names:
            shutil.copy(source / name, folder / name)


def main(arguments: list[str]) -> int:
    with tempfile.TemporaryDirectory(prefix="pipecat-") as name:
        gather(Path(name))
        command = [sys.executable, "-m", "trunkline", "deploy", name, *arguments]
        return subprocess.run(command, check=False).returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
