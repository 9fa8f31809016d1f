"""This machine's microphone and loudspeaker, by the programs that are there for them."""

import asyncio
import shutil
import subprocess
from collections.abc import AsyncIterator, Callable
from contextlib import suppress

from trunkline.protocol.errors import TrunklineError

#: In the order they are tried; each reads or writes raw 16-bit mono PCM.
RECORDERS: tuple[tuple[str, ...], ...] = (
    ("parec", "--raw", "--format=s16le", "--channels=1", "--rate={rate}", "--latency-msec=20"),
    ("arecord", "-q", "-t", "raw", "-f", "S16_LE", "-c", "1", "-r", "{rate}"),
    ("rec", "-q", "-t", "raw", "-e", "signed", "-b", "16", "-c", "1", "-r", "{rate}", "-"),
)
PLAYERS: tuple[tuple[str, ...], ...] = (
    ("paplay", "--raw", "--format=s16le", "--channels=1", "--rate={rate}", "--latency-msec=50"),
    ("aplay", "-q", "-t", "raw", "-f", "S16_LE", "-c", "1", "-r", "{rate}"),
    ("play", "-q", "-t", "raw", "-e", "signed", "-b", "16", "-c", "1", "-r", "{rate}", "-"),
)
_SAMPLE_BYTES = 2


class NoSoundError(TrunklineError):
    """This machine has no way in or out for sound."""

    code = "no_sound"


def command_for(
    kinds: tuple[tuple[str, ...], ...],
    what: str,
    rate_hz: int,
    which: Callable[[str], str | None] = shutil.which,
) -> list[str]:
    """Return the command that reads or plays sound here.

    Raises:
        NoSoundError: If there is none.
    """
    for kind in kinds:
        if which(kind[0]):
            return [word.format(rate=rate_hz) for word in kind]
    names = ", ".join(kind[0] for kind in kinds)
    raise NoSoundError(
        f"this machine has no {what}: none of {names} is installed; "
        "use --wav and --out-wav with files instead"
    )


class Microphone:
    """Frames of what is heard here."""

    def __init__(self, rate_hz: int, frame_ms: float) -> None:
        """Find the program; nothing is started yet."""
        self._command = command_for(RECORDERS, "microphone", rate_hz)
        self._frame_bytes = max(int(rate_hz * frame_ms / 1000), 1) * _SAMPLE_BYTES

    async def frames(self) -> AsyncIterator[bytes]:
        """Yield frames until the program ends.

        Raises:
            NoSoundError: If it can't read the sound.
        """
        process = await asyncio.create_subprocess_exec(
            *self._command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        assert process.stdout is not None
        assert process.stderr is not None
        try:
            while True:
                try:
                    yield await process.stdout.readexactly(self._frame_bytes)
                except asyncio.IncompleteReadError as exc:
                    if exc.partial:
                        yield exc.partial
                    break
            said = (await process.stderr.read()).decode(errors="replace").strip()
            if await process.wait():
                raise NoSoundError(f"{self._command[0]} can't read the microphone: {said}")
        finally:
            with suppress(ProcessLookupError):
                process.terminate()
            await process.wait()


class Loudspeaker:
    """Plays what is written to it."""

    def __init__(self, rate_hz: int) -> None:
        """Start the program that plays."""
        command = command_for(PLAYERS, "loudspeaker", rate_hz)
        self._process = subprocess.Popen(  # noqa: S603 - one of the commands above
            command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )

    def write(self, data: bytes) -> int:
        assert self._process.stdin is not None
        try:
            return self._process.stdin.write(data)
        except BrokenPipeError:
            raise NoSoundError("the program that plays sound has ended") from None

    def flush(self) -> None:
        assert self._process.stdin is not None
        with suppress(BrokenPipeError):
            self._process.stdin.flush()

    def close(self) -> None:
        """Play what is left, and end."""
        assert self._process.stdin is not None
        with suppress(BrokenPipeError):
            self._process.stdin.close()
        self._process.wait()
