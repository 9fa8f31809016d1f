"""An agent that does what it is told: one command in, one JSON answer out."""

import asyncio
import json
import os
import sys
import time
from pathlib import Path

from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.websockets import WebSocket

from trunkline.agentserver import InvocationAgentServerHost

app = InvocationAgentServerHost()
print("probe says hello", flush=True)


#: Who we are: the number of a process in a sandbox of its own is the same in every sandbox.
PROCESS = f"{os.readlink('/proc/self/ns/pid')} {os.getpid()} {time.time_ns()}"


def facts() -> dict[str, object]:
    return {
        "pid": PROCESS,
        "home": os.environ["HOME"],
        "cwd": os.getcwd(),
        "python": sys.version.split()[0],
        "environment": dict(os.environ),
    }


async def count(lines: int) -> str:
    """Print numbered lines, a thousand a second."""
    begun = time.monotonic()
    for number in range(lines):
        print(f"line {number} says what it has to say, and that is all of it", flush=True)
        if number % 20 == 19:
            await asyncio.sleep(max(0.0, begun + number / 1000 - time.monotonic()))
    return "counted"


@app.ws_handler
async def handle(websocket: WebSocket) -> None:
    async for text in websocket.iter_text():
        command, _, argument = text.partition(" ")
        match command:
            case "facts":
                answer: object = facts()
            case "remember":
                Path.home().joinpath("memory").write_text(argument)
                answer = "remembered"
            case "recall":
                answer = Path.home().joinpath("memory").read_text()
            case "print":
                line = "x" * 99 + "\n"
                for _ in range(int(argument) // 1000):
                    sys.stdout.write(line * 10)
                sys.stdout.flush()
                answer = "printed"
            case "say":
                print(argument, flush=True)
                answer = "said"
            case "count":
                answer = await count(int(argument))
            case "die":
                os._exit(int(argument))
            case "raise":
                raise RuntimeError(argument)
            case _:
                answer = text
        await websocket.send_text(json.dumps(answer))


async def for_ever():
    try:
        yield "data: begun\n\n"
        await asyncio.Event().wait()
    finally:
        print("the listener has left", flush=True)


@app.invoke_handler
async def invoke(request: Request) -> Response:
    match request.query_params.get("hold"):
        case "answer":
            await asyncio.Event().wait()
        case "stream":
            return StreamingResponse(for_ever(), media_type="text/event-stream")
    if request.query_params.get("stream"):

        async def parts():
            for n in range(3):
                yield f"data: {n}\n\n"
                await asyncio.sleep(0)

        return StreamingResponse(parts(), media_type="text/event-stream")
    body = (await request.body()).decode()
    return JSONResponse({"body": body, "headers": dict(request.headers), **facts()})


app.run()
