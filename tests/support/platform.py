"""The whole platform as a user starts it: ``trunkline up`` in a process of its own."""

import asyncio
import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from websockets.asyncio.client import connect

READY = re.compile(r"^ready (https?://127\.0\.0\.1:\d+)$")
START_TIMEOUT_S = 60


@dataclass(frozen=True)
class Finished:
    """What a command left."""

    code: int
    stdout: str
    stderr: str


class Platform:
    """One platform on a state directory; start it, stop it, start it again."""

    def __init__(self, state_dir: Path, *arguments: str, **settings: str) -> None:
        self.state_dir = state_dir
        self.arguments = arguments
        self.settings = settings
        self.url = ""
        self._process: subprocess.Popen[str] | None = None
        self.log_path = state_dir.parent / f"{state_dir.name}.log"

    @property
    def endpoint(self) -> str:
        return f"{self.url}/api/projects/default"

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    @property
    def serving_pid(self) -> int:
        """The process that serves: it has the port's and the agents' sockets open."""
        return serving_child(self.pid)

    @property
    def workers(self) -> list[int]:
        """The gateway's workers, if there are several, in the order they were started."""
        return children_of(self.serving_pid, b"trunkline.platform.workers.process")

    def start(self) -> "Platform":
        """Start it and wait for its ready line."""
        with self.log_path.open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "trunkline", "up", "--port", "0",
                 "--state-dir", str(self.state_dir), *self.arguments],
                stdout=subprocess.PIPE, stderr=log, text=True,
                env=clean_environment() | self.settings,
            )  # fmt: skip
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        match = READY.match(line)
        assert match, f"no ready line but {line!r}: {self.log()}"
        self.url = match[1]
        return self

    def signal(self, number: int) -> None:
        assert self._process is not None
        self._process.send_signal(number)

    def wait(self, timeout_s: float = 30) -> int:
        """Wait for it to end; return its exit code."""
        assert self._process is not None
        code = self._process.wait(timeout_s)
        assert self._process.stdout is not None
        self._process.stdout.close()
        self._process = None
        return code

    def stop(self) -> int:
        """SIGTERM, and wait."""
        if self._process is None:
            return 0
        self.signal(signal.SIGTERM)
        return self.wait()

    def log(self) -> str:
        return self.log_path.read_text(errors="replace")

    def run(self, *arguments: str, stdin: str = "", cwd: Path | None = None) -> Finished:
        """Run one ``trunkline`` command against this platform."""
        done = subprocess.run(
            [sys.executable, "-m", "trunkline", *arguments],
            input=stdin, capture_output=True, text=True, timeout=120, check=False, cwd=cwd,
            env=clean_environment()
            | {"TRUNKLINE_ENDPOINT": self.endpoint, "TRUNKLINE_HOME": str(self.state_dir)},
        )  # fmt: skip
        return Finished(done.returncode, done.stdout, done.stderr)

    def deploy(self, folder: Path, cwd: Path | None = None) -> list[str]:
        """Deploy a folder; return name, version and endpoint."""
        done = self.run("deploy", str(folder), cwd=cwd)
        assert done.code == 0, f"{done.stdout}{done.stderr}\n{self.log()}"
        return done.stdout.split()

    def token(self, *arguments: str) -> str:
        done = self.run("token", *arguments)
        assert done.code == 0, done.stderr
        return done.stdout.strip()

    def websocket_url(self, agent: str, session_id: str | None = None, query: str = "") -> str:
        base = f"{self.endpoint}/agents/{agent}/endpoint/protocols/invocations_ws?api-version=v1"
        if session_id is not None:
            base += f"&agent_session_id={session_id}"
        return base.replace("http://", "ws://", 1) + query

    def connect(self, agent: str, session_id: str | None = None, *, token: str) -> connect:
        return connect(
            self.websocket_url(agent, session_id),
            additional_headers={"Authorization": f"Bearer {token}"},
            proxy=None,
            open_timeout=60,
            max_size=None,
        )

    def events(self, agent: str, session_id: str, *, tail: int = 100) -> str:
        """Return the ends of both logs of a session, so many lines of each."""
        console = self.run("monitor", agent, "--session-id", session_id, "--tail", str(tail))
        system = self.run(
            "monitor", agent, "--session-id", session_id, "--type", "system", "--tail", str(tail)
        )
        return console.stdout + system.stdout


