"""A spoken agent without models: loudness is speech, a 660 Hz tone is the answer.

It speaks the wire of the voice sample, so a page's whole path of sound is used: microphone, frames,
agent, frames, loudspeaker, and an answer that is interrupted.
"""

import array
import asyncio
import json
import math
import struct

from starlette.websockets import WebSocket

from trunkline.agentserver import InvocationAgentServerHost

RATE = 24_000
TONE_HZ = 660
FRAME_S = 0.04
LOUD = 400
SILENCE_S = 0.4
ANSWER_S = 6.0

app = InvocationAgentServerHost()


def tone(index: int) -> bytes:
    count = int(RATE * FRAME_S)
    samples = array.array(
        "h",
        (
            int(9000 * math.sin(2 * math.pi * TONE_HZ * (index * count + n) / RATE))
            for n in range(count)
        ),
    )
    return struct.pack("<II", RATE, 1) + samples.tobytes()


class Call:
    def __init__(self, websocket: WebSocket) -> None:
        self.websocket = websocket
        self.answer: asyncio.Task[None] | None = None
        self.loud_s = self.quiet_s = self.heard_s = 0.0
        self.is_speaking = False
        self.played_ms = 0

    async def event(self, kind: str, **fields: object) -> None:
        await self.websocket.send_text(json.dumps({"type": kind, **fields}))

    async def hear(self, pcm: bytes) -> None:
        samples = array.array("h", pcm)
        rms = math.sqrt(sum(s * s for s in samples) / len(samples))
        seconds = len(samples) / RATE
        if rms > LOUD:
            self.loud_s, self.quiet_s = self.loud_s + seconds, 0.0
        else:
            self.quiet_s += seconds
            if self.quiet_s > 0.2 and not self.is_speaking:
                self.loud_s = 0.0
        if not self.is_speaking and self.loud_s > 0.1:
            self.is_speaking = True
            print("somebody speaks", flush=True)
            await self.event("user_speech_started")
            await self.interrupt()
        if self.is_speaking and self.quiet_s > SILENCE_S:
            self.is_speaking = False
            await self.event("user_speech_stopped")
            await self.event("transcription", text=f"{self.loud_s:.1f} s of speech")
            await self.event("bot_text", text="a tone")
            self.loud_s = 0.0
            self.answer = asyncio.create_task(self.speak())

    async def speak(self) -> None:
        begun = asyncio.get_running_loop().time()
        for index in range(int(ANSWER_S / FRAME_S)):
            # A quarter of a second ahead of the loudspeaker, as the voice sample is.
            ahead = index * FRAME_S - (asyncio.get_running_loop().time() - begun)
            await asyncio.sleep(max(0.0, ahead - 0.25))
            await self.websocket.send_bytes(tone(index))
            self.played_ms = int(max(0.0, asyncio.get_running_loop().time() - begun) * 1000)
        await self.event("response_done", played_ms=int(ANSWER_S * 1000))

    async def interrupt(self) -> None:
        if self.answer is not None and not self.answer.done():
            self.answer.cancel()
            await self.event("interrupted", played_ms=self.played_ms)


@app.ws_handler
async def talk(websocket: WebSocket) -> None:
    call = Call(websocket)
    await call.event("session_started", sample_rate=RATE, channels=1)
    while (message := await websocket.receive())["type"] == "websocket.receive":
        if (pcm := message.get("bytes")) is not None:
            await call.hear(pcm)
    if call.answer is not None:
        call.answer.cancel()


app.run()
