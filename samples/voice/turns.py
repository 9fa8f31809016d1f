"""Where a spoken turn begins, pauses and ends.

Pure: chunks of sound and their probabilities of speech go in, events come out. Time is counted in
chunks, so a client that sends faster or slower than real time is heard the same.
"""

from collections import deque
from dataclasses import dataclass

CHUNK_MS = 32
CHUNK_BYTES = 1_024
"""512 samples of 16-bit PCM at 16 kHz, which is what the voice-activity model takes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TurnRules:
    """The numbers that decide. All times are rounded up to whole chunks."""

    speech_from: float = 0.5
    """The probability from which a chunk may begin a turn."""
    silence_below: float = 0.35
    """The probability under which a chunk within a turn is silence. Lower than ``speech_from``:
    a turn shouldn't end because a word is spoken softly."""
    onset_ms: int = 96
    """How long there must be speech before a turn begins. A click is shorter."""
    pause_ms: int = 64
    """The silence after which it is worth working out the answer, in case the turn is over. With
    less, stops within words would keep the recogniser busy for nothing; with more, a slow machine
    isn't done when the turn ends."""
    endpoint_silence_ms: int = 480
    """The silence that ends a turn. Most of the time a caller waits is this."""
    whole_silence_ms: int = 320
    """The silence that ends a turn whose words are a whole request, as far as they are known by
    then: who has asked for something seldom goes on. It has no effect above the other."""
    pre_roll_ms: int = 350
    """How much sound from before the turn was noticed belongs to it: first consonants are soft."""
    longest_turn_ms: int = 30_000
    """A turn is ended here even if there is no silence, so that noise can't fill the memory."""


@dataclass(frozen=True, slots=True)
class SpeechStarted:
    """The user has begun to speak."""


@dataclass(frozen=True, slots=True)
class SpeechPaused:
    """The user may have finished. ``audio`` is the turn so far."""

    audio: bytes


@dataclass(frozen=True, slots=True)
class SpeechResumed:
    """The user hadn't finished: what was made of the pause is to be thrown away."""


@dataclass(frozen=True, slots=True)
class SpeechStopped:
    """The user has finished. ``audio`` is the whole turn."""

    audio: bytes
    silence_ms: int
    """How long ago the last speech was."""


TurnEvent = SpeechStarted | SpeechPaused | SpeechResumed | SpeechStopped


def _chunks(duration_ms: int) -> int:
    return -(-duration_ms // CHUNK_MS)


class TurnDetector:
    """Finds the turns in a stream of chunks."""

    def __init__(self, rules: TurnRules) -> None:
        self._rules = rules
        self._onset_chunks = _chunks(rules.onset_ms)
        self._pause_chunks = _chunks(rules.pause_ms)
        self._endpoint_chunks = _chunks(rules.endpoint_silence_ms)
        self._whole_chunks = min(_chunks(rules.whole_silence_ms), self._endpoint_chunks)
        self._longest_chunks = _chunks(rules.longest_turn_ms)
        # While nobody speaks this holds the pre-roll, and the onset with it.
        self._before: deque[bytes] = deque(maxlen=_chunks(rules.pre_roll_ms) + self._onset_chunks)
        self._turn: list[bytes] = []
        self._speech_chunks = 0
        self._silent_chunks = 0
        self._is_whole = False

    @property
    def is_speaking(self) -> bool:
        """Whether a turn has begun and not ended."""
        return bool(self._turn)

    def expect_no_more(self) -> None:
        """Take note that what was said up to the present pause is a whole request.

        Forgotten when the user goes on.
        """
        self._is_whole = self._silent_chunks >= self._pause_chunks

    def receive_chunk(self, chunk: bytes, probability: float) -> list[TurnEvent]:
        """Take one chunk and return what it means, in order.

        Args:
            chunk: ``CHUNK_BYTES`` bytes of sound.
            probability: How likely it is speech, 0 to 1.
        """
        if self.is_speaking:
            return self._within_turn(chunk, probability)
        return self._before_turn(chunk, probability)

    def _before_turn(self, chunk: bytes, probability: float) -> list[TurnEvent]:
        self._before.append(chunk)
        if probability < self._rules.speech_from:
            self._speech_chunks = 0
            return []
        self._speech_chunks += 1
        if self._speech_chunks < self._onset_chunks:
            return []
        self._turn = list(self._before)
        self._before.clear()
        self._silent_chunks = 0
        return [SpeechStarted()]

    def _within_turn(self, chunk: bytes, probability: float) -> list[TurnEvent]:
        self._turn.append(chunk)
        events: list[TurnEvent] = []
        if probability >= self._rules.silence_below:
            if self._silent_chunks >= self._pause_chunks:
                events.append(SpeechResumed())
            self._silent_chunks = 0
            self._is_whole = False
        else:
            self._silent_chunks += 1
        is_too_long = len(self._turn) >= self._longest_chunks
        enough = self._whole_chunks if self._is_whole else self._endpoint_chunks
        if self._silent_chunks >= enough or is_too_long:
            silence_ms = self._silent_chunks * CHUNK_MS
            events.append(SpeechStopped(b"".join(self._turn), silence_ms))
            self._turn = []
            self._speech_chunks = 0
            self._is_whole = False
        elif self._silent_chunks == self._pause_chunks:
            events.append(SpeechPaused(b"".join(self._turn)))
        return events
