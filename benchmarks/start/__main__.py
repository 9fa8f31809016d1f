"""How long a caller waits for a new session: connect to first frame, forked, kept ready, started.

Three platforms run side by side, all with each session in its sandbox. One forks sessions from the
zygote of their version, one starts each as a program, for which a sandbox's launcher is kept ready,
and one does that ahead: it keeps a whole session ready, which is a caller's who names none. On each
there are two agents: one on trunkline's host and one, unmodified, on Microsoft's. They take turns,
so that whatever else the machine does falls on all of them. Each start is of a new session, through
the gateway, with a token. What one more idle session takes of memory that nobody shares is read off
the kernel afterwards.
"""

import argparse
import asyncio
import contextlib
import re
import shutil
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx2

from benchmarks.support.platforms import wait_for_start
from benchmarks.support.report import console, machine, table
from tests.support.platform import Platform

AGENT = """kind: hosted
name: NAME
protocols:
  - protocol: invocations_ws
    version: 1.0.0
"""
HANDLER = """

@app.ws_handler
async def handle(websocket):
    async for text in websocket.iter_text():
        await websocket.send_text(text)


app.run()
"""
OURS = (
    "from trunkline.agentserver import InvocationAgentServerHost\n\n"
    "app = InvocationAgentServerHost()"
) + HANDLER
MICROSOFT = (
    "from azure.ai.agentserver.invocations import InvocationAgentServerHost\n\n"
    "app = InvocationAgentServerHost()"
) + HANDLER
SETTLE_S = 2


@dataclass
class Case:
    """One agent on one platform, and what was measured."""

    name: str
    platform: Platform
    agent: str
    token: str
    waits_ms: list[float] = field(default_factory=list)
    stopping: list[asyncio.Task[None]] = field(default_factory=list)
    cpu_ms: float = 0.0
    session_mib: float = 0.0

    async def start_one(self, http: httpx2.AsyncClient, number: int) -> None:
        """Start a new session, and note how long its first answer took."""
        named = None if self.is_kept_ready else f"{self.agent}-{number}"
        if self.is_kept_ready and number:
            await self.wait_for(http, lambda start: bool(start["ready"]["kept"]))
        cpu = cpu_s(self.platform.pid)
        begun = time.perf_counter()
        async with self.platform.connect(self.agent, named, token=self.token) as websocket:
            await websocket.send("hello")
            assert await websocket.recv() == "hello"
            self.waits_ms.append((time.perf_counter() - begun) * 1000)
            self.cpu_ms += (cpu_s(self.platform.pid) - cpu) * 1000
            assert websocket.response is not None
            session = websocket.response.headers["x-agent-session-id"]
        # One may take its time, and mostly sleeps.
        self.stopping.append(asyncio.create_task(self.stop(http, session)))

    async def stop(self, http: httpx2.AsyncClient, session: str) -> None:
        answer = await http.post(
            f"{self.platform.endpoint}/agents/{self.agent}/endpoint/sessions/{session}:stop",
            params={"api-version": "v1"},
            headers={"Authorization": f"Bearer {self.token}"},
        )
        assert answer.is_success, answer.text

    @property
    def is_kept_ready(self) -> bool:
        """Whether its sessions are started before anybody asks for them."""
        return self.name.endswith("kept ready")

    async def wait_for(
        self, http: httpx2.AsyncClient, holds: Callable[[Mapping[str, Any]], bool]
    ) -> None:
        """Wait until the version's sessions are started in a certain way."""
        await wait_for_start(self.platform, self.agent, holds, http=http, token=self.token)

    async def measure_memory(self, http: httpx2.AsyncClient, sessions: int) -> None:
        """Note how much memory one more idle session takes that is its alone."""
        names = [f"{self.agent}-idle-{number}" for number in range(sessions)]
        async with contextlib.AsyncExitStack() as stack:
            sizes = []
            for name in names:
                websocket = await stack.enter_async_context(
                    self.platform.connect(self.agent, name, token=self.token)
                )
                await websocket.send("hello")
                assert await websocket.recv() == "hello"
                if name in (names[0], names[-1]):
                    await asyncio.sleep(SETTLE_S)
                    sizes.append(unique_mib(self.platform))
            first, last = sizes
            self.session_mib = (last - first) / (sessions - 1)
        await asyncio.gather(*(self.stop(http, name) for name in names))


