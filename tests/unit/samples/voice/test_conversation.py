import asyncio
import json
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

import wire
from conversation import Client, Conversation, Senses, Time
from memory import MemoryFile
from tests.unit.samples.voice.fake_time import FakeTime, settle
from turns import CHUNK_BYTES

SPEECH, SILENCE = b"\x01" * CHUNK_BYTES, bytes(CHUNK_BYTES)
ONSET, PAUSE, WHOLE, ENDPOINT = 3, 2, 10, 15
SENTENCE_S = 0.5


class LoudIsSpeech:
    def probability(self, chunk: bytes) -> float:
        assert len(chunk) == CHUNK_BYTES
        return 0.9 if chunk[0] else 0.1


class Engines:
    """A recogniser that hears what it is told to, and a synthesizer of half-second sentences."""

    def __init__(self) -> None:
        self.words = "Tell me a story."
        self.decoded: list[int] = []
        self.spoken: list[str] = []
        self.gate = asyncio.Event()
        self.gate.set()
        self.error: Exception | None = None

    async def transcribe(self, pcm: bytes) -> str:
        self.decoded.append(len(pcm) // CHUNK_BYTES)
        words = self.words
        await self.gate.wait()
        if self.error:
            raise self.error
        return words

    async def synthesize(self, sentence: str) -> bytes:
        self.spoken.append(sentence)
        return bytes(int(SENTENCE_S * wire.BYTES_PER_S))


class Session:
    """A conversation with everything around it."""

    def __init__(self, memory_file: Path) -> None:
        self.time = FakeTime()
        self.engines = Engines()
        self.events: list[dict[str, Any]] = []
        self.audio_bytes = 0
        self.log: list[str] = []
        self.memory = MemoryFile(memory_file)
        self.client_error: Exception | None = None
        self.conversation = Conversation(
            Client(send_text=self._receive_text, send_bytes=self._receive_bytes),
            Senses(
                activity=LoudIsSpeech(),
                recognizer=self.engines,
                synthesizer=self.engines,
                to_16k=lambda pcm: pcm,
            ),
            self.memory,
            times=Time(
                clock=self.time.clock,
                sleep=self.time.sleep,
                now=lambda: datetime(2024, 5, 3, 14, 7, tzinfo=UTC),
            ),
            log=self.log.append,
        )

    async def _receive_text(self, message: str) -> None:
        if self.client_error:
            raise self.client_error
        self.events.append(json.loads(message))

    async def _receive_bytes(self, message: bytes) -> None:
        if self.client_error:
            raise self.client_error
        self.audio_bytes += len(message) - 8

    @property
    def audio_s(self) -> float:
        return self.audio_bytes / wire.BYTES_PER_S

    async def send(self, chunk: bytes, count: int) -> None:
        for _ in range(count):
            await self.conversation.receive_audio(chunk)
            await settle()

    async def speak(self, words: str) -> None:
        """Say something from its first sound to the silence that ends the turn."""
        self.engines.words = words
        await self.send(SPEECH, 10)
        await self.send(SILENCE, ENDPOINT)

    def kinds(self) -> list[str]:
        return [event["type"] for event in self.events]

    def last(self, kind: str) -> dict[str, Any]:
        return next(event for event in reversed(self.events) if event["type"] == kind)


@pytest.fixture
async def session(tmp_path: Path) -> AsyncIterator[Session]:
    session = Session(tmp_path / "conversation.json")
    yield session
    await session.conversation.aclose()
    await session.conversation.aclose()
    leftover = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
    assert not [task for task in leftover if task.get_name() in {"answer", "understand"}]


async def test_the_client_is_greeted_with_the_format_and_what_is_known(session: Session) -> None:
    await session.conversation.open("abc")
    assert session.events == [
        {
            "type": "session_started",
            "session_id": "abc",
            "sample_rate": 24_000,
            "channels": 1,
            "turns": 0,
        }
    ]


async def test_a_turn_from_the_first_sound_to_the_last_word(session: Session) -> None:
    await session.speak("What time is it?")
    await session.time.advance(5.0)
    assert session.events == [
        {"type": "user_speech_started"},
        {"type": "user_speech_stopped"},
        {"type": "transcription", "text": "What time is it?"},
        {"type": "bot_text", "text": "It is 2:07 in the afternoon."},
        {"type": "response_done", "played_ms": 500},
    ]
    assert session.audio_s == SENTENCE_S
    assert session.memory.memory.turns == 1
    [line] = session.log
    assert "heard 'What time is it?'" in line
    assert "said 'It is 2:07 in the afternoon.'" in line
    assert "first_audio_ms=320" in line


async def test_the_answer_is_prepared_in_the_pause_and_given_at_the_end(session: Session) -> None:
    session.engines.words = "What time is it?"
    await session.send(SPEECH, 10)
    await session.send(SILENCE, PAUSE)
    assert session.engines.spoken == ["It is 2:07 in the afternoon."]
    assert session.kinds() == ["user_speech_started"]
    assert session.memory.memory.turns == 0
    await session.send(SILENCE, ENDPOINT - PAUSE)
    assert session.engines.decoded == [10 + PAUSE]
    assert session.audio_s > 0


async def test_what_was_prepared_is_thrown_away_if_speech_resumes(session: Session) -> None:
    session.engines.words = "My name is"
    await session.send(SPEECH, 10)
    await session.send(SILENCE, PAUSE)
    await session.speak("My name is Ada.")
    await session.time.advance(5.0)
    assert [event["text"] for event in session.events if "text" in event] == [
        "My name is Ada.", "Nice to meet you, Ada."
    ]  # fmt: skip
    assert session.memory.memory.turns == 1


async def test_an_answer_slower_than_the_endpoint_is_waited_for(session: Session) -> None:
    session.engines.gate.clear()
    await session.speak("Hello.")
    assert session.kinds() == ["user_speech_started", "user_speech_stopped"]
    session.engines.gate.set()
    await session.time.advance(5.0)
    assert session.kinds()[2:] == ["transcription", "bot_text", "response_done"]


async def test_what_may_go_on_is_waited_for_longer(session: Session) -> None:
    session.engines.words = "Set the volume."
    await session.send(SPEECH, 10)
    await session.send(SILENCE, ENDPOINT - 1)
    assert session.kinds() == ["user_speech_started"]
    session.engines.words = "Set the volume to seven."
    await session.send(SPEECH, 10)
    await session.send(SILENCE, WHOLE - 1)
    assert session.kinds() == ["user_speech_started"]
    await session.send(SILENCE, 1)
    await session.time.advance(5.0)
    assert session.last("bot_text")["text"] == "The volume is 7."
    assert session.kinds().count("user_speech_stopped") == 1


async def test_what_is_understood_late_is_answered_then(session: Session) -> None:
    session.engines.words = "What time is it?"
    session.engines.gate.clear()
    await session.send(SPEECH, 10)
    await session.send(SILENCE, WHOLE + 1)
    assert session.kinds() == ["user_speech_started"]
    session.engines.gate.set()
    await settle()
    await session.send(SILENCE, 1)
    assert "user_speech_stopped" in session.kinds()


async def test_sentences_are_made_one_by_one(session: Session) -> None:
    await session.speak("Tell me a story.")
    assert len(session.engines.spoken) == 1
    await session.time.advance(0.3)
    assert len(session.engines.spoken) == 2
    await session.time.advance(30.0)
    assert len(session.engines.spoken) == 5
    assert session.last("response_done") == {"type": "response_done", "played_ms": 2500}


async def test_speech_interrupts_the_answer(session: Session) -> None:
    await session.speak("Tell me a story.")
    await session.time.advance(1.0)
    sent_s = session.audio_s
    await session.send(SPEECH, ONSET)
    assert session.events[-2:] == [
        {"type": "interrupted", "played_ms": 1000},
        {"type": "user_speech_started"},
    ]
    await session.time.advance(10.0)
    assert session.audio_s == sent_s <= 1.3
    assert "response_done" not in session.kinds()
    assert session.log[0].startswith("turn interrupted: heard 'Tell me a story.'")


async def test_the_turn_that_interrupted_is_answered(session: Session) -> None:
    await session.speak("Tell me a story.")
    await session.time.advance(1.0)
    await session.speak("Stop.")
    await session.time.advance(5.0)
    assert session.last("bot_text")["text"] == "Okay."
    assert session.kinds()[-1] == "response_done"


async def test_an_answer_can_be_interrupted_before_its_first_sound(session: Session) -> None:
    session.engines.gate.clear()
    await session.speak("Tell me a story.")
    await session.send(SPEECH, ONSET)
    session.engines.gate.set()
    await session.time.advance(5.0)
    assert session.kinds() == [
        "user_speech_started", "user_speech_stopped", "interrupted", "user_speech_started"
    ]  # fmt: skip
    assert session.last("interrupted")["played_ms"] == 0
    assert session.audio_s == 0
    assert session.memory.memory.turns == 0


async def test_nothing_is_interrupted_once_the_answer_was_heard(session: Session) -> None:
    await session.speak("What time is it?")
    await session.time.advance(5.0)
    await session.send(SPEECH, ONSET)
    assert "interrupted" not in session.kinds()


async def test_a_turn_without_words_has_no_answer(session: Session) -> None:
    await session.speak("")
    await session.time.advance(5.0)
    assert session.events[1:] == [
        {"type": "user_speech_stopped"},
        {"type": "transcription", "text": ""},
    ]
    assert session.memory.memory.turns == 0


async def test_typed_words_are_answered_without_a_transcription(session: Session) -> None:
    await session.conversation.receive_text('{"type":"text","content":"What time is it?"}')
    await session.time.advance(5.0)
    assert session.kinds() == ["bot_text", "response_done"]
    assert session.audio_s == SENTENCE_S
    assert "typed 'What time is it?'" in session.log[0]


async def test_typed_words_interrupt(session: Session) -> None:
    await session.speak("Tell me a story.")
    await session.time.advance(0.5)
    await session.conversation.receive_text('{"type":"text","content":"Stop"}')
    await session.time.advance(5.0)
    assert session.kinds()[-3:] == ["interrupted", "bot_text", "response_done"]


@pytest.mark.parametrize(
    ("send", "code"),
    [
        (lambda talk: talk.receive_audio(b"\x00"), "odd_audio"),
        (lambda talk: talk.receive_audio(bytes(wire.MAX_AUDIO_BYTES + 2)), "audio_too_long"),
        (lambda talk: talk.receive_text("hello"), "invalid_json"),
        (lambda talk: talk.receive_text('{"type":"video"}'), "unknown_type"),
        (lambda talk: talk.receive_text("x" * 100_000), "text_too_long"),
    ],
)
async def test_bad_input_gets_an_error_and_the_conversation_goes_on(
    session: Session, send: Callable[[Conversation], Any], code: str
) -> None:
    await send(session.conversation)
    assert session.last("error")["code"] == code
    await session.speak("What time is it?")
    await session.time.advance(5.0)
    assert session.kinds()[-1] == "response_done"


async def test_bad_input_does_not_interrupt(session: Session) -> None:
    await session.speak("What time is it?")
    await session.conversation.receive_text("nonsense")
    await session.time.advance(5.0)
    assert "interrupted" not in session.kinds()
    assert session.kinds()[-1] == "response_done"


async def test_sound_may_be_cut_anywhere(session: Session) -> None:
    session.engines.words = "What time is it?"
    sound = SPEECH * 10 + SILENCE * ENDPOINT
    for start in range(0, len(sound), 962):
        await session.conversation.receive_audio(sound[start : start + 962])
        await settle()
    assert session.engines.decoded == [10 + PAUSE]
    assert "bot_text" in session.kinds()


async def test_an_engine_that_fails_is_told_and_the_next_turn_works(session: Session) -> None:
    session.engines.error = RuntimeError("out of memory")
    await session.speak("Hello.")
    await session.time.advance(5.0)
    assert session.last("error") == {
        "type": "error", "code": "agent_failed", "message": "I couldn't answer that."
    }  # fmt: skip
    assert "RuntimeError: out of memory" in session.log[0]
    session.engines.error = None
    await session.speak("What time is it?")
    await session.time.advance(5.0)
    assert session.kinds()[-1] == "response_done"


async def test_a_guess_that_failed_and_was_thrown_away_is_nobodys_business(
    session: Session,
) -> None:
    session.engines.error = RuntimeError("out of memory")
    await session.send(SPEECH, 10)
    await session.send(SILENCE, PAUSE)
    session.engines.error = None
    await session.speak("What time is it?")
    await session.time.advance(5.0)
    assert "error" not in session.kinds()


async def test_a_client_that_is_gone_ends_the_answer_quietly(session: Session) -> None:
    await session.speak("Tell me a story.")
    session.client_error = ConnectionError("gone")
    await session.time.advance(5.0)
    assert "ConnectionError: gone" in session.log[0]


async def test_closing_ends_what_is_going_on(session: Session) -> None:
    await session.speak("Tell me a story.")
    await session.conversation.aclose()
    sent_s = session.audio_s
    await session.time.advance(5.0)
    assert session.audio_s == sent_s
