"""An agent that waits, or works in the background, or waits in the background."""

import asyncio
import json
import os
import time

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.websockets import WebSocket

from trunkline.agentserver import InvocationAgentServerHost

app = InvocationAgentServerHost()
PROCESS = f"{os.readlink('/proc/self/ns/pid')} {os.getpid()} {time.time_ns()}"
background = set()


async def work() -> None:
    """Use a tenth of a processor, and tell nobody."""
    while True:
        until = time.monotonic() + 0.01
        while time.monotonic() < until:
            pass
        await asyncio.sleep(0.09)


@app.ws_handler
async def handle(websocket: WebSocket) -> None:
    async for text in websocket.iter_text():
        command, _, argument = text.partition(" ")
        answer: object = text
        if command == "who":
            answer = PROCESS
        elif command == "work":
            background.add(asyncio.create_task(work()))
        elif command == "connect":
            background.add(await asyncio.open_connection("127.0.0.1", 3128))
        elif command == "sleep":
            await asyncio.sleep(float(argument))
        await websocket.send_text(json.dumps(answer))


@app.invoke_handler
async def invoke(request: Request) -> Response:
    return JSONResponse({"body": (await request.body()).decode()})


app.run()
