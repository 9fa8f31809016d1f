"""The process that takes over is killed in the middle: another one does, and calls go on."""

import asyncio
import contextlib
import os
import signal
from collections import Counter
from pathlib import Path

import pytest
from websockets.exceptions import ConnectionClosedError, ConnectionClosedOK

from tests.e2e.conftest import counting_platform
from tests.e2e.test_reload import reload
from tests.support.counting import Conversation
from tests.support.platform import Platform, children_of, until_ended

MANY = 120

#: Read by every Python that a platform starts: one that takes over waits in the middle of it. By
#: then it goes on with some conversations, has been told of others, and has yet to hear of others.
_WAITING = """
import os, pathlib, sys
def patch():
    import asyncio
    from trunkline.gateway.moving import Entrance
    real, folder, come = Entrance.take_relays, pathlib.Path(os.environ["WAITS_IN"]), 0
    async def take_relays(self, relays, files, say_taken):
        nonlocal come
        come += len(relays)
        while come > 30 and not (folder / "go").exists():
            (folder / f"waits-{os.getpid()}").touch()
            await asyncio.sleep(0.01)
        await real(self, relays, files, say_taken)
    Entrance.take_relays = take_relays
if "trunkline.platform" in " ".join(sys.orig_argv):
    patch()
"""


async def killed_while_it_takes_over(platform: Platform, role: str, folder: Path) -> int:
    """Kill a process that takes over, the main one or one that relays; return its number."""
    while not (waiting := list(folder.glob("waits-*"))):  # noqa: ASYNC110 - files tell nobody
        await asyncio.sleep(0.01)
    pid = int(waiting[0].name.partition("-")[2])
    if role == "main":
        old, pid = children_of(platform.pid, b"trunkline.platform.process")
        assert old != pid
    os.kill(pid, signal.SIGKILL)
    (folder / "go").touch()
    return pid


@pytest.mark.parametrize(
    ("workers", "role"),
    [("1", "main"), ("2", "worker"), pytest.param("2", "main", marks=pytest.mark.long)],
)
async def test_what_had_not_moved_goes_on(workers: str, role: str, tmp_path: Path) -> None:
    sessions = [f"c{number % 2}" for number in range(MANY)]
    (tmp_path / "sitecustomize.py").write_text(_WAITING)
    waits = {"PYTHONPATH": str(tmp_path), "WAITS_IN": str(tmp_path)}
    async with (
        counting_platform(workers, **waits) as platform,
        contextlib.AsyncExitStack() as stack,
    ):
        token, keeper, before = platform.token(), platform.pid, platform.serving_pid
        talking = [
            Conversation(
                await stack.enter_async_context(platform.connect("counter", session, token=token)),
                0.2,
            )
            for session in sessions
        ]
        running = [asyncio.create_task(each.run()) for each in talking]
        killing = asyncio.create_task(killed_while_it_takes_over(platform, role, tmp_path))
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


async def test_who_is_told_to_stop_meanwhile_stops_and_says_so() -> None:
    async with counting_platform("1", TRUNKLINE_GATEWAY_DRAIN_TIMEOUT_S="2") as platform:
        async with platform.connect("counter", "c0", token=platform.token()) as websocket:
            reloading = asyncio.create_task(reload(platform))
            mains: list[int] = []
            while len(mains) < 2:
                mains = children_of(platform.pid, b"trunkline.platform.process")
                await asyncio.sleep(0.005)
            platform.signal(signal.SIGTERM)
            with pytest.raises(AssertionError, match="wasn't replaced and ends: it was told to st"):
                await reloading
            with pytest.raises(ConnectionClosedOK) as closed:
                await websocket.recv()
            assert closed.value.rcvd is not None
            assert closed.value.rcvd.code == 1001
        assert await asyncio.to_thread(platform.wait) == 0
        await until_ended(mains[-1])
