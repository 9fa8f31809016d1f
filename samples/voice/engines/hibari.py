"""Synthesis by hibari's American English voice, which is in its package."""

import os
from importlib import import_module
from typing import Any

from audio import to_pcm, trim
from engines.thread import EngineThread

_GAIN = 1.6
"""The voice peaks at about 0.3, half as loud as people expect."""


class HibariSynthesizer:
    """One voice for all conversations."""

    def __init__(self) -> None:
        self._thread = EngineThread("hibari", _load)

    async def loaded(self) -> None:
        """Return when the model is ready to be used."""
        await self._thread.run(lambda _engine: None)

    async def synthesize(self, sentence: str) -> bytes:
        return await self._thread.run(lambda engine: _synthesize(engine, sentence))


def _load() -> Any:
    # onnxruntime writes a device id into the home folder and reports usage, unless this is set
    # before it is imported. Nothing leaves this agent but its answers.
    os.environ["ORT_DISABLE_TELEMETRY"] = "1"
    # Imported here, because importing is most of the work and belongs on the engine's thread.
    engine = import_module("hibari").Hibari()
    # The dictionaries are read at the first use.
    _synthesize(engine, "Hello.")
    return engine


def _synthesize(engine: Any, sentence: str) -> bytes:
    return to_pcm(trim(engine(sentence), engine.sample_rate) * _GAIN)
