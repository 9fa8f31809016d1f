"""How long a caller waits for a cold session: connect, first frame, with and without a sandbox.

Two platforms run side by side, one with each session in a sandbox and one without, and two agents
on each: one on trunkline's host and one, unmodified, on Microsoft's. They take turns, so that
whatever else the machine does falls on all of them. Each start is of a new session, through the
gateway, with a token.
"""

import argparse
import asyncio
import re
import shutil
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

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


@dataclass
class Case:
    """One agent on one platform, and what was measured."""

    name: str
    platform: Platform
    agent: str
    token: str
    waits_ms: list[float] = field(default_factory=list)

    async def start_one(self, number: int) -> None:
        """Start a new session, and note how long its first answer took."""
        session = f"{self.agent}-{number}"
        begun = time.perf_counter()
        async with self.platform.connect(self.agent, session, token=self.token) as websocket:
            await websocket.send("hello")
            assert await websocket.recv() == "hello"
            self.waits_ms.append((time.perf_counter() - begun) * 1000)
        done = await asyncio.to_thread(self.platform.run, "sessions", "stop", self.agent, session)
        assert done.code == 0, done.stderr


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


async def measure(cases: list[Case], starts: int) -> None:
    for case in cases:
        # What only the first start of a version pays isn't a session's.
        await case.start_one(0)
        case.waits_ms.clear()
    for number in range(1, starts + 1):
        for case in cases:
            await case.start_one(number)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--starts", type=int, default=20, help="of each kind")
    options = parser.parse_args()
    pinned = Path(__file__).parents[2] / "requirements" / "bench-host.txt"
    found = re.search(r"^azure-ai-agentserver-invocations==\S+", pinned.read_text(), re.MULTILINE)
    assert found is not None
    folder = Path(tempfile.mkdtemp(prefix="trunkline-bench-"))
    platforms = {
        "in a sandbox": Platform(folder / "boxed"),
        "without one": Platform(folder / "free", TRUNKLINE_PROCESS_SANDBOX="off"),
    }
    cases = []
    try:
        for words, platform in platforms.items():
            platform.start()
            token = platform.token()
            for name, source, requires in (
                ("trunkline", OURS, ""), ("microsoft", MICROSOFT, found[0])
            ):  # fmt: skip
                deploy(platform, folder / words.split()[0], name, source, requires)
                cases.append(Case(f"{name}'s host, {words}", platform, name, token))
        asyncio.run(measure(cases, options.starts))
    finally:
        for platform in platforms.values():
            platform.stop()
        shutil.rmtree(folder)
    rows = [
        (
            case.name,
            *(share(case.waits_ms, part) for part in (0.0, 0.5, 0.99)),
        )
        for case in cases
    ]
    out = console()
    out.print(
        table(
            f"A cold session: connect to first frame, ms ({options.starts} each; {machine()})",
            ("", "least", "p50", "p99"),
            rows,
        )
    )


if __name__ == "__main__":
    main()
