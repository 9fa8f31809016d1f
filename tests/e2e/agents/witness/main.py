"""An agent that writes down in its home that it was started, and tells what stands there."""

import json
import os
import time
from pathlib import Path

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.websockets import WebSocket

from trunkline.agentserver import InvocationAgentServerHost

#: Who we are: the number of a process in a sandbox of its own is the same in every sandbox.
PROCESS = f"{os.readlink('/proc/self/ns/pid')} {os.getpid()} {time.time_ns()}"
STARTS = Path.home() / "starts"
with STARTS.open("a") as file:
    file.write(f"{PROCESS}\n")

app = InvocationAgentServerHost()


def facts() -> dict[str, object]:
    return {"pid": PROCESS, "starts": STARTS.read_text().splitlines()}


@app.ws_handler
async def handle(websocket: WebSocket) -> None:
    async for text in websocket.iter_text():
        command, _, argument = text.partition(" ")
        if command == "remember":
            Path.home().joinpath("memory").write_text(argument)
        elif command == "say":
            print(argument, flush=True)
        memory = Path.home() / "memory"
        await websocket.send_text(
            json.dumps({**facts(), "memory": memory.read_text() if memory.exists() else None})
        )


@app.invoke_handler
async def invoke(request: Request) -> Response:
    return JSONResponse({**facts(), "body": (await request.body()).decode()})


app.run()
