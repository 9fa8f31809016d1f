"""A platform that the command starts itself, and the command run against it in this process."""

import contextlib
import io
import os
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from unittest import mock

from trunkline.cli import talking
from trunkline.cli.main import main

AGENT_YAML = """\
kind: hosted
name: parrot
protocols:
  - protocol: invocations_ws
    version: 1.0.0
  - protocol: invocations
    version: 2.0.0
environment_variables:
  - name: GREETING
    value: ${GREETING}
"""
MAIN_PY = """\
import os

from starlette.requests import Request
from starlette.responses import Response
from starlette.websockets import WebSocket

from trunkline.agentserver import InvocationAgentServerHost

app = InvocationAgentServerHost()


@app.ws_handler
async def talk(websocket: WebSocket) -> None:
    print("a caller came", flush=True)
    await websocket.send_text(os.environ["GREETING"])
    while (message := await websocket.receive())["type"] == "websocket.receive":
        text = message.get("text")
        if text == "fail":
            raise RuntimeError("as asked")
        if text == "leave":
            await websocket.close(4002, "left")
            return
        if text is not None:
            await websocket.send_text(text)
        else:
            await websocket.send_bytes(message["bytes"])


@app.invoke_handler
async def invoke(request: Request) -> Response:
    return Response(await request.body(), media_type=request.headers["content-type"])


app.run()
"""


@dataclass
class Done:
    returncode: int
    stdout: str
    stderr: str


def _text(stream: io.TextIOWrapper) -> str:
    stream.flush()
    raw = stream.buffer
    assert isinstance(raw, io.BytesIO)
    return raw.getvalue().decode()


class Box:
    """A state directory, a project folder, and the platform that runs on them."""

    def __init__(self, root: Path) -> None:
        self.project = root / "project"
        self.project.mkdir()
        (self.project / "agent.yaml").write_text(AGENT_YAML)
        (self.project / "main.py").write_text(MAIN_PY)
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("TRUNKLINE", "FOUNDRY"))}
        self.env = {**kept, "TRUNKLINE_HOME": str(root / "state")}
        self.platform: subprocess.Popen[str] | None = None

    def popen(self, *words: str, err: int | None = None) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-m", "trunkline", *words],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=err,
            text=True,
            cwd=self.project,
            env=self.env,
        )

    def run(self, *words: str, stdin: str = "") -> Done:
        """Run a command in this process, which spares it a second of imports."""
        out, err = (io.TextIOWrapper(io.BytesIO(), encoding="utf-8") for _ in range(2))
        reader, writer = os.pipe()
        os.write(writer, stdin.encode())
        os.close(writer)
        try:
            with (
                mock.patch.object(talking, "STDIN", reader),
                mock.patch.object(sys, "stdin", io.StringIO(stdin)),
                mock.patch.dict(os.environ, self.env, clear=True),
                contextlib.chdir(self.project),
                contextlib.redirect_stdout(out),
                contextlib.redirect_stderr(err),
            ):
                code = main(words)
        finally:
            os.close(reader)
        return Done(code, _text(out), _text(err))

    def start(self, port: str = "0") -> str:
        self.platform = self.popen("up", "--port", port)
        assert self.platform.stdout is not None
        line = self.platform.stdout.readline()
        assert line.startswith("ready http://127.0.0.1:"), line
        self.env["TRUNKLINE_ENDPOINT"] = line.split()[1]
        return line.strip().rpartition(":")[2]

    def stop(self) -> None:
        if self.platform is not None:
            self.platform.send_signal(signal.SIGTERM)
            self.platform.communicate()
            self.platform = None
