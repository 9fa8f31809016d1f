"""What a conversation notices of five neighbours that take all they can get.

Run as ``python -m benchmarks.neighbours``, as root: without control groups nobody is held to
anything. One session speaks: 640 bytes, 50 times a second, and gets as much back. Beside it a fork
bomb, a memory hog, a disk filler, a log flood and a processor spinner come and go, each in a
session of its own on the same platform. Quiet and loud phases take turns. Then it is looked at what
the platform said of each of the five: to its client, in its session's log, and in the metrics.

Whoever speaks stands for another machine, and shares the processors with all of this. So it has a
real-time priority, in quiet phases as in loud ones: that it is late itself isn't counted.
"""

import argparse
import asyncio
import contextlib
import os
import re
import statistics
import sys
import urllib.request
from dataclasses import dataclass, field

from websockets.exceptions import ConnectionClosed, InvalidStatus

from benchmarks.neighbours.agents import BAD, VOICE
from benchmarks.support.platforms import deploy, running
from benchmarks.support.processes import Child, Children, exit_on_sigterm
from benchmarks.support.report import console, machine, table
from tests.support.platform import Platform

RESOURCES = """resources:
  cpu: "1"
  memory: 512Mi
"""
MIB = 1024**2
SETTINGS = {
    "TRUNKLINE_PROCESS_PIDS_MAX": "64",
    "TRUNKLINE_PROCESS_HOME_MAX_BYTES": str(128 * MIB),
    "TRUNKLINE_SESSIONS_LOG_MAX_BYTES": str(4 * MIB),
    "TRUNKLINE_PROCESS_LIMITS_INTERVAL_S": "1",
    "TRUNKLINE_SESSIONS_STOP_TIMEOUT_S": "2",
    # The load generator answers no pings.
    "TRUNKLINE_SESSIONS_KEEPALIVE_INTERVAL_S": "0",
}
#: What each is held to: the limit's name in the metrics, and the event in its session's log.
LIMITS = {
    "fork": ("pids", "ProcessLimit"),
    "memory": ("memory", "Killed"),
    "disk": ("disk", "Killed"),
    "log": ("log", "LogTrimmed"),
    "spin": ("cpu", "CpuLimit"),
}
_PAUSE_S = 0.2
_PATIENCE_S = 120.0


@dataclass
class Neighbour:
    """One session that misbehaves, again and again."""

    platform: Platform
    token: str
    way: str
    closes: set[str] = field(default_factory=set)
    has_begun: asyncio.Event = field(default_factory=asyncio.Event)

    async def misbehave(self) -> None:
        """Do so until cancelled; note how each connection ended that the platform ended."""
        while True:
            with contextlib.suppress(InvalidStatus, TimeoutError, ConnectionError):
                async with self.platform.connect("bad", self.way, token=self.token) as websocket:
                    with contextlib.suppress(ConnectionClosed):
                        await websocket.send(self.way)
                        async for _ in websocket:
                            self.has_begun.set()
                    self.closes.add(f"{websocket.close_code} {websocket.close_reason}")
            await asyncio.sleep(_PAUSE_S)

    async def end(self) -> None:
        """Have its session ended."""
        done = await asyncio.to_thread(self.platform.run, "sessions", "stop", "bad", self.way)
        assert done.code == 0, done.stderr


@dataclass
class Phases:
    """The voice's latencies, in ms."""

    quiet: list[dict[str, float]] = field(default_factory=list)
    loud: list[dict[str, float]] = field(default_factory=list)

    @staticmethod
    def middle(phases: list[dict[str, float]], what: str) -> float:
        """Return the median of a figure over phases, in ms."""
        return statistics.median(phase[what] for phase in phases) / 1000


async def speak(load: Child, seconds: float) -> dict[str, float]:
    """Speak for some seconds; return the latencies."""
    answer = await asyncio.to_thread(load.ask, do="pace", interval_ms=20, seconds=seconds)
    return {"p50": answer["p50_us"], "p99": answer["p99_us"]}


