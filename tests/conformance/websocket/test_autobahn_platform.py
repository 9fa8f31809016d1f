"""Autobahn's cases against a whole platform: with several workers, and while it is reloaded."""

import asyncio
import contextlib
import json
import shutil
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.conformance.websocket.support import Verdict, agent_process, run_cases, unacceptable
from tests.conformance.websocket.test_autobahn import DEFLATE, FOLDER, LIMITS, without_races
from tests.support.platform import Platform, running_platform

#: One or two of each kind: lengths, pings, reserved bits, opcodes, fragments, UTF-8, closes.
QUICK = ["1.1.6", "1.2.7", "2.5", "2.6", "3.1", "4.1.1", "5.1", "5.6", "6.3.1", "7.1.3", "7.7.2"]
_TURNS = 8
DEFINITION = """\
kind: hosted
name: echo
protocols:
  - protocol: invocations_ws
    version: 1.0.0
"""


@contextlib.contextmanager
def echo_platform(*arguments: str) -> Iterator[Platform]:
    """Run a platform with the echo agent deployed."""
    settings = {"TRUNKLINE_GATEWAY_MAX_FRAME_BYTES": str(16 * 1024 * 1024)}
    with running_platform(*arguments, **settings) as platform:
        agent = platform.state_dir.parent / "echo"
        agent.mkdir()
        shutil.copy(FOLDER / "echo_agent.py", agent / "main.py")
        (agent / "agent.yaml").write_text(DEFINITION)
        platform.deploy(agent)
        yield platform


@contextlib.asynccontextmanager
async def lending(platform: Platform) -> AsyncIterator[str]:
    """Put a token into each upgrade's head, which the cases' client can't; copy everything else."""
    token = platform.token()
    host, port = platform.url.removeprefix("http://").split(":")

    async def copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        # What one side ends the other may have ended already.
        with contextlib.suppress(OSError):
            while data := await reader.read(65536):
                writer.write(data)
                await writer.drain()
        with contextlib.suppress(OSError):
            writer.write_eof()

    under_way: set[asyncio.Task[Any] | None] = set()

    async def take(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        under_way.add(asyncio.current_task())
        their_reader, their_writer = await asyncio.open_connection(host, int(port))
        try:
            head = await reader.readuntil(b"\r\n\r\n")
            their_writer.write(head[:-2] + f"Authorization: Bearer {token}\r\n\r\n".encode())
            await asyncio.gather(copy(reader, their_writer), copy(their_reader, writer))
        except (OSError, asyncio.IncompleteReadError):
            pass
        finally:
            their_writer.close()
            writer.close()

    server = await asyncio.start_server(take, "127.0.0.1", 0)
    async with server:
        address = f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
        url = platform.websocket_url("echo", "autobahn")
        yield url.replace(platform.url.removeprefix("http://"), address)
    # Those that somebody has yet to end end here.
    tasks = [task for task in under_way if task is not None]
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


def too_late(direct: dict[str, Verdict], through: dict[str, Verdict]) -> list[str]:
    """Return the cases that failed by one of Autobahn's time limits, and say which."""
    found = []
    for case, verdict in direct.items():
        for way, other in (("directly", verdict), ("through the platform", through[case])):
            if other.late and not other.is_acceptable:
                print(f"\ncase {case} is run again, alone: {way} it met a limit: {other.late}")
                found.append(case)
    return sorted(set(found))


async def compare(
    folder: Path, platform: Platform, include: list[str], exclude: list[str]
) -> dict[str, Verdict]:
    """Assert that the platform changes no verdict, and return the agent's own.

    Autobahn waits a second for the end of a connection, and a minute for a thousand answers. Where
    the processors are busy that is too short for either way, now and then. A case that has met
    such a limit is run again, alone, and that verdict counts; any other that differs has failed.
    """
    with agent_process(FOLDER / "echo_agent.py", folder / "agent.log") as agent_url:
        direct = await run_cases(agent_url, folder / "direct", include, exclude)
        async with lending(platform) as url:
            through = await run_cases(url, folder / "through", include, exclude)
            if late := too_late(direct, through):
                direct |= await run_cases(agent_url, folder / "direct-again", late, at_once=1)
                through |= await run_cases(url, folder / "through-again", late, at_once=1)
    assert without_races(through) == without_races(direct)
    assert unacceptable(direct) == {}
    return direct


async def reload_again_and_again(platform: Platform, moved: list[int]) -> None:
    """Replace the platform's process until cancelled; note how many connections moved."""
    with contextlib.suppress(asyncio.CancelledError):
        while True:
            # One that has begun is waited for.
            done = await asyncio.shield(
                asyncio.to_thread(platform.run, "gateway", "reload", "-o", "json")
            )
            assert done.code == 0, done.stderr
            report = json.loads(done.stdout)
            assert report["left_behind"] == 0
            moved.append(report["connections_moved"])


async def compare_while_reloading(
    folder: Path, platform: Platform, include: list[str], exclude: list[str]
) -> tuple[dict[str, Verdict], list[int]]:
    """Compare verdicts while the platform is reloaded all the time.

    Most cases take milliseconds, one after the other: they are gone through again until a reload
    has met some.
    """
    moved: list[int] = []
    reloading = asyncio.create_task(reload_again_and_again(platform, moved))
    try:
        for turn in range(_TURNS):
            place = folder / str(turn)
            place.mkdir()
            direct = await compare(place, platform, include, exclude)
            if sum(moved):
                break
    finally:
        reloading.cancel()
        await reloading
    return direct, moved


@pytest.mark.timeout(240)
async def test_some_cases_with_two_workers(tmp_path: Path) -> None:
    with echo_platform("--workers", "2") as platform:
        assert len(await compare(tmp_path, platform, QUICK, [])) == len(QUICK)


@pytest.mark.long
@pytest.mark.timeout(900)
async def test_all_cases_with_two_workers(tmp_path: Path) -> None:
    with echo_platform("--workers", "2") as platform:
        assert len(await compare(tmp_path, platform, [], DEFLATE)) == 301


@pytest.mark.long
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("workers", ["1", "2"])
async def test_all_cases_while_the_platform_is_reloaded(tmp_path: Path, workers: str) -> None:
    with echo_platform("--workers", workers) as platform:
        direct, moved = await compare_while_reloading(tmp_path, platform, [], DEFLATE)
        assert len(direct) == 301
        assert sum(moved) > 0, moved
        print(f"\nconnections that moved, by reload: {moved}")


@pytest.mark.long
@pytest.mark.timeout(600)
async def test_large_messages_while_the_platform_is_reloaded(tmp_path: Path) -> None:
    with echo_platform("--workers", "2") as platform:
        _, moved = await compare_while_reloading(tmp_path, platform, LIMITS, [])
        assert sum(moved) > 0, moved
