"""The command's whole story, against the platform it starts itself."""

import contextlib
import io
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from unittest import mock

import pytest

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


@pytest.fixture(scope="module")
def box(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Box]:
    box = Box(tmp_path_factory.mktemp("box"))
    box.start()
    try:
        assert box.run("env", "set", "GREETING", "hello you").returncode == 0
        deployed = box.run("deploy")
        assert deployed.returncode == 0, deployed.stderr
        assert re.fullmatch(r"parrot 1 ws://127\.0\.0\.1:\d+/api/projects/\S+\n", deployed.stdout)
        yield box
    finally:
        box.stop()


def test_connect(box: Box) -> None:
    done = box.run("connect", "parrot", stdin="one\ntwo\n")
    assert (done.returncode, done.stdout) == (0, "hello you\none\ntwo\n"), done.stderr
    assert re.search(r"^session [0-9a-f]+$", done.stderr, re.MULTILINE)


def test_the_agents_own_close_code(box: Box) -> None:
    done = box.run("connect", "parrot", stdin="leave\n")
    assert done.returncode == 3
    assert "closed 4002: the application's own code (left)" in done.stderr


def test_an_agent_that_fails_shows_why(box: Box) -> None:
    done = box.run("connect", "parrot", stdin="fail\n")
    assert done.returncode == 3
    assert "closed 1011" in done.stderr
    log = box.run("monitor", "parrot")
    assert "a caller came" in log.stdout
    assert "RuntimeError: as asked" in log.stdout


def test_ctrl_c_says_goodbye(box: Box) -> None:
    talk = box.popen("connect", "parrot", err=subprocess.PIPE)
    assert talk.stdout is not None
    assert talk.stdout.readline() == "hello you\n"
    talk.send_signal(signal.SIGINT)
    _, err = talk.communicate()
    assert talk.returncode == 0
    assert "closed 1000" in err


def test_a_file_there_and_back(box: Box, tmp_path: Path) -> None:
    sound, heard = tmp_path / "in.pcm", tmp_path / "out.pcm"
    sound.write_bytes(os.urandom(6400))
    done = box.run(
        *("connect", "parrot", "--send-file", str(sound), "--frame-bytes", "640"),
        *("--interval-ms", "5", "--out", str(heard)),
    )
    assert done.returncode == 0, done.stderr
    assert heard.read_bytes() == sound.read_bytes()


def test_invoke(box: Box) -> None:
    done = box.run("invoke", "parrot", '{"a": 1}')
    assert (done.returncode, done.stdout) == (0, '{"a": 1}'), done.stderr


def test_acting_for_somebody_takes_a_role(box: Box) -> None:
    refused = box.run("sessions", "list", "parrot", "--user-identity", "alice")
    assert refused.returncode == 1
    assert "takes the role impersonator" in refused.stderr
    token = box.run("token", "--role", "invoker", "--role", "impersonator").stdout.strip()
    box.env["TRUNKLINE_TOKEN"] = token
    try:
        done = box.run("invoke", "parrot", "hi", "--user-identity", "alice")
    finally:
        del box.env["TRUNKLINE_TOKEN"]
    assert (done.returncode, done.stdout) == (0, "hi"), done.stderr


def test_the_code_comes_back(box: Box) -> None:
    done = box.run("code", "download", "parrot", "--dest", "back")
    assert done.returncode == 0, done.stderr
    back = box.project / "back"
    assert (back / "main.py").read_text() == MAIN_PY


def test_a_wrong_token(box: Box) -> None:
    box.env["TRUNKLINE_TOKEN"] = "wrong"
    try:
        done = box.run("list")
    finally:
        del box.env["TRUNKLINE_TOKEN"]
    assert done.returncode == 1
    assert "set TRUNKLINE_TOKEN to a fresh token" in done.stderr


def test_a_log_is_followed_across_a_restart(box: Box) -> None:
    sid = "followed-session"
    assert box.run("connect", "parrot", "-s", sid, stdin="one\n").returncode == 0
    follower = box.popen("monitor", "parrot", "-s", sid, "--follow", err=subprocess.DEVNULL)
    assert follower.stdout is not None
    try:
        while "a caller came" not in follower.stdout.readline():
            pass
        port = box.env["TRUNKLINE_ENDPOINT"].rpartition(":")[2]
        box.stop()
        box.start(port)
        assert box.run("connect", "parrot", "-s", sid, stdin="two\n").returncode == 0
        seen = ""
        while "a caller came" not in seen:
            seen = follower.stdout.readline()
    finally:
        follower.send_signal(signal.SIGINT)
        follower.communicate()
    assert follower.returncode == 130
