"""The servers compared: each runs the same handler, in a process of its own."""

import argparse
import asyncio
import importlib.util
import json
import socket
from importlib.metadata import version

import uvicorn
from starlette.applications import Starlette
from starlette.routing import WebSocketRoute
from starlette.types import ASGIApp
from starlette.websockets import WebSocket

from trunkline.agentserver import InvocationAgentServerHost

PATH = "/invocations_ws"
#: What has to be importable, and which of uvicorn's WebSocket classes it stands for.
UVICORN = {"websockets": "websockets-sansio", "wsproto": "wsproto"}


async def talk(websocket: WebSocket) -> None:
    while (message := await websocket.receive())["type"] == "websocket.receive":
        await websocket.send_bytes(message["bytes"])


async def accept_and_talk(websocket: WebSocket) -> None:
    await websocket.accept()
    await talk(websocket)


def names() -> tuple[list[str], list[str]]:
    """Return which servers can be compared, ours first, and which aren't installed."""
    found = [name for name in UVICORN if importlib.util.find_spec(name) is not None]
    return ["trunkline", *found], [name for name in UVICORN if name not in found]


def label(name: str) -> str:
    """Return a server's name and version for people."""
    if name == "trunkline":
        return f"trunkline {version('trunkline')} (picows {version('picows')})"
    return f"uvicorn {version('uvicorn')} + {UVICORN[name]} {version(name)}"


async def _serve_uvicorn(app: ASGIApp, ws: str) -> None:
    sock = socket.create_server(("127.0.0.1", 0), backlog=2048)
    server = uvicorn.Server(
        uvicorn.Config(
            app, ws=ws, ws_per_message_deflate=False, ws_ping_interval=None, lifespan="off",
            access_log=False, log_config=None,
        )
    )  # fmt: skip
    print(json.dumps({"port": sock.getsockname()[1]}), flush=True)
    await server.serve([sock])


async def _serve_trunkline() -> None:
    app = InvocationAgentServerHost(ws_keepalive_interval_s=0)
    app.ws_handler(talk)
    # The port is taken again at once; nobody else gets it on a loopback in between but by chance.
    with socket.create_server(("127.0.0.1", 0)) as sock:
        port = sock.getsockname()[1]
    serving = asyncio.get_running_loop().create_task(app.run_async("127.0.0.1", port))
    while not serving.done():
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", port)
        except OSError:
            await asyncio.sleep(0.02)
        else:
            writer.close()
            break
    print(json.dumps({"port": port}), flush=True)
    await serving


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("name", choices=["trunkline", *UVICORN])
    name = parser.parse_args().name
    if name == "trunkline":
        serving = _serve_trunkline()
    else:
        app = Starlette(routes=[WebSocketRoute(PATH, accept_and_talk)])
        serving = _serve_uvicorn(app, UVICORN[name])
    with asyncio.Runner(loop_factory=uvicorn.Config("").get_loop_factory()) as runner:
        runner.run(serving)


if __name__ == "__main__":
    main()
