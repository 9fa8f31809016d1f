"""The process that takes over is killed in the middle: another one does, and calls go on."""

import asyncio
import contextlib
import os
import signal
from collections import Counter

import pytest
from websockets.exceptions import ConnectionClosedError

from tests.e2e.conftest import counting_platform
from tests.e2e.test_reload import reload
from tests.e2e.test_workers import sockets_of
from tests.support.counting import Conversation
from tests.support.platform import Platform, children_of, until_ended

MANY = 120
#: By then it has taken over some, and others have yet to come.
ENOUGH_SOCKETS = 70


def newest(platform: Platform, role: str) -> int | None:
    """Return a process of those that take over: the main one, or one that relays."""
    mains = children_of(platform.pid, b"trunkline.platform.process")
    if len(mains) < 2:
        return None
    if role == "main":
        return mains[-1]
    workers = children_of(mains[-1], b"trunkline.platform.workers.process")
    return workers[0] if workers else None


async def killed_while_it_takes_over(platform: Platform, role: str, watched: str) -> int:
    """Kill a process that takes over once one that relays has connections; return its number."""
    while True:
        await asyncio.sleep(0.001)
        with contextlib.suppress(FileNotFoundError):
            pid, relaying = newest(platform, role), newest(platform, watched)
            if pid and relaying and sockets_of(relaying) > ENOUGH_SOCKETS:
                os.kill(pid, signal.SIGKILL)
                return pid


@pytest.mark.parametrize(
    ("workers", "role"),
    [("1", "main"), ("2", "worker"), pytest.param("2", "main", marks=pytest.mark.long)],
)
async def test_what_had_not_moved_goes_on(workers: str, role: str) -> None:
    sessions = [f"c{number % 2}" for number in range(MANY)]
    async with counting_platform(workers) as platform, contextlib.AsyncExitStack() as stack:
        token, keeper, before = platform.token(), platform.pid, platform.serving_pid
        talking = [
            Conversation(
                await stack.enter_async_context(platform.connect("counter", session, token=token)),
                0.2,
            )
            for session in sessions
        ]
        running = [asyncio.create_task(each.run()) for each in talking]
        watched = "main" if workers == "1" else "worker"
        killing = asyncio.create_task(killed_while_it_takes_over(platform, role, watched))
        report = await reload(platform)
        killed = await asyncio.wait_for(killing, 5)
        # Another one has taken its place, with the port and the sessions.
        assert platform.pid == keeper
        assert platform.serving_pid == report["pid"] not in (before, killed)
        await until_ended(before)
        await asyncio.sleep(0.5)
        for each in talking:
            each.stop()
        ends: Counter[str] = Counter()
        for task, each in zip(running, talking, strict=True):
            try:
                await task
            except* ConnectionClosedError:
                # It ended with the process that had it.
                ends["lost"] += 1
            else:
                assert each.received == each.sent > 3
                ends["whole"] += 1
        # Nobody else, and each of the others is in the new process.
        assert 0 < ends["lost"] < MANY
        moved = report["connections_moved"]
        assert moved - (ends["lost"] if role == "worker" else 0) <= ends["whole"]
        assert report["left_behind"] == 0
        # Whoever was cut off comes back to the same session.
        async with platform.connect("counter", "c0", token=token) as websocket:
            await websocket.send("0 again")
            assert await websocket.recv() == "0 again"
        for session in set(sessions):
            assert platform.events("counter", session).count("Started") == 1
        report = await reload(platform)
        assert report["left_behind"] == 0
