"""An agent to start, and a log to look into."""

import asyncio
import contextlib
import os
import socket
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

from trunkline.protocol.ids import AgentName, NodeId, ProjectName, SessionId, SessionKey, VersionId
from trunkline.runtimes.interface import (
    Address,
    Instance,
    InstanceSpec,
    Launch,
    LogStream,
    Runtime,
)

#: Not the same in two runs of these tests at once: what a node left is looked for by it.
NODE = NodeId(f"node-{os.getpid()}")
AGENT = Path(__file__).with_name("agent.py")
AGENT_PLATFORM_ENVIRONMENT = {
    "PATH": os.defpath,
    "TZ": "Europe/Vienna",
    "TRUNKLINE_DATABASE_URL": "postgresql://platform:hunter2@db/trunkline",
}


class RecordingSink:
    """Keeps what an agent printed, and lets a test wait for it."""

    def __init__(self) -> None:
        self.data = {stream: bytearray() for stream in LogStream}
        self.closed: list[LogStream] = []
        self.events: list[tuple[str, str]] = []
        self.after_close = 0
        self._waiters: list[tuple[Callable[[], bool], asyncio.Event]] = []

    def write(self, stream: LogStream, data: bytes) -> None:
        self.after_close += stream in self.closed
        self.data[stream] += data
        self._tell()

    def close_stream(self, stream: LogStream) -> None:
        self.closed.append(stream)
        self._tell()

    def event(self, reason: str, message: str) -> None:
        self.events.append((reason, message))
        self._tell()

    @property
    def reasons(self) -> list[str]:
        return [reason for reason, _ in self.events]

    @property
    def stdout(self) -> str:
        return self.data[LogStream.STDOUT].decode()

    async def wait_until(self, condition: Callable[[], bool]) -> None:
        if condition():
            return
        event = asyncio.Event()
        self._waiters.append((condition, event))
        await event.wait()

    def _tell(self) -> None:
        for condition, event in self._waiters:
            if condition():
                event.set()


class Starter:
    """Starts the agent of these tests, each time for another session."""

    def __init__(self, runtime: Runtime, root: Path) -> None:
        self.runtime = runtime
        self._root = root
        self._number = 0

    def spec(
        self,
        *arguments: str,
        environment: Mapping[str, str] | None = None,
        ready_timeout_s: float = 20,
        stop_timeout_s: float = 20,
    ) -> InstanceSpec:
        self._number += 1
        home = self._root / f"home-{self._number}"
        home.mkdir(parents=True)
        return InstanceSpec(
            key=SessionKey(
                ProjectName("default"), AgentName("echo"), SessionId(f"s{self._number}")
            ),
            version=VersionId("1"),
            launch=Launch(
                command=(sys.executable, "-I", str(AGENT), *arguments),
                working_dir=str(AGENT.parent),
                environment={"FROM_LAUNCH": "launch", "BOTH": "launch", "PATH": "/env/bin"},
            ),
            home=home,
            environment=environment or {},
            node=NODE,
            ready_timeout_s=ready_timeout_s,
            stop_timeout_s=stop_timeout_s,
        )

    async def start(self, *arguments: str, **options: float) -> tuple[Instance, RecordingSink]:
        sink = RecordingSink()
        return await self.runtime.start(self.spec(*arguments, **options), sink), sink


async def ask(address: Address, path: str) -> bytes:
    """Return what the agent answers; nothing if it hangs up."""
    if address.path is not None:
        reader, writer = await asyncio.open_unix_connection(address.path)
    else:
        reader, writer = await asyncio.open_connection("127.0.0.1", address.port)
    try:
        writer.write(f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        with contextlib.suppress(ConnectionError):
            return await reader.read()
        return b""
    finally:
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()


def find_process(pid: int, namespace: str) -> int | None:
    """Return our number for a process that has the number ``pid`` in its own namespace."""
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if os.readlink(folder / "ns" / "pid") != namespace:
                continue
            status = (folder / "status").read_text()
            numbers = status.partition("NSpid:")[2].splitlines()[0].split()
            if numbers[-1] == str(pid):
                return int(folder.name)
    return None


async def wait_gone(pid: int) -> None:
    """Wait until no such process runs; one that only waits for its parent counts as gone."""
    while is_running(pid):  # noqa: ASYNC110 - nothing tells us about a process that isn't our child
        await asyncio.sleep(0.01)


def is_running(pid: int) -> bool:
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False
    return stat.rpartition(")")[2].split()[0] not in "ZX"


def can_bind(port: int) -> bool:
    with socket.socket() as other:
        try:
            other.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True
