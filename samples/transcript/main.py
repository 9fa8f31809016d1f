"""Live captions: one speaks, any number read along. Start it, and it listens on ``PORT``."""

import asyncio
import os
from collections.abc import Coroutine
from pathlib import Path

from starlette.websockets import WebSocket, WebSocketDisconnect

from captions import Line, Reader, Room, event
from recognizer import RATE, MoonshineStreams
from trunkline.agentserver import InvocationAgentServerHost

MAX_AUDIO_BYTES = 64 * 1024

streams = MoonshineStreams()
room = Room(Path(os.environ.get("HOME") or ".") / "captions.jsonl")
app = InvocationAgentServerHost()


@app.ws_handler
async def captions(websocket: WebSocket) -> None:
    query = websocket.query_params
    key = None if query.get("role") == "reader" else room.take_place(query.get("key"))
    reader = Reader()
    try:
        if key is None:
            room.enter(reader, role="reader")
            await _with_events(websocket, reader, _read_along(websocket, reader))
        else:
            room.enter(reader, role="speaker", key=key, sample_rate=RATE, channels=1)
            await _with_events(websocket, reader, _speak(websocket, reader))
    finally:
        room.leave(reader)
        if key is not None:
            room.leave_place()


async def _with_events(
    websocket: WebSocket, reader: Reader, listening: Coroutine[None, None, None]
) -> None:
    """Send the reader's events while something else goes on, until that ends."""

    async def send() -> None:
        while True:
            await websocket.send_text(await reader.next())

    tasks = [
        asyncio.create_task(listening),
        asyncio.create_task(send()),
        asyncio.create_task(reader.is_too_slow.wait()),
    ]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        if tasks[2] in done:
            await websocket.close(1013, "you read too slowly; connect again")
        for task in done:
            task.result()
    except WebSocketDisconnect:
        pass
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _read_along(websocket: WebSocket, reader: Reader) -> None:
    while (await websocket.receive())["type"] == "websocket.receive":
        reader.tell(event("error", code="read_only", message="only the speaker may send"))


async def _speak(websocket: WebSocket, reader: Reader) -> None:
    # Lines of earlier speeches keep their numbers.
    offset = room.last_id
    numbers: dict[int, int] = {}

    def hear(number: int, text: str, begins_s: float, ends_s: float, is_final: bool) -> None:
        if not text:
            return
        id_ = numbers.setdefault(number, offset + len(numbers) + 1)
        line = Line(id=id_, text=text, begins_s=round(begins_s, 2), ends_s=round(ends_s, 2))
        room.hear(line, is_final=is_final)

    stream = await streams.open(hear)
    print("somebody speaks", flush=True)
    try:
        while (message := await websocket.receive())["type"] == "websocket.receive":
            pcm = message.get("bytes")
            if pcm is None:
                reader.tell(event("error", code="no_text", message="send sound, not text"))
            elif len(pcm) % 2 or len(pcm) > MAX_AUDIO_BYTES:
                problem = f"sound is whole 16-bit samples, at most {MAX_AUDIO_BYTES} bytes"
                reader.tell(event("error", code="bad_audio", message=problem))
            else:
                await stream.feed(pcm)
    finally:
        await stream.aclose()
        print(f"the speaker left after {len(numbers)} lines", flush=True)


if __name__ == "__main__":
    app.run()
