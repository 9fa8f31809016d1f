"""The call as it was heard: the caller on the left, the agent on the right."""

import wave
from pathlib import Path

from caller.clips import RATE


class Recording:
    """Sound of both sides on one time line, which is the microphone's."""

    def __init__(self) -> None:
        self._caller = bytearray()
        self._agent = bytearray()

    def caller_said(self, pcm: bytes) -> None:
        """Add what the microphone sent."""
        self._caller += pcm

    def agent_said(self, pcm: bytes) -> None:
        """Add what the loudspeaker was given: it plays at once, or after what it still has."""
        self._agent += bytes(max(0, len(self._caller) - len(self._agent)))
        self._agent += pcm

    def agent_interrupted(self) -> None:
        """Throw away what wasn't played yet, as a client does when it is told."""
        del self._agent[len(self._caller) :]

    def write(self, path: Path) -> float:
        """Write a stereo WAV file and return its length in seconds."""
        length = max(len(self._caller), len(self._agent))
        left = bytes(self._caller).ljust(length, b"\0")
        right = bytes(self._agent).ljust(length, b"\0")
        stereo = bytearray(2 * length)
        for byte in (0, 1):
            stereo[byte::4] = left[byte::2]
            stereo[byte + 2 :: 4] = right[byte::2]
        with wave.open(str(path), "wb") as file:
            file.setnchannels(2)
            file.setsampwidth(2)
            file.setframerate(RATE)
            file.writeframes(bytes(stereo))
        return length / 2 / RATE
