"""One call to the agent: a microphone that never stops, and a note of everything that comes back.

Speech is sent as a microphone would: 20 ms at a time, in real time, and silence when nobody
speaks. Times are of this process's clock, so they contain everything on the way.
"""

import asyncio
import json
import struct
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from caller.clips import RATE, Clip
from caller.recording import Recording

FRAME_S = 0.02
_FRAME_BYTES = int(RATE * FRAME_S) * 2
_HEADER = struct.Struct("<II")
SESSION_ID_HEADER = "x-agent-session-id"
ANSWER_TIMEOUT_S = 30.0


class CallError(Exception):
    """The agent didn't do what it should. ``str`` says what was missing."""


@dataclass(slots=True)
class Turn:
    """What was said, what came back, and when, in seconds of ``time.perf_counter``."""

    clip: Clip
    speech_began_at: float = 0.0
    speech_ended_at: float = 0.0
    heard: str | None = None
    answer: str | None = None
    first_audio_at: float | None = None
    last_audio_at: float | None = None
    audio_s: float = 0.0

    @property
    def first_audio_ms(self) -> float:
        """From the last sound of the question to the first of the answer."""
        if self.first_audio_at is None:
            raise CallError(f"no audio came in answer to {self.clip.words!r}")
        return (self.first_audio_at - self.speech_ended_at) * 1000


@dataclass(slots=True)
class _Utterance:
    clip: Clip
    spoken: asyncio.Future[tuple[float, float]]
    sent_bytes: int = 0