async def run(load: Child, neighbours: list[Neighbour], rounds: int, seconds: float) -> Phases:
    """Speak in quiet and in loud phases."""
    phases = Phases()
    await speak(load, 1.0)
    for _ in range(rounds):
        phases.quiet.append(await speak(load, seconds))
        tasks = [asyncio.create_task(each.misbehave()) for each in neighbours]
        async with asyncio.timeout(_PATIENCE_S):
            await asyncio.gather(*(each.has_begun.wait() for each in neighbours))
        # What they are noticed by takes some seconds, too.
        await asyncio.sleep(seconds / 2)
        phases.loud.append(await speak(load, seconds))
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
        await asyncio.gather(*(each.end() for each in neighbours))
        for each in neighbours:
            each.has_begun.clear()
    return phases


def said(neighbour: Neighbour, metrics: str) -> tuple[str, str, str]:
    """Return what the platform said of one: to its client, in the log, and in the metrics."""
    limit, reason = LIMITS[neighbour.way]
    done = neighbour.platform.run(
        "monitor", "bad", "--session-id", neighbour.way, "--type", "system", "--tail", "300"
    )
    found = re.search(rf"{reason}: .*", done.stdout)
    counted = re.search(
        rf'^trunkline_agent_limits_total{{limit="{limit}"}} (\S+)', metrics, re.MULTILINE
    )
    ended = sorted(each for each in neighbour.closes if not each.startswith("1000"))
    return (
        "; ".join(ended) or "stays connected",
        found[0] if found else "NOTHING",
        counted[1].removesuffix(".0") if counted else "NOTHING",
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3, help="quiet and loud phases")
    parser.add_argument("--seconds", type=float, default=10.0, help="of each phase")
    options = parser.parse_args()
    exit_on_sigterm()
    with running(**SETTINGS) as platform, Children(platform.state_dir.parent) as children:
        token = platform.token()
        deploy(platform, "voice", VOICE, RESOURCES)
        deploy(platform, "bad", BAD, RESOURCES)
        load = children.start_python("load", "benchmarks.support.load")
        os.sched_setscheduler(load.pid, os.SCHED_RR, os.sched_param(1))
        url = platform.websocket_url("voice", "voice")
        load.ask(
            do="open",
            port=int(platform.url.rpartition(":")[2]),
            upgrades=[("/" + url.split("/", 3)[3], {"Authorization": f"Bearer {token}"})],
            frame_bytes=640,
            connections=1,
        )
        neighbours = [Neighbour(platform, token, way) for way in LIMITS]
        phases = asyncio.run(run(load, neighbours, options.rounds, options.seconds))
        with urllib.request.urlopen(f"{platform.url}/metrics") as answer:
            metrics = answer.read().decode()
        reports = {each.way: said(each, metrics) for each in neighbours}
        load.ask(do="close")
    out = console()
    rows = [
        (
            words,
            f"{phases.middle(found, 'p50'):.2f}",
            f"{phases.middle(found, 'p99'):.2f}",
            " ".join(f"{phase['p99'] / 1000:.2f}" for phase in found),
        )
        for words, found in (("quiet", phases.quiet), ("with five neighbours", phases.loud))
    ]
    title = f"A voice's frame and its echo, ms; medians of {options.rounds} phases ({machine()})"
    out.print(table(title, ("", "p50", "p99", "p99 of each phase"), rows))
    ratio = phases.middle(phases.loud, "p99") / phases.middle(phases.quiet, "p99")
    out.print(f"p99 with neighbours / quiet: {ratio:.2f}")
    for way, (told, words, counted) in reports.items():
        out.print(f"{way}:\n  client: {told}\n  log:    {words}\n  metric: {counted}")
    is_told = not any("NOTHING" in parts for parts in reports.values())
    return 0 if is_told else 1


if __name__ == "__main__":
    sys.exit(main())
