"""An agent that counts: it sees that nothing is missing, and lets its caller see the same.

A message is its number and any text behind it. Each is answered with its number and as much text;
one that isn't the next is answered with what was wrong, and the conversation ends.
"""

import asyncio
import contextlib
import itertools
import os

from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.websockets import WebSocket

from trunkline.agentserver import InvocationAgentServerHost

app = InvocationAgentServerHost()
#: Set by a call that says so: then those end that go on until then.
finish = asyncio.Event()
#: Slow to be ready, for those who look at what happens meanwhile.
DELAY_S = float(os.environ.get("START_DELAY_S", "0"))


@app.ws_handler
async def handle(websocket: WebSocket) -> None:
    expected = 0
    async for text in websocket.iter_text():
        number, _, rest = text.partition(" ")
        if number == "print":
            for line in range(int(rest)):
                print(f"line {line}", flush=True)
                await asyncio.sleep(0.0005)
            await websocket.send_text("printed")
            continue
        if number != str(expected):
            await websocket.send_text(f"{number} came, and {expected} should have")
            await websocket.close(4000)
            return
        expected += 1
        await websocket.send_text(text)


@app.invoke_handler
async def invoke(request: Request) -> Response:
    seconds = request.query_params.get("seconds")
    if "finish" in request.query_params:
        finish.set()

    def is_over(tenth):
        return finish.is_set() if seconds is None else tenth >= int(float(seconds) * 10)

    async def parts():
        for tenth in itertools.count():
            if is_over(tenth):
                return
            yield f"{tenth}\n"
            await asyncio.sleep(0.1)

    return StreamingResponse(parts(), media_type="text/plain")


with contextlib.suppress(KeyboardInterrupt):
    if DELAY_S:
        import time

        time.sleep(DELAY_S)
    app.run()
