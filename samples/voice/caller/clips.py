"""Speech to call with: made by the agent's own voice, and recorded from people where there is any.

No recording is kept in the repository. People's voices come from a package of the system,
Debian's ``pocketsphinx-testdata``, if it is installed.
"""

import shutil
import subprocess
import sys
import wave
from array import array
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

Samples: TypeAlias = "array[int]"  # array takes a type at run time from Python 3.12 only

RATE = 24_000
_RECORDINGS = Path("/usr/share/pocketsphinx/test/data")
_RECORDING_RATE = 16_000
_RECORDED = (
    ("goforward.raw", "go forward ten meters"),
    ("cards/001.wav", "ten of clubs"),
    ("cards/003.wav", "seven of clubs"),
    ("librivox/sense_and_sensibility_01_austen_64kb-0880.wav",
     "he was not an ill disposed young man"),
)  # fmt: skip
_WINDOW = RATE // 100
_SILENCE_OF_LOUDEST = {"synthesised": 0.03, "person": 0.1}
"""What part of the loudest is silence. A room is never as quiet as a computed voice."""


class ClipsError(Exception):
    """There is no speech to call with. ``str`` says why."""


@dataclass(frozen=True, slots=True)
class Clip:
    """One utterance: 24 kHz mono PCM, and where in it somebody speaks."""

    words: str
    source: str
    pcm: bytes
    speech_begins_s: float
    speech_ends_s: float


def recorded() -> list[Clip]:
    """Return what people said, as far as this machine has it."""
    clips = []
    for name, words in _RECORDED:
        path = _RECORDINGS / name
        if path.is_file():
            clips.append(_clip(words, "person", _at_24k(_samples(path))))
    return clips


def synthesised(sentences: list[str], agent_dir: Path, work_dir: Path) -> list[Clip]:
    """Return sentences spoken by the agent's own voice, in an environment made for that.

    Raises:
        ClipsError: If the environment can't be made, or the voice fails.
    """
    environment, folder = work_dir / "speaker", work_dir / "clips"
    folder.mkdir(parents=True, exist_ok=True)
    uv = _uv()
    python = environment / "bin" / "python"
    requirements = agent_dir / "requirements.txt"
    _run(uv, "venv", "--quiet", "--allow-existing", "--python", sys.executable, environment)
    _run(uv, "pip", "sync", "--quiet", "--require-hashes", "--python", python, requirements)
    _run(python, agent_dir / "say.py", folder, *sentences)
    return [
        _clip(words, "synthesised", _samples(folder / f"{number:02d}.wav"))
        for number, words in enumerate(sentences)
    ]


def _uv() -> str:
    beside = Path(sys.executable).with_name("uv")
    found = str(beside) if beside.is_file() else shutil.which("uv")
    if found is None:
        raise ClipsError(f"uv is neither beside {sys.executable} nor on the path")
    return found


def _run(*command: object) -> None:
    words = [str(word) for word in command]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    if done.returncode:
        said = (done.stderr or done.stdout).strip().splitlines()[-8:]
        raise ClipsError("\n".join([f"`{' '.join(words[:3])} ...` failed:", *said]))


def _samples(path: Path) -> Samples:
    if path.suffix == ".wav":
        with wave.open(str(path)) as file:
            pcm = file.readframes(file.getnframes())
    else:
        pcm = path.read_bytes()
    samples = array("h", pcm)
    if sys.byteorder == "big":
        samples.byteswap()
    return samples


def _at_24k(samples: Samples) -> Samples:
    """Return 16 kHz samples at 24 kHz, on straight lines between them."""
    output = array("h")
    for number in range((len(samples) - 1) * RATE // _RECORDING_RATE):
        before, part = divmod(number * _RECORDING_RATE, RATE)
        step = samples[before + 1] - samples[before]
        output.append(samples[before] + step * part // RATE)
    return output


def _clip(words: str, source: str, samples: Samples) -> Clip:
    windows = [samples[at : at + _WINDOW] for at in range(0, len(samples), _WINDOW)]
    energies = [sum(sample * sample for sample in window) / len(window) for window in windows]
    # Energy is the square of loudness.
    loud = max(energies) * _SILENCE_OF_LOUDEST[source] ** 2
    speech = [number for number, energy in enumerate(energies) if energy >= loud]
    ends = min((speech[-1] + 1) * _WINDOW, len(samples))
    if sys.byteorder == "big":
        samples.byteswap()
    return Clip(words, source, samples.tobytes(), speech[0] * _WINDOW / RATE, ends / RATE)