def below(pid: int) -> list[int]:
    """Return the processes below one, all the way down."""
    found = []
    waiting = [pid]
    while waiting:
        parent = waiting.pop()
        with contextlib.suppress(OSError):
            text = Path(f"/proc/{parent}/task/{parent}/children").read_text()
            children = [int(word) for word in text.split()]
            found += children
            waiting += children
    return found


def unique_mib(platform: Platform) -> float:
    """Return the memory that agents and all that is around them share with nobody."""
    kib = 0
    for pid in set(below(platform.pid)) - {platform.serving_pid}:
        with contextlib.suppress(OSError):
            for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
                if line.startswith(("Private_Clean", "Private_Dirty")):
                    kib += int(line.split()[1])
    return kib / 1024


def cpu_s(pid: int) -> float:
    """Return the processor time of a process and all below it, with those that ended."""
    total = 0
    for each in (pid, *below(pid)):
        with contextlib.suppress(OSError):
            fields = Path(f"/proc/{each}/stat").read_text().rpartition(")")[2].split()
            total += sum(map(int, fields[11:15]))
    return total / 100


def share(values: list[float], part: float) -> str:
    ordered = sorted(values)
    return f"{ordered[round((len(ordered) - 1) * part)]:.0f}"


def deploy(platform: Platform, folder: Path, name: str, source: str, requires: str) -> None:
    """Write an agent's folder and deploy it."""
    place = folder / name
    place.mkdir(parents=True)
    (place / "agent.yaml").write_text(AGENT.replace("NAME", name))
    (place / "main.py").write_text(source)
    if requires:
        (place / "requirements.txt").write_text(requires + "\n")
    platform.deploy(place)


async def measure(cases: list[Case], starts: int, idle: int) -> None:
    async with httpx2.AsyncClient(timeout=60, trust_env=False) as http:
        for case in cases:
            # What only the first start of a version pays isn't a session's.
            await case.start_one(http, 0)
            if "forked" in case.name:
                await case.wait_for(http, lambda start: start["mode"] == "zygote")
            await case.start_one(http, 1)
            case.waits_ms.clear()
            case.cpu_ms = 0.0
        for number in range(2, starts + 2):
            for case in cases:
                await case.start_one(http, number)
        for case in cases:
            await asyncio.gather(*case.stopping)
        for case in cases:
            # Kept ready, it is the same process as started; one more would be made meanwhile.
            if not case.is_kept_ready:
                await case.measure_memory(http, idle)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--starts", type=int, default=20, help="of each kind")
    parser.add_argument("--idle", type=int, default=6, help="sessions whose memory is measured")
    options = parser.parse_args()
    pinned = Path(__file__).parents[2] / "requirements" / "bench-host.txt"
    found = re.search(r"^azure-ai-agentserver-invocations==\S+", pinned.read_text(), re.MULTILINE)
    assert found is not None
    folder = Path(tempfile.mkdtemp(prefix="trunkline-bench-"))
    platforms = {
        "forked": Platform(folder / "forked", TRUNKLINE_PROCESS_START="zygote"),
        "kept ready": Platform(
            folder / "ready", TRUNKLINE_PROCESS_START="spawn", TRUNKLINE_SESSIONS_READY_MAX="1"
        ),
        "started": Platform(folder / "started", TRUNKLINE_PROCESS_START="spawn"),
    }
    cases = []
    try:
        for words, platform in platforms.items():
            platform.start()
            token = platform.token()
            for name, source, requires in (
                ("trunkline", OURS, ""), ("microsoft", MICROSOFT, found[0])
            ):  # fmt: skip
                deploy(platform, folder / f"agents-{words}", name, source, requires)
                cases.append(Case(f"{name}'s host, {words}", platform, name, token))
        asyncio.run(measure(cases, options.starts, options.idle))
    finally:
        for platform in platforms.values():
            platform.stop()
        shutil.rmtree(folder)
    rows = [
        (
            case.name,
            *(share(case.waits_ms, part) for part in (0.0, 0.5, 0.99)),
            f"{case.cpu_ms / options.starts:.0f}",
            f"{case.session_mib:.1f}" if case.session_mib else "as started",
        )
        for case in cases
    ]
    out = console()
    out.print(
        table(
            f"A new session: connect to first frame, ms ({options.starts} each; {machine()})",
            ("", "least", "p50", "p99", "CPU ms", "MiB per idle session"),
            rows,
        )
    )


if __name__ == "__main__":
    main()
