"""Autobahn's cases, and the agents they are run against."""

import asyncio
import contextlib
import json
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

PARALLEL_CASES = 8
_START_TIMEOUT_S = 20
#: In a case's log: what was agreed on to be the end didn't come within a second.
_KILLED = ["KLE"]
_ACCEPTABLE = frozenset({"OK", "NON-STRICT", "INFORMATIONAL"})


@dataclass(frozen=True)
class Verdict:
    """What a case says of the exchange of messages, and of the closing handshake.

    Attributes:
        behavior: ``OK``, ``NON-STRICT``, ``INFORMATIONAL``, or something worse.
        close: The same of the close.
        code: The close code that came back, None for none.
        late: Which of Autobahn's own time limits the case has met, in words, "" for none.
    """

    behavior: str
    close: str
    code: int | None
    late: str = field(default="", compare=False)

    @property
    def is_acceptable(self) -> bool:
        return self.behavior in _ACCEPTABLE and self.close in _ACCEPTABLE


async def run_cases(
    url: str,
    report: Path,
    include: Sequence[str] = (),
    exclude: Sequence[str] = (),
    *,
    at_once: int = PARALLEL_CASES,
) -> dict[str, Verdict]:
    """Run Autobahn's cases against a server.

    Args:
        url: Where it is.
        report: A folder for pages about each case, to read when one fails.
        include: Which cases, such as ``9.*``; none for all.
        exclude: Which of them not.
        at_once: How many run at a time.
    """
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    program = shutil.which("kosoku", path=path)
    assert program is not None, "kosoku isn't installed; it is one of the development dependencies"
    arguments = [url, "-p", str(at_once), "-o", str(report)]
    for case in include:
        arguments += ["-i", case]
    for case in exclude:
        arguments += ["-x", case]
    process = await asyncio.create_subprocess_exec(
        program, *arguments, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    try:
        said, _ = await process.communicate()
    except BaseException:
        process.kill()
        await process.wait()
        raise
    index = report / "index.json"
    assert index.exists(), said.decode(errors="replace")
    # One name of a server, which is its address, and all its cases.
    (cases,) = json.loads(index.read_text()).values()
    return {
        case: Verdict(
            found["behavior"],
            found["behaviorClose"],
            found["remoteCloseCode"],
            _late(json.loads((report / found["reportfile"]).read_text())),
        )
        for case, found in cases.items()
    }


def _late(said: dict[str, Any]) -> str:
    if "did not finish within" in str(said["result"]):
        return str(said["result"])
    if said["droppedByMe"] and _KILLED in said["wirelog"]:
        return "the other side's part of the closing handshake did not come within a second."
    # A connection that the other side has dropped isn't late.
    return ""


def unacceptable(verdicts: dict[str, Verdict]) -> dict[str, Verdict]:
    """Return the cases that failed."""
    return {case: verdict for case, verdict in verdicts.items() if not verdict.is_acceptable}


@contextlib.contextmanager
def agent_process(script: Path, log_path: Path) -> Iterator[str]:
    """Run an agent that listens on ``PORT``, and return the URL of its WebSocket."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port = sock.getsockname()[1]
    with log_path.open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, str(script)], stdout=log, stderr=log,
            env={**os.environ, "PORT": str(port)},
        )  # fmt: skip
    try:
        _wait_listening(process, port, log_path)
        yield f"ws://127.0.0.1:{port}/invocations_ws"
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def port_of(url: str) -> int:
    port = urlsplit(url).port
    assert port is not None
    return port


def _wait_listening(process: subprocess.Popen[bytes], port: int, log_path: Path) -> None:
    deadline = time.monotonic() + _START_TIMEOUT_S
    while time.monotonic() < deadline and process.poll() is None:
        with contextlib.suppress(OSError):
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
            return
        time.sleep(0.05)
    raise AssertionError(f"the agent didn't start: {log_path.read_text(errors='replace')}")
