"""The pipeline's three services: hearing, thinking, speaking. The first and last are models."""

from collections.abc import AsyncGenerator
from datetime import datetime

from pipecat.frames.frames import (
    Frame,
    LLMContextFrame,
    LLMFullResponseEndFrame,
    LLMFullResponseStartFrame,
    LLMTextFrame,
    OutputTransportMessageUrgentFrame,
    TranscriptionFrame,
    TTSAudioRawFrame,
)
from pipecat.processors.aggregators.llm_context import standard_message_text
from pipecat.processors.frame_processor import FrameDirection, FrameProcessor
from pipecat.services.settings import STTSettings, TTSSettings
from pipecat.services.stt_service import SegmentedSTTService
from pipecat.services.tts_service import TTSService
from pipecat.transcriptions.language import Language
from pipecat.utils.time import time_now_iso8601

import wire
from engines.interfaces import Recognizer, Synthesizer
from memory import MemoryFile
from reply import respond, sentences
from transport import HEARD_RATE, TYPED

_LONGEST_DECODING_S = 0.5
"""How long a turn waits for its words, before it goes on without."""


class LocalSTT(SegmentedSTTService):
    """Recognises each stretch of speech that the voice activity detector cuts out."""

    def __init__(self, recognizer: Recognizer) -> None:
        super().__init__(
            sample_rate=HEARD_RATE,
            ttfs_p99_latency=_LONGEST_DECODING_S,
            settings=STTSettings(model="tiny-en", language=Language.EN),
        )
        self._recognizer = recognizer

    @property
    def wants_wav_segments(self) -> bool:
        return False

    async def run_stt(self, audio: bytes) -> AsyncGenerator[Frame, None]:
        if words := await self._recognizer.transcribe(audio):
            yield TranscriptionFrame(words, "", time_now_iso8601(), Language.EN)


class LocalTTS(TTSService):
    """Speaks a sentence at a time."""

    def __init__(self, synthesizer: Synthesizer) -> None:
        super().__init__(
            sample_rate=wire.SAMPLE_RATE,
            push_start_frame=True,
            push_stop_frames=True,
            settings=TTSSettings(model="hibari", voice="heart", language=Language.EN),
        )
        self._synthesizer = synthesizer

    async def run_tts(self, text: str, context_id: str) -> AsyncGenerator[Frame, None]:
        pcm = await self._synthesizer.synthesize(text)
        yield TTSAudioRawFrame(pcm, wire.SAMPLE_RATE, wire.CHANNELS, context_id=context_id)


class Rules(FrameProcessor):
    """Stands where a pipeline has its language model, and answers by the voice sample's rules."""

    def __init__(self, memory: MemoryFile) -> None:
        super().__init__()
        self._memory = memory

    async def process_frame(self, frame: Frame, direction: FrameDirection) -> None:
        await super().process_frame(frame, direction)
        if isinstance(frame, LLMContextFrame):
            await self._answer(frame)
        else:
            await self.push_frame(frame, direction)

    async def _answer(self, frame: LLMContextFrame) -> None:
        last = frame.context.get_messages()[-1]
        words = standard_message_text(last)
        is_typed = isinstance(last, dict) and last.get("name") == TYPED
        if not is_typed:
            await self._tell("transcription", words)
        reply = respond(words, self._memory.memory, datetime.now().astimezone())
        self._memory.keep(reply.memory)
        print(f"{'typed' if is_typed else 'heard'} {words!r}, says {reply.text!r}", flush=True)
        await self._tell("bot_text", reply.text)
        await self.push_frame(LLMFullResponseStartFrame())
        for sentence in sentences(reply.text):
            await self.push_frame(LLMTextFrame(f"{sentence} "))
        await self.push_frame(LLMFullResponseEndFrame())

    async def _tell(self, kind: str, text: str) -> None:
        message = {"type": kind, "text": text}
        await self.push_frame(OutputTransportMessageUrgentFrame(message=message))
