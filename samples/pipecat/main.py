"""The voice agent as a Pipecat pipeline. Start it, and it listens on ``PORT``.

``engines``, ``reply``, ``wire`` and the like are samples/voice, which deploy.py puts beside this.
"""

import asyncio
import os
import sys
from pathlib import Path

from loguru import logger
from pipecat.audio.vad.silero import SileroVADAnalyzer
from pipecat.pipeline.pipeline import Pipeline
from pipecat.pipeline.worker import PipelineParams, PipelineWorker
from pipecat.processors.aggregators.llm_context import LLMContext
from pipecat.processors.aggregators.llm_response_universal import (
    LLMContextAggregatorPair,
    LLMUserAggregatorParams,
)
from pipecat.processors.audio.vad_processor import VADProcessor
from pipecat.turns.user_start import TranscriptionUserTurnStartStrategy, VADUserTurnStartStrategy
from pipecat.turns.user_stop import SpeechTimeoutUserTurnStopStrategy
from pipecat.turns.user_turn_strategies import UserTurnStrategies
from pipecat.workers.runner import WorkerRunner
from starlette.websockets import WebSocket

import wire
from engines.hibari import HibariSynthesizer
from engines.moonshine import MoonshineRecognizer
from memory import MemoryFile
from services import LocalSTT, LocalTTS, Rules
from transport import HEARD_RATE, Call, Loudspeaker, Microphone, Narrator
from trunkline.agentserver import InvocationAgentServerHost

# Its default is to write down every frame's way.
logger.remove()
logger.add(sys.stderr, level="WARNING")

LONGEST_WAIT_S = 10.0
"""How long a turn stays open for its words. The first may wait for the model to be loaded."""
speech_timeout_s = int(os.environ.get("SPEECH_TIMEOUT_MS") or 200) / 1000
memory = MemoryFile(Path(os.environ.get("HOME") or ".") / "conversation.json")
# Both load on threads of their own, while the host starts.
recognizer = MoonshineRecognizer()
synthesizer = HibariSynthesizer()

app = InvocationAgentServerHost()


def pipeline(call: Call) -> Pipeline:
    # A turn begins with speech; or with words, if they come so late that the turn they were said
    # in is over.
    turns = UserTurnStrategies(
        start=[VADUserTurnStartStrategy(), TranscriptionUserTurnStartStrategy()],
        stop=[SpeechTimeoutUserTurnStopStrategy(user_speech_timeout=speech_timeout_s)],
    )
    context = LLMContextAggregatorPair(
        LLMContext(),
        user_params=LLMUserAggregatorParams(
            user_turn_strategies=turns,
            user_turn_stop_timeout=LONGEST_WAIT_S,
            empty_user_turn=None,
        ),
    )
    return Pipeline(
        [
            Microphone(call),
            # Before the recogniser, so that each stretch of speech is cut out where it is, also
            # when the machine can't keep up.
            VADProcessor(vad_analyzer=SileroVADAnalyzer()),
            LocalSTT(recognizer),
            context.user(),
            Rules(memory),
            LocalTTS(synthesizer),
            Narrator(call),
            Loudspeaker(call),
            context.assistant(),
        ]
    )


@app.ws_handler
async def talk(websocket: WebSocket) -> None:
    # Pipecat gives a service up that is silent for long. What is said meanwhile waits in the host.
    await asyncio.gather(recognizer.loaded(), synthesizer.loaded())
    call = Call(websocket)
    worker = PipelineWorker(
        pipeline(call),
        params=PipelineParams(
            audio_in_sample_rate=HEARD_RATE, audio_out_sample_rate=wire.SAMPLE_RATE
        ),
        # The messages are the voice sample's, and how long nobody may speak is the platform's.
        enable_rtvi=False,
        idle_timeout_secs=None,
    )
    runner = WorkerRunner(handle_sigint=False)
    await runner.add_workers(worker)
    running = asyncio.create_task(runner.run(), name="pipeline")
    hung_up = asyncio.create_task(call.hung_up.wait(), name="hung-up")
    try:
        await call.tell(
            "session_started",
            session_id=os.environ.get("FOUNDRY_AGENT_SESSION_ID") or "local",
            sample_rate=wire.SAMPLE_RATE,
            channels=wire.CHANNELS,
            turns=memory.memory.turns,
        )
        await asyncio.wait([hung_up, running], return_when=asyncio.FIRST_COMPLETED)
        if not hung_up.done():
            raise RuntimeError("the pipeline ended before the call did")
    finally:
        hung_up.cancel()
        await worker.cancel()
        await running


if __name__ == "__main__":
    app.run()
