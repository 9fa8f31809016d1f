"""How long a frozen agent takes to answer: from the frame that wakes it to its echo.

Run as ``python -m benchmarks.wake``, as root. One session is frozen again and again; each time a
frame is sent through the gateway, and the echo is waited for. In between the same is done while the
agent is awake, so what waking adds can be read off.
"""

import argparse
import asyncio
import re
import statistics
import sys
import time

import httpx2

from benchmarks.neighbours.agents import VOICE
from benchmarks.support.platforms import deploy, running
from benchmarks.support.processes import exit_on_sigterm
from benchmarks.support.report import console, machine, ratio, table
from tests.support.platform import Platform

SUSPENDED = """environment_variables:
  - name: TRUNKLINE_SUSPEND_AFTER_S
    value: "0.2"
"""
FRAME = b"v" * 640
GOAL_MS = 5.0
_FROZEN = re.compile(r"^trunkline_sessions_frozen (\S+)$", re.MULTILINE)
_LOOK_S = 0.02
_PATIENCE_S = 30.0


async def until_frozen(http: httpx2.AsyncClient) -> None:
    async with asyncio.timeout(_PATIENCE_S):
        while True:
            found = _FROZEN.search((await http.get("/metrics")).text)
            if found is not None and float(found[1]) == 1:
                return
            await asyncio.sleep(_LOOK_S)


async def measure(platform: Platform, token: str, count: int) -> tuple[list[float], list[float]]:
    """Return the milliseconds of echoes of a frozen agent, and of one that is awake."""
    frozen: list[float] = []
    awake: list[float] = []
    async with (
        httpx2.AsyncClient(base_url=platform.url, trust_env=False) as http,
        platform.connect("voice", "wake", token=token) as websocket,
    ):
        await websocket.send(FRAME)
        await websocket.recv()
        for _ in range(count):
            await until_frozen(http)
            for took in (frozen, awake):
                begun = time.perf_counter()
                await websocket.send(FRAME)
                await websocket.recv()
                took.append((time.perf_counter() - begun) * 1000)
    return frozen, awake


def part(values: list[float], share: float) -> str:
    ordered = sorted(values)
    return f"{ordered[round((len(ordered) - 1) * share)]:.2f}"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--times", type=int, default=50, help="how often it is frozen")
    options = parser.parse_args()
    exit_on_sigterm()
    with running() as platform:
        deploy(platform, "voice", VOICE, SUSPENDED)
        frozen, awake = asyncio.run(measure(platform, platform.token(), options.times))
    rows = [
        (words, *(part(values, share) for share in (0.0, 0.5, 0.99)))
        for words, values in (("frozen", frozen), ("awake", awake))
    ]
    title = f"A frame and its echo, ms ({options.times} each; {machine()})"
    out = console()
    out.print(table(title, ("the agent is", "least", "p50", "p99"), rows))
    woken, usual = statistics.median(frozen), statistics.median(awake)
    out.print(f"p50 frozen / awake: {ratio(woken, usual)}")
    out.print(f"p50 after a freeze: {woken:.2f} ms; the goal is {GOAL_MS:g} ms at most")
    return 0 if woken <= GOAL_MS else 1


if __name__ == "__main__":
    sys.exit(main())
