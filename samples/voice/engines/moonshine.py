"""Recognition by Moonshine's tiny English model, which is in its package."""

from importlib import import_module
from typing import Any

from audio import to_samples
from engines.thread import EngineThread

_RATE = 16_000


class MoonshineRecognizer:
    """One model for all conversations."""

    def __init__(self) -> None:
        self._thread = EngineThread("moonshine", _load)

    async def loaded(self) -> None:
        """Return when the model is ready to be used."""
        await self._thread.run(lambda _engine: None)

    async def transcribe(self, pcm: bytes) -> str:
        samples = to_samples(pcm).tolist()
        return await self._thread.run(lambda engine: _transcribe(engine, samples))


def _load() -> Any:
    # Imported here, because importing is most of the work and belongs on the engine's thread.
    package = import_module("moonshine_voice")
    model = import_module("moonshine_voice.utils").get_model_path("tiny-en")
    # Turns are found by the conversation. A second detector, inside the recogniser, would cut
    # the silence around them into lines of its own and invent words for them.
    engine = package.Transcriber(str(model), package.ModelArch.TINY, options={"vad_threshold": "0"})
    # The first decoding takes several times as long as the next.
    _transcribe(engine, [0.0] * _RATE)
    return engine


def _transcribe(engine: Any, samples: list[float]) -> str:
    lines = engine.transcribe_without_streaming(samples, _RATE).lines
    return " ".join(line.text.strip() for line in lines).strip()
