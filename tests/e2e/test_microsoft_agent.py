"""An agent written against Microsoft's own package runs unchanged."""

from pathlib import Path

from tests.support.platform import Platform

YAML = """\
kind: hosted
name: quickstart
protocols:
  - {protocol: invocations_ws, version: 1.0.0}
  - {protocol: invocations, version: 2.0.0}
"""
REQUIREMENTS = "azure-ai-agentserver-invocations==1.2.0\n"
MAIN = """\
from azure.ai.agentserver.invocations import InvocationAgentServerHost
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.websockets import WebSocket

app = InvocationAgentServerHost()


@app.ws_handler
async def handle(websocket: WebSocket) -> None:
    async for message in websocket.iter_text():
        await websocket.send_text(f"echo: {message}")


@app.invoke_handler
async def invoke(request: Request) -> Response:
    return JSONResponse({"echo": await request.json(), "session": request.state.session_id})


if __name__ == "__main__":
    app.run()
"""


async def test_the_quick_start_echo_agent(platform: Platform, token: str, tmp_path: Path) -> None:
    (tmp_path / "agent.yaml").write_text(YAML)
    (tmp_path / "requirements.txt").write_text(REQUIREMENTS)
    (tmp_path / "main.py").write_text(MAIN)
    platform.deploy(tmp_path)
    async with platform.connect("quickstart", "s-1", token=token) as websocket:
        await websocket.send("hello")
        assert await websocket.recv() == "echo: hello"
    assert websocket.close_code == 1000
    done = platform.run("invoke", "quickstart", '{"a": 1}', "--session-id", "s-1")
    assert done.code == 0, done.stderr
    assert '"echo":{"a":1}' in done.stdout
    assert '"session":"s-1"' in done.stdout
    assert "on port" in platform.events("quickstart", "s-1")