@dataclass(slots=True)
class Call:
    """An open call. Open one with :func:`call`."""

    websocket: ClientConnection
    recording: Recording
    session_id: str
    events: asyncio.Queue[tuple[float, dict[str, Any]]] = field(default_factory=asyncio.Queue)
    _utterances: asyncio.Queue[_Utterance] = field(default_factory=asyncio.Queue)
    _turn: Turn | None = None

    async def ask(self, clip: Clip) -> Turn:
        """Say something, and wait until the answer has been heard."""
        turn = await self.begin(clip)
        await self.finish(turn)
        return turn

    async def begin(self, clip: Clip) -> Turn:
        """Say something, and return when it is said."""
        self._turn = turn = Turn(clip)
        await self._say(turn)
        return turn

    async def finish(self, turn: Turn) -> None:
        """Wait until the answer to what was said has been heard."""
        await self.wait_for("response_done", turn)

    async def interrupt(self, clip: Clip) -> tuple[Turn, float, float]:
        """Say something while the agent speaks.

        Returns:
            The turn that began; and the seconds from the first sound of it to the agent's word
            that it was interrupted, and to its last sound before that.
        """
        speaking, self._turn = self._turn, Turn(clip)
        turn = self._turn
        if speaking is None:
            raise CallError("there is nothing to interrupt")
        # Until the agent has noticed, what arrives still belongs to the answer before.
        self._turn = speaking
        saying = asyncio.create_task(self._say(turn), name="say")
        interrupted_at, _ = await self.wait_for("interrupted", speaking)
        self._turn = turn
        await saying
        last_audio_at = speaking.last_audio_at or turn.speech_began_at
        began_at = turn.speech_began_at
        return turn, interrupted_at - began_at, max(0.0, last_audio_at - began_at)

    async def wait_for(self, kind: str, turn: Turn) -> tuple[float, dict[str, Any]]:
        """Take events until one is of a kind; notes what they say about the turn."""
        try:
            async with asyncio.timeout(ANSWER_TIMEOUT_S):
                while True:
                    at, event = await self.events.get()
                    match event["type"]:
                        case "transcription":
                            turn.heard = event["text"]
                        case "bot_text":
                            turn.answer = event["text"]
                        case "error":
                            raise CallError(f"the agent answered with an error: {event}")
                        case "closed":
                            raise CallError(f"the connection ended: {event['reason']}")
                        case _:
                            pass
                    if event["type"] == kind:
                        return at, event
        except TimeoutError:
            raise CallError(
                f"no {kind!r} event came within {ANSWER_TIMEOUT_S:.0f} s"
                f" of saying {turn.clip.words!r}"
            ) from None

    async def _say(self, turn: Turn) -> None:
        spoken = asyncio.get_running_loop().create_future()
        self._utterances.put_nowait(_Utterance(turn.clip, spoken))
        closed = asyncio.create_task(self.websocket.wait_closed(), name="closed")
        try:
            await asyncio.wait([spoken, closed], return_when=asyncio.FIRST_COMPLETED)
        finally:
            closed.cancel()
        if not spoken.done():
            code, reason = self.websocket.close_code, self.websocket.close_reason
            raise CallError(
                f"closed with {code} ({reason or 'no reason'}) during {turn.clip.words!r}"
            )
        turn.speech_began_at, turn.speech_ended_at = spoken.result()

    async def run_microphone(self) -> None:
        """Send 20 ms of sound every 20 ms until cancelled or closed."""
        utterance: _Utterance | None = None
        began_at = 0.0
        next_at = time.perf_counter()
        with suppress(ConnectionClosed):
            while True:
                if utterance is None and not self._utterances.empty():
                    utterance = self._utterances.get_nowait()
                    # The frame about to be sent holds the 20 ms before this moment.
                    began_at = time.perf_counter() - FRAME_S
                frame = b""
                if utterance is not None:
                    clip, start = utterance.clip, utterance.sent_bytes
                    frame = clip.pcm[start : start + _FRAME_BYTES]
                    utterance.sent_bytes += _FRAME_BYTES
                frame = frame.ljust(_FRAME_BYTES, b"\0")
                await self.websocket.send(frame)
                self.recording.caller_said(frame)
                if utterance is not None and utterance.sent_bytes >= len(utterance.clip.pcm):
                    # What was sent late was also said late: count back from the last frame.
                    ended_at = time.perf_counter() - utterance.sent_bytes / 2 / RATE
                    utterance.spoken.set_result(
                        (
                            began_at + utterance.clip.speech_begins_s,
                            ended_at + utterance.clip.speech_ends_s,
                        )
                    )
                    utterance = None
                next_at += FRAME_S
                await asyncio.sleep(max(0.0, next_at - time.perf_counter()))

    async def run_receiver(self) -> None:
        """Note what comes until the connection ends."""
        reason = "it was closed"
        try:
            async for message in self.websocket:
                at = time.perf_counter()
                if isinstance(message, bytes):
                    self._note_audio(at, message)
                else:
                    event = json.loads(message)
                    if event["type"] == "interrupted":
                        self.recording.agent_interrupted()
                    self.events.put_nowait((at, event))
        except (CallError, ConnectionClosed, ValueError, KeyError, struct.error) as error:
            reason = f"{type(error).__name__}: {error}"
        self.events.put_nowait((time.perf_counter(), {"type": "closed", "reason": reason}))

    def _note_audio(self, at: float, message: bytes) -> None:
        rate, channels = _HEADER.unpack_from(message)
        if (rate, channels) != (RATE, 1):
            raise CallError(f"the agent sent {channels} channels at {rate} Hz")
        pcm = message[_HEADER.size :]
        self.recording.agent_said(pcm)
        if (turn := self._turn) is not None:
            turn.first_audio_at = turn.first_audio_at or at
            turn.last_audio_at = at
            turn.audio_s += len(pcm) / 2 / RATE


@asynccontextmanager
async def call(url: str, token: str | None, recording: Recording) -> AsyncIterator[Call]:
    """Open a call, wait for the agent to greet, and close it with 1000 at the end."""
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    try:
        # Straight to the platform, whatever proxy this machine uses for the web.
        websocket = await connect(url, additional_headers=headers, proxy=None)
    except InvalidStatus as refused:
        status, body = refused.response.status_code, refused.response.body or b""
        raise CallError(f"refused with {status}: {body.decode(errors='replace')}") from refused
    response = websocket.response
    session_id = response.headers.get(SESSION_ID_HEADER, "") if response else ""
    opened = Call(websocket, recording, session_id)
    receiver = asyncio.create_task(opened.run_receiver(), name="receiver")
    microphone = asyncio.create_task(opened.run_microphone(), name="microphone")
    try:
        yield opened
    finally:
        microphone.cancel()
        await websocket.close(1000)
        await asyncio.gather(receiver, microphone, return_exceptions=True)
