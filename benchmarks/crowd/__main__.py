"""How fast sessions start when many callers come at once, and whether all of them live.

Run as ``python -m benchmarks.crowd``. Callers come one after the other, some of them at a time;
each has a session of its own, sends a frame, and stays. When the last one is there all of them are
asked again. The rate is from the first connect to the last first frame, through the gateway, with
tokens and whatever sandbox the machine has.
"""

import argparse
import asyncio
import re
import sys
import time
from contextlib import AsyncExitStack
from dataclasses import dataclass

import httpx2
from websockets.asyncio.client import ClientConnection

from benchmarks.neighbours.agents import VOICE
from benchmarks.support.platforms import deploy, running, wait_for_start
from benchmarks.support.processes import exit_on_sigterm, raise_file_limit
from benchmarks.support.report import console, machine, table
from tests.support.platform import Platform

SETTINGS = {
    "TRUNKLINE_SESSIONS_MAX_RUNNING": "0",
    "TRUNKLINE_SESSIONS_READY_TIMEOUT_S": "300",
    "TRUNKLINE_GATEWAY_CONNECT_TIMEOUT_S": "300",
    "TRUNKLINE_RATES_UPGRADES_PER_ADDRESS": "0",
    "TRUNKLINE_RATES_UPGRADES_PER_IDENTITY": "0",
    "TRUNKLINE_RATES_SESSIONS_PER_IDENTITY": "0",
}
FRAME = b"v" * 640
GOAL_PER_S = 40.0
_RUNNING = re.compile(r"^trunkline_sessions_running (\S+)$", re.MULTILINE)


@dataclass
class Crowd:
    """What was seen of it."""

    zygote_s: float
    """How long its version's zygote was made, before the crowd came."""
    took_s: float
    waits_ms: list[float]
    running: int
    answered: int


async def gather(
    platform: Platform, token: str, sessions: int, at_once: int, *, is_forked: bool
) -> Crowd:
    """Start sessions, keep them, and ask all of them again."""
    room = asyncio.Semaphore(at_once)
    waits_ms: list[float] = []
    there: list[ClientConnection] = []
    async with AsyncExitStack() as stack:

        async def come(number: int) -> None:
            async with room:
                begun = time.perf_counter()
                caller = await stack.enter_async_context(
                    platform.connect("voice", f"caller-{number}", token=token)
                )
                await caller.send(FRAME)
                assert await caller.recv() == FRAME
                waits_ms.append((time.perf_counter() - begun) * 1000)
                there.append(caller)

        http = await stack.enter_async_context(
            httpx2.AsyncClient(base_url=platform.url, trust_env=False)
        )
        # What only the first start of a version pays isn't a session's.
        await come(0)
        waits_ms.clear()
        begun = time.perf_counter()
        if is_forked:
            await wait_for_start(
                platform, "voice", lambda start: start["mode"] == "zygote", http=http, token=token
            )
        zygote_s, begun = time.perf_counter() - begun, time.perf_counter()
        async with asyncio.TaskGroup() as group:
            for number in range(1, sessions):
                group.create_task(come(number))
        took_s = time.perf_counter() - begun
        found = _RUNNING.search((await http.get("/metrics")).text)
        for caller in there:
            await caller.send(FRAME)
        answers = [await caller.recv() for caller in there]
        running = 0 if found is None else int(float(found[1]))
        return Crowd(zygote_s, took_s, waits_ms, running, answers.count(FRAME))


def part(values: list[float], share: float) -> str:
    ordered = sorted(values)
    return f"{ordered[round((len(ordered) - 1) * share)]:.0f}"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sessions", type=int, default=500, help="alive at once, at the end")
    parser.add_argument("--at-once", type=int, default=16, help="callers that come together")
    parser.add_argument(
        "--start",
        choices=["zygote", "spawn"],
        default="zygote",
        help="whether sessions are forked, or programs of their own",
    )
    options = parser.parse_args()
    exit_on_sigterm()
    raise_file_limit()
    settings = SETTINGS | {"TRUNKLINE_PROCESS_START": options.start}
    is_forked = options.start == "zygote"
    with running(**settings) as platform:
        deploy(platform, "voice", VOICE)
        token = platform.token()
        crowd = asyncio.run(
            gather(platform, token, options.sessions, options.at_once, is_forked=is_forked)
        )
    out = console()
    waits = [part(crowd.waits_ms, share) for share in (0.0, 0.5, 0.99)]
    out.print(
        table(
            f"A caller's first frame, ms; {options.at_once} come at once, {options.start} "
            f"({machine()})",
            ("", "least", "p50", "p99"),
            [("connect to first frame", *waits)],
        )
    )
    rate = (options.sessions - 1) / crowd.took_s
    out.print(f"alive at once: {crowd.running}; that answered again: {crowd.answered}")
    if is_forked:
        out.print(f"the version's zygote was made in {crowd.zygote_s:.1f} s, before they came")
    out.print(f"started per second: {rate:.1f}; the goal is {GOAL_PER_S:g}")
    is_whole = crowd.running == crowd.answered == options.sessions
    return 0 if is_whole else 1


if __name__ == "__main__":
    sys.exit(main())
