"""Write sentences as WAV files with the agent's own voice: ``say.py FOLDER SENTENCE...``.

The files are ``00.wav``, ``01.wav`` and so on. Runs in the environment of ``requirements.txt``.
"""

import asyncio
import sys
import wave
from pathlib import Path

import wire
from engines.hibari import HibariSynthesizer


async def say(folder: Path, sentences: list[str]) -> None:
    voice = HibariSynthesizer()
    for number, sentence in enumerate(sentences):
        with wave.open(str(folder / f"{number:02d}.wav"), "wb") as file:
            file.setnchannels(wire.CHANNELS)
            file.setsampwidth(wire.BYTES_PER_SAMPLE)
            file.setframerate(wire.SAMPLE_RATE)
            file.writeframes(await voice.synthesize(sentence))


if __name__ == "__main__":
    asyncio.run(say(Path(sys.argv[1]), sys.argv[2:]))
