"""A Pipecat transport over the WebSocket that trunkline's host hands to its handler.

It speaks the messages of the voice sample (``wire``), so whatever talks to that talks to this.
"""

import asyncio
from contextlib import suppress
from functools import partial
from typing import Any

from pipecat.frames.frames import (
    BotStoppedSpeakingFrame,
    CancelFrame,
    EndFrame,
    Frame,
    InputAudioRawFrame,
    InterruptionFrame,
    LLMMessagesAppendFrame,
    OutputAudioRawFrame,
    OutputTransportMessageFrame,
    OutputTransportMessageUrgentFrame,
    StartFrame,
    UserStartedSpeakingFrame,
    UserStoppedSpeakingFrame,
)
from pipecat.processors.frame_processor import FrameDirection, FrameProcessor
from pipecat.transports.base_input import BaseInputTransport
from pipecat.transports.base_output import BaseOutputTransport
from pipecat.transports.base_transport import TransportParams
from starlette.websockets import WebSocket, WebSocketDisconnect

import wire
from audio import Downsampler
from playback import Playback

HEARD_RATE = 16_000
TYPED = "typed"
"""The name under which a message is in the context that was typed and not said."""


class Call:
    """One connection: how to reach the other side, and what it has heard of the last answer."""

    def __init__(self, websocket: WebSocket) -> None:
        self.websocket = websocket
        self.hung_up = asyncio.Event()
        self._answers = 0
        self.begin_answer()

    def begin_answer(self) -> None:
        """Let sound through again, and count what is heard anew."""
        self._answers += 1
        self.playback = Playback(partial(self._send_sound, self._answers))

    def hush(self) -> int:
        """Let no more of the answer through, and tell how many milliseconds of it were heard."""
        self._answers += 1
        return self.playback.played_ms

    async def tell(self, kind: str, **fields: object) -> None:
        """Send an event; to a caller who left, nothing."""
        with suppress(WebSocketDisconnect, RuntimeError):
            await self.websocket.send_text(wire.event(kind, **fields))

    async def play(self, pcm: bytes) -> bool:
        """Send sound at the speed it is heard; tells whether there is somebody to hear it."""
        try:
            await self.playback.play(pcm)
        except (WebSocketDisconnect, RuntimeError):
            return False
        return True

    async def _send_sound(self, answer: int, message: bytes) -> None:
        # What waited for its time when the answer was interrupted comes too late.
        if answer == self._answers:
            await self.websocket.send_bytes(message)


class Microphone(BaseInputTransport):
    """Where the pipeline begins: sound and typed words of the caller become frames."""

    def __init__(self, call: Call) -> None:
        super().__init__(TransportParams(audio_in_enabled=True, audio_in_sample_rate=HEARD_RATE))
        self._call = call
        self._to_16k = Downsampler()
        self._receiving: asyncio.Task[None] | None = None

    async def start(self, frame: StartFrame) -> None:
        await super().start(frame)
        await self.set_transport_ready(frame)
        self._receiving = self.create_task(self._receive())

    async def stop(self, frame: EndFrame) -> None:
        await super().stop(frame)
        await self._stop_receiving()

    async def cancel(self, frame: CancelFrame) -> None:
        await super().cancel(frame)
        await self._stop_receiving()

    async def _stop_receiving(self) -> None:
        if self._receiving is not None:
            await self.cancel_task(self._receiving)
            self._receiving = None

    async def _receive(self) -> None:
        try:
            while (message := await self._call.websocket.receive())["type"] == "websocket.receive":
                try:
                    await self._take(message)
                except wire.BadMessageError as error:
                    await self._call.tell("error", code=error.code, message=str(error))
        finally:
            self._call.hung_up.set()

    async def _take(self, message: dict[str, Any]) -> None:
        if (text := message.get("text")) is not None:
            words = wire.typed_words(text)
            # Typing interrupts as speaking does.
            await self.broadcast_interruption()
            said = {"role": "user", "name": TYPED, "content": words}
            await self.push_frame(LLMMessagesAppendFrame(messages=[said], run_llm=True))
            return
        wire.check_audio(message["bytes"])
        pcm = self._to_16k.convert(message["bytes"])
        await self.push_audio_frame(InputAudioRawFrame(pcm, HEARD_RATE, wire.CHANNELS))


class Narrator(FrameProcessor):
    """Tells the caller what happens. It stands before the loudspeaker, and sees what that says."""

    def __init__(self, call: Call) -> None:
        super().__init__()
        self._call = call
        self._is_answering = False
        self._ending: asyncio.Task[None] | None = None

    async def process_frame(self, frame: Frame, direction: FrameDirection) -> None:
        await super().process_frame(frame, direction)
        match frame:
            case InterruptionFrame() if direction is FrameDirection.DOWNSTREAM:
                await self._interrupted()
            case UserStartedSpeakingFrame() if direction is FrameDirection.DOWNSTREAM:
                await self._call.tell("user_speech_started")
            case UserStoppedSpeakingFrame() if direction is FrameDirection.DOWNSTREAM:
                await self._call.tell("user_speech_stopped")
            case OutputTransportMessageUrgentFrame(message={"type": "bot_text"}):
                self._is_answering = True
                self._call.begin_answer()
            case BotStoppedSpeakingFrame() if self._is_answering and self._ending is None:
                self._ending = self.create_task(self._end())
        await self.push_frame(frame, direction)

    async def cleanup(self) -> None:
        await super().cleanup()
        await self._forget_end()

    async def _interrupted(self) -> None:
        if self._is_answering:
            self._is_answering = False
            played_ms = self._call.hush()
            await self._forget_end()
            await self._call.tell("interrupted", played_ms=played_ms)

    async def _end(self) -> None:
        # The last of it was sent; the caller is still listening to it.
        await self._call.playback.finish()
        self._is_answering = False
        self._ending = None
        await self._call.tell("response_done", played_ms=self._call.playback.played_ms)

    async def _forget_end(self) -> None:
        if self._ending is not None:
            await self.cancel_task(self._ending)
            self._ending = None


class Loudspeaker(BaseOutputTransport):
    """Where speech leaves the pipeline, at the speed it is heard, and events as they come."""

    def __init__(self, call: Call) -> None:
        super().__init__(
            TransportParams(audio_out_enabled=True, audio_out_sample_rate=wire.SAMPLE_RATE)
        )
        self._call = call

    async def start(self, frame: StartFrame) -> None:
        await super().start(frame)
        await self.set_transport_ready(frame)

    async def send_message(
        self, frame: OutputTransportMessageFrame | OutputTransportMessageUrgentFrame
    ) -> None:
        await self._call.tell(**{"kind": frame.message["type"], **_without_type(frame.message)})

    async def write_audio_frame(self, frame: OutputAudioRawFrame) -> bool:
        return await self._call.play(frame.audio)


def _without_type(message: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in message.items() if name != "type"}
