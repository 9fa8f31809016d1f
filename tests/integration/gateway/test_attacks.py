"""Clients that mean ill, and many of them: what they cost the gateway, and what others feel."""

import asyncio
import contextlib
import json
import statistics
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from tests.integration.gateway.test_relay import echo_gateway
from tests.support.gateway import NEW_PATH
from tests.support.gateway_process import resident_bytes, upgrade_head

MIB = 2**20
NO_LIMITS = {
    "max_connections_per_address": 0,
    "max_connections_per_identity": 0,
    "max_connections_per_session": 0,
}


class Child:
    """A process of :mod:`tests.support.gateway_process`."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self.pid = process.pid

    async def read(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = await self._process.stdout.readline()
        assert line, "a process of the test ended early"
        return json.loads(line)

    async def ask(self) -> dict[str, Any]:
        assert self._process.stdin is not None
        self._process.stdin.write(b"\n")
        return await self.read()


@contextlib.asynccontextmanager
async def child(*arguments: str, token: str = "") -> AsyncIterator[Child]:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.support.gateway_process", *arguments,
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    try:
        if token:
            # Not among the arguments, which everybody can see.
            assert process.stdin is not None
            process.stdin.write(f"{token}\n".encode())
        yield Child(process)
    finally:
        process.kill()
        await process.wait()


@contextlib.asynccontextmanager
async def gateway_process(folder: Path, **settings: Any) -> AsyncIterator[tuple[Child, str, str]]:
    """Run a gateway and its agent; yield the gateway, its port and a token."""
    path = str(folder / "agent.sock")
    async with child("agent", path) as agent:
        await agent.read()
        async with child("gateway", path, json.dumps(NO_LIMITS | settings)) as gateway:
            place = await gateway.read()
            yield gateway, str(place["port"]), place["token"]


class Talk:
    """A conversation with the agent, without a library: it takes no time of its own."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    async def round_trip_s(self) -> float:
        started = time.monotonic()
        self._writer.write(b"\x82\xe4\0\0\0\0" + b"x" * 100)
        await self._reader.readexactly(102)
        return time.monotonic() - started


@contextlib.asynccontextmanager
async def talk_to(port: str, token: str) -> AsyncIterator[Talk]:
    reader, writer = await asyncio.open_connection("127.0.0.1", int(port))
    writer.write(upgrade_head(NEW_PATH, token))
    assert b" 101 " in await reader.readuntil(b"\r\n\r\n")
    yield Talk(reader, writer)
    writer.close()


async def p99_s(talk: Talk, seconds: float) -> float:
    """Return what one round trip in a hundred takes longer than, at 50 a second."""
    took = []
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        took.append(await talk.round_trip_s())
        await asyncio.sleep(max(0.0, 0.02 - took[-1]))
    return statistics.quantiles(took, n=100)[-1]


async def test_a_client_that_sends_one_byte_at_a_time_is_served() -> None:
    async with echo_gateway() as gateway:
        reader, writer = await gateway.open()
        frames = b"\x81\x85\1\2\3\4" + bytes(b ^ (i % 4 + 1) for i, b in enumerate(b"hello"))
        for byte in gateway.upgrade_head() + frames * 20 + b"\x88\x82\0\0\0\0\x03\xe8":
            writer.write(bytes((byte,)))
            await writer.drain()
            await asyncio.sleep(0)
        assert b" 101 " in await reader.readuntil(b"\r\n\r\n")
        assert await reader.read() == b"\x81\x05hello" * 20 + b"\x88\x02\x03\xe8"
        writer.close()
        await gateway.sessions.closed.wait()
        assert gateway.sessions.ended[0]["in"]["frames"] == 21