@contextlib.contextmanager
def running_platform(*arguments: str, **settings: str) -> Iterator[Platform]:
    """Run a platform on a state directory of its own; nothing may have gone wrong in it."""
    folder = Path(tempfile.mkdtemp(prefix="trunkline-test-"))
    platform = Platform(folder / "state", *arguments, **settings)
    try:
        yield platform.start()
        code = platform.stop()
        log = platform.log()
    finally:
        platform.stop()
        shutil.rmtree(folder)
    assert code == 0, log
    assert "Traceback" not in log, log


def clean_environment() -> dict[str, str]:
    """This process's environment without what would steer trunkline."""
    return {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("TRUNKLINE_", "FOUNDRY_", "AGENT_"))
    }


def serving_child(pid: int) -> int:
    """Return the platform's own process among the keeper's children, some of which are agents."""
    # The newest: one that was replaced may not have ended yet.
    found = children_of(pid, b"trunkline.platform.process")
    assert found, f"process {pid} keeps no platform"
    return found[-1]


def children_of(pid: int, module: bytes) -> list[int]:
    """Return those children of a process that run a module, in the order they were started."""
    found = []
    for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
        with contextlib.suppress(FileNotFoundError):
            if module in Path(f"/proc/{child}/cmdline").read_bytes().split(b"\0"):
                found.append(int(child))
    return found


async def ask(websocket: Any, command: str) -> Any:
    """Send a command to the probe agent and return its answer."""
    await websocket.send(command)
    return json.loads(await websocket.recv())


def number_of(process: str) -> int | None:
    """Return our number for a process of an agent, by what it says of itself; None: it's gone.

    Args:
        process: The namespace its number is of, its number, and when it started.
    """
    namespace, number, told_at_ns = process.rsplit(" ", 2)
    booted_at_s = time.time() - time.clock_gettime(time.CLOCK_BOOTTIME)
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if os.readlink(folder / "ns" / "pid") != namespace:
                continue
            status = (folder / "status").read_text()
            ticks = int((folder / "stat").read_text().rpartition(")")[2].split()[19])
        except OSError:
            continue
        # The kernel gives a namespace's number to the next one.
        if booted_at_s + ticks / os.sysconf("SC_CLK_TCK") > int(told_at_ns) / 1e9 + 0.02:
            continue
        names = dict(line.split(":", 1) for line in status.splitlines())
        if names["NSpid"].split()[-1] == number and "Z" not in names["State"]:
            return int(folder.name)
    return None


def kill(process: str) -> None:
    """End a process of an agent at once."""
    number = number_of(process)
    assert number is not None
    os.kill(number, signal.SIGKILL)


def is_alive(process: str) -> bool:
    """Whether a process of an agent runs (a zombie doesn't)."""
    return number_of(process) is not None


async def until_gone(process: str, timeout_s: float = 20) -> None:
    """Wait until a process has ended: it isn't ours to wait for otherwise."""
    deadline = time.monotonic() + timeout_s
    while is_alive(process):
        assert time.monotonic() < deadline, f"process {process} is still there"
        await asyncio.sleep(0.02)


async def until_ended(number: int, timeout_s: float = 20) -> None:
    """Wait until the process with our own number has ended."""
    deadline = time.monotonic() + timeout_s
    while True:
        try:
            state = Path(f"/proc/{number}/stat").read_text().rpartition(")")[2].split()[0]
        except FileNotFoundError:
            return
        if state == "Z":
            return
        assert time.monotonic() < deadline, f"process {number} is still there"
        await asyncio.sleep(0.02)
