"""WAV files in and out of a conversation: 16-bit PCM, as voice agents speak it."""

import wave
from collections.abc import AsyncIterator
from pathlib import Path

from trunkline.protocol.errors import InvalidRequestError

_SAMPLE_BYTES = 2


class WavSource:
    """A WAV file to be sent in frames of equal length in time."""

    def __init__(self, path: Path) -> None:
        """Open it.

        Raises:
            InvalidRequestError: If it isn't 16-bit PCM.
        """
        try:
            self._file = wave.open(str(path), "rb")  # noqa: SIM115 - closed by close()
        except (wave.Error, EOFError) as exc:
            raise InvalidRequestError(f"{path} isn't a WAV file: {exc}") from None
        width = self._file.getsampwidth()
        if width != _SAMPLE_BYTES:
            self._file.close()
            raise InvalidRequestError(
                f"{path} has {width * 8}-bit samples: make it 16-bit PCM, "
                f"such as with `ffmpeg -i {path.name} -c:a pcm_s16le out.wav`"
            )
        self.rate_hz = self._file.getframerate()
        self.channels = self._file.getnchannels()

    async def frames(self, frame_ms: float) -> AsyncIterator[bytes]:
        """Yield the sound in frames; the last may be shorter."""
        samples = max(int(self.rate_hz * frame_ms / 1000), 1)
        while frame := self._file.readframes(samples):
            yield frame

    def close(self) -> None:
        self._file.close()


class WavSink:
    """A WAV file that is written as sound comes in; whole at every moment it is closed."""

    def __init__(self, path: Path, rate_hz: int, channels: int = 1) -> None:
        """Create it."""
        self._file = wave.open(str(path), "wb")  # noqa: SIM115 - closed by close()
        self._file.setnchannels(channels)
        self._file.setsampwidth(_SAMPLE_BYTES)
        self._file.setframerate(rate_hz)
        # A frame may end in the middle of a sample.
        self._rest = b""
        self._unit = _SAMPLE_BYTES * channels

    def write(self, data: bytes) -> int:
        data = self._rest + data
        whole = len(data) - len(data) % self._unit
        self._file.writeframesraw(data[:whole])
        self._rest = data[whole:]
        return whole

    def flush(self) -> None:
        """Nothing waits."""

    def close(self) -> None:
        self._file.close()