async def never_reading(folder: Path, count: int, seconds: float) -> tuple[float, float, float]:
    """Return what a client that doesn't read costs in bytes, and p99 before and meanwhile."""
    # The agent is busy, too, and needs its time to answer; that isn't what is looked at.
    settings = {"stalled_reader_s": 0, "connect_timeout_s": 120, "head_timeout_s": 120}
    async with gateway_process(folder, **settings) as (gateway, port, token):
        async with talk_to(port, token) as talk:
            await p99_s(talk, 0.5)
            quiet = await p99_s(talk, seconds)
            before = resident_bytes(gateway.pid)
            async with child("clients", port, str(count), "deaf", token=token) as deaf:
                answer = await deaf.read()
                assert answer["upgraded"] == count, answer
                # Until all buffers on the way are full.
                for _ in range(100):
                    grown = resident_bytes(gateway.pid)
                    await asyncio.sleep(0.5)
                    if resident_bytes(gateway.pid) - grown < MIB:
                        break
                flooded = await p99_s(talk, seconds)
                each = (resident_bytes(gateway.pid) - before) / count
    return each, quiet, flooded


async def test_clients_that_never_read_have_a_bounded_cost(tmp_path: Path) -> None:
    each, _, _ = await never_reading(tmp_path, 30, 0.5)
    # write_buffer_bytes, a read that was under way, and what the allocator makes of it.
    assert each < 1.5 * (256 + 64) * 1024


@pytest.mark.long
@pytest.mark.timeout(600)
async def test_a_thousand_clients_that_never_read(tmp_path: Path) -> None:
    each, quiet, flooded = await never_reading(tmp_path, 1000, 5)
    print(f"each {each / 1024:.0f} KiB, p99 {quiet * 1000:.2f} ms, then {flooded * 1000:.2f} ms")
    assert each < 1.5 * (256 + 64) * 1024
    assert flooded < 3 * quiet


async def storm(folder: Path, count: int) -> tuple[float, float]:
    """Return how long it took until all were served, and the longest round trip meanwhile."""
    async with gateway_process(folder) as (_, port, token):
        async with talk_to(port, token) as talk:
            worst, is_over = 0.0, False

            async def watch() -> None:
                nonlocal worst
                while not is_over:
                    worst = max(worst, await talk.round_trip_s())
                    await asyncio.sleep(0.02)

            watching = asyncio.create_task(watch())
            async with child("clients", port, str(count), "storm", token=token) as clients:
                answer = await clients.read()
                assert answer["upgraded"] == count, answer
                assert (await clients.ask())["echoed"] == count
            is_over = True
            await watching
    return answer["took_s"], worst


async def test_all_of_a_storm_are_served(tmp_path: Path) -> None:
    await storm(tmp_path, 200)


@pytest.mark.long
@pytest.mark.timeout(600)
async def test_all_of_a_storm_of_five_thousand_are_served(tmp_path: Path) -> None:
    took, worst = await storm(tmp_path, 5000)
    print(f"5,000 in {took:.1f} s; the longest of another's round trips: {worst:.2f} s")


async def idle(folder: Path, counts: list[int]) -> float:
    """Hold so many idle connections, one gateway for each number; return what one costs."""
    async with contextlib.AsyncExitStack() as stack:
        grown, held = 0, []
        for number, count in enumerate(counts):
            place = folder / str(number)
            place.mkdir()
            gateway, port, token = await stack.enter_async_context(
                gateway_process(place, max_connections=0)
            )
            before = resident_bytes(gateway.pid)
            clients = await stack.enter_async_context(
                child("clients", port, str(count), "idle", token=token)
            )
            assert (await clients.read())["upgraded"] == count
            grown += resident_bytes(gateway.pid) - before
            held.append((clients, count))
        for clients, count in held:
            assert (await clients.ask())["echoed"] == count
        return grown / sum(counts)


@pytest.mark.long
@pytest.mark.timeout(900)
async def test_twenty_thousand_idle_connections_are_held(tmp_path: Path) -> None:
    # Where a process may have 20,000 descriptors, one gateway has room for half as many.
    each = await idle(tmp_path, [6667, 6667, 6666])
    print(f"20,000 at {each / 1024:.1f} KiB each, in three gateways")
