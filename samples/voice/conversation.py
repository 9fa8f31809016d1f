"""One spoken conversation: hears turns, prepares answers, speaks them, and can be interrupted.

It knows neither sockets nor models. What it sends goes through two callables, what it needs from
models through :mod:`engines.interfaces`, and time through a clock, so all of it runs in a test.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import wire
from engines.interfaces import Recognizer, Synthesizer, VoiceActivity
from memory import MemoryFile
from playback import Playback
from reply import Reply, respond, sentences
from turns import (
    CHUNK_BYTES,
    SpeechPaused,
    SpeechResumed,
    SpeechStarted,
    SpeechStopped,
    TurnDetector,
    TurnEvent,
    TurnRules,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Client:
    """How to reach the other side."""

    send_text: Callable[[str], Awaitable[None]]
    send_bytes: Callable[[bytes], Awaitable[None]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Senses:
    """The models, and what brings the client's sound to the rate they take."""

    activity: VoiceActivity
    recognizer: Recognizer
    synthesizer: Synthesizer
    to_16k: Callable[[bytes], bytes]


@dataclass(frozen=True, slots=True, kw_only=True)
class Time:
    """The clocks. A test brings its own."""

    clock: Callable[[], float] = time.monotonic
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep
    now: Callable[[], datetime] = field(default=lambda: datetime.now().astimezone())


@dataclass(frozen=True, slots=True)
class _Understood:
    words: str
    reply: Reply | None
    """None if there were no words."""
    decode_ms: int


@dataclass(slots=True, kw_only=True)
class _Turn:
    """One turn, from the pause that may be its end to the last word of the answer.

    Everything up to ``answer`` has no effect that anybody could notice, so it may begin before it
    is certain that the user has finished.
    """

    understood: asyncio.Task[_Understood]
    opening: asyncio.Task[bytes]
    """The first sentence's speech."""
    playback: Playback
    answer: asyncio.Task[None] | None = None

    @property
    def is_whole(self) -> bool:
        """Whether it is known by now that the words are a whole request."""
        task = self.understood
        if not task.done() or task.cancelled() or task.exception() is not None:
            return False
        reply = task.result().reply
        return reply is not None and reply.is_whole

    async def aclose(self) -> None:
        tasks = [task for task in (self.answer, self.opening, self.understood) if task]
        for task in tasks:
            task.cancel()
        # Also tells asyncio that nobody has missed the tasks' exceptions.
        await asyncio.gather(*tasks, return_exceptions=True)


