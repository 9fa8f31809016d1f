"""What the conversation asks of its models. Put another engine here by writing a class."""

from typing import Protocol


class VoiceActivity(Protocol):
    """Tells speech from other sound. One per conversation: it remembers what came before."""

    def probability(self, chunk: bytes) -> float:
        """Return how likely the next 512 samples of 16 kHz PCM are speech, 0 to 1.

        Called on the event loop, for every 32 ms of sound: it has to be done in a millisecond
        or two.
        """


class Recognizer(Protocol):
    """Turns speech into words. May be shared by conversations."""

    async def transcribe(self, pcm: bytes) -> str:
        """Return the words in 16 kHz PCM, or nothing if there are none."""


class Synthesizer(Protocol):
    """Turns words into speech. May be shared by conversations."""

    async def synthesize(self, sentence: str) -> bytes:
        """Return a sentence as 24 kHz PCM, without silence around it."""