class Conversation:
    """The agent's side of one connection.

    ``receive_audio`` and ``receive_text`` are called one at a time. They return without waiting
    for an answer; answers are spoken by a task of their own.
    """

    def __init__(
        self,
        client: Client,
        senses: Senses,
        memory: MemoryFile,
        *,
        rules: TurnRules | None = None,
        times: Time | None = None,
        log: Callable[[str], None] = lambda line: print(line, flush=True),
    ) -> None:
        self._client = client
        self._senses = senses
        self._memory = memory
        self._time = times or Time()
        self._log = log
        self._detector = TurnDetector(rules or TurnRules())
        self._pcm = bytearray()
        self._guess: _Turn | None = None
        """A turn that is over if the user goes on being silent."""
        self._turn: _Turn | None = None
        """The last turn that was over."""

    async def open(self, session_id: str) -> None:
        """Tell the client that it can speak."""
        await self._event(
            "session_started",
            session_id=session_id,
            sample_rate=wire.SAMPLE_RATE,
            channels=wire.CHANNELS,
            turns=self._memory.memory.turns,
        )

    async def aclose(self) -> None:
        """Stop preparing and speaking. Twice is fine."""
        for turn in (self._turn, self._guess):
            if turn is not None:
                await turn.aclose()

    async def receive_audio(self, pcm: bytes) -> None:
        """Take sound from the client: any number of whole samples."""
        try:
            wire.check_audio(pcm)
        except wire.BadMessageError as error:
            await self._refuse(error)
            return
        self._pcm += self._senses.to_16k(pcm)
        while len(self._pcm) >= CHUNK_BYTES:
            chunk = bytes(self._pcm[:CHUNK_BYTES])
            del self._pcm[:CHUNK_BYTES]
            probability = self._senses.activity.probability(chunk)
            if self._guess is not None and self._guess.is_whole:
                self._detector.expect_no_more()
            for event in self._detector.receive_chunk(chunk, probability):
                await self._on_turn_event(event)

    async def receive_text(self, message: str) -> None:
        """Take a text message from the client. What is typed is answered like what is said."""
        try:
            words = wire.typed_words(message)
        except wire.BadMessageError as error:
            await self._refuse(error)
            return
        await self._interrupt()
        self._answer(self._begin(self._understand(words, decode_ms=0)), how="typed")

    async def _on_turn_event(self, event: TurnEvent) -> None:
        match event:
            case SpeechStarted():
                await self._interrupt()
                await self._event("user_speech_started")
            case SpeechPaused(audio):
                # Most pauses this long are the end of the turn, and the answer is ready by the
                # time that is certain. For the others it is made in vain, and nobody notices.
                self._guess = self._begin(self._listen(audio))
            case SpeechResumed():
                if self._guess is not None:
                    await self._guess.aclose()
                    self._guess = None
            case SpeechStopped(audio, silence_ms):
                turn = self._guess or self._begin(self._listen(audio))
                self._guess = None
                await self._event("user_speech_stopped")
                self._answer(turn, how="heard", silence_ms=silence_ms)

    def _begin(self, understanding: Coroutine[Any, Any, _Understood]) -> _Turn:
        understood = asyncio.create_task(understanding, name="understand")
        return _Turn(
            understood=understood,
            opening=asyncio.create_task(self._first_words(understood), name="first-words"),
            playback=Playback(
                self._client.send_bytes, clock=self._time.clock, sleep=self._time.sleep
            ),
        )

    async def _listen(self, audio: bytes) -> _Understood:
        started = self._time.clock()
        words = await self._senses.recognizer.transcribe(audio)
        return await self._understand(words, decode_ms=self._ms_since(started))

    async def _understand(self, words: str, *, decode_ms: int) -> _Understood:
        reply = respond(words, self._memory.memory, self._time.now()) if words else None
        return _Understood(words, reply, decode_ms)

    async def _first_words(self, understood: asyncio.Task[_Understood]) -> bytes:
        reply = (await understood).reply
        return await self._speech(sentences(reply.text)[0]) if reply else b""

    async def _speech(self, sentence: str) -> bytes:
        return await self._senses.synthesizer.synthesize(sentence)

    def _answer(self, turn: _Turn, *, how: str, silence_ms: int = 0) -> None:
        turn.answer = asyncio.create_task(self._give_answer(turn, how, silence_ms), name="answer")
        self._turn = turn

    async def _give_answer(self, turn: _Turn, how: str, silence_ms: int) -> None:
        stopped_at = self._time.clock()
        outcome = "interrupted"
        try:
            understood = await turn.understood
            if how == "heard":
                await self._event("transcription", text=understood.words)
            if understood.reply is None:
                outcome = "nothing to answer"
                return
            self._memory.keep(understood.reply.memory)
            await self._event("bot_text", text=understood.reply.text)
            await turn.playback.play(await turn.opening)
            for sentence in sentences(understood.reply.text)[1:]:
                # Made in a fraction of the time the client still has something to play.
                await turn.playback.play(await self._speech(sentence))
            await turn.playback.finish()
            outcome = "done"
            await self._event("response_done", played_ms=turn.playback.played_ms)
        except Exception as error:  # noqa: BLE001 - the outermost frame of a task
            outcome = f"failed: {type(error).__name__}: {error}"
            # If the client is what failed, there is nobody to tell.
            with suppress(Exception):
                await self._event("error", code="agent_failed", message="I couldn't answer that.")
        finally:
            self._log_turn(turn, how, outcome, self._first_audio_ms(turn, stopped_at, silence_ms))

    def _first_audio_ms(self, turn: _Turn, stopped_at: float, silence_ms: int) -> int | None:
        """Return the time from the last speech to the answer's first sound."""
        if turn.playback.first_sent_at is None:
            return None
        return round((turn.playback.first_sent_at - stopped_at) * 1000) + silence_ms

    def _log_turn(self, turn: _Turn, how: str, outcome: str, first_audio_ms: int | None) -> None:
        line = f"turn {outcome}:"
        if turn.understood.done() and not turn.understood.cancelled():
            if (error := turn.understood.exception()) is None:
                understood = turn.understood.result()
                line += f" {how} {understood.words!r}"
                if understood.reply is not None:
                    line += f", said {understood.reply.text!r}"
                line += f", decode_ms={understood.decode_ms}"
            else:
                line += f" {type(error).__name__}"
        self._log(f"{line} first_audio_ms={first_audio_ms} played_ms={turn.playback.played_ms}")

    async def _interrupt(self) -> None:
        """Stop the answer that is being prepared or spoken, if there is one."""
        turn = self._turn
        if turn is None or turn.answer is None or turn.answer.done():
            return
        await turn.aclose()
        await self._event("interrupted", played_ms=turn.playback.played_ms)

    async def _refuse(self, error: wire.BadMessageError) -> None:
        await self._event("error", code=error.code, message=str(error))

    async def _event(self, kind: str, **fields: object) -> None:
        await self._client.send_text(wire.event(kind, **fields))

    def _ms_since(self, started: float) -> int:
        return round((self._time.clock() - started) * 1000)
