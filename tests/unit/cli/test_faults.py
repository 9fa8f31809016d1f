"""Faults on demand, between a client and an echo server."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import pytest

from trunkline.cli.faults import Faults, FaultyNetwork
from trunkline.protocol.errors import InvalidRequestError

UPGRADE = b"GET / HTTP/1.1\r\nUpgrade: websocket\r\n\r\n"
UPGRADED = b"HTTP/1.1 101 Switching Protocols\r\n\r\n"


def test_what_is_asked_for() -> None:
    wrong = Faults.parse("drop=30s, stall=500ms@1m,slow-reader=100,half-open=5,1001-after=60s")
    assert wrong == Faults(
        drop_after_s=30, stall_s=0.5, stall_every_s=60, slow_bytes_per_s=100,
        half_open_after_s=5, close_after_s=60,
    )  # fmt: skip
    assert wrong.settings == {"TRUNKLINE_GATEWAY_MAX_CONNECTION_S": "60"}
    assert len(wrong.describe()) == 5
    assert Faults.parse("slow-reader,half-open").needs_proxy
    assert not Faults.parse("1001-after=1s").needs_proxy
    assert Faults.parse("") == Faults()
    assert Faults().describe() == []


@pytest.mark.parametrize(
    "text", ["drop", "drop=0s", "drop=x", "stall=2h", "slow-reader=x", "nothing", "1001=5s"]
)
def test_what_is_no_fault(text: str) -> None:
    with pytest.raises(InvalidRequestError, match="drop=30s cuts each connection"):
        Faults.parse(text)


@asynccontextmanager
async def network(faults: str) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while chunk := await reader.read(65536):
                writer.write(UPGRADED if chunk == UPGRADE else chunk)
                await writer.drain()
        except OSError:
            pass
        finally:
            writer.transport.abort()

    server = await asyncio.start_server(echo, "127.0.0.1", 0)
    wrong = FaultyNetwork(Faults.parse(faults), "127.0.0.1", server.sockets[0].getsockname()[1])
    port = await wrong.listen("127.0.0.1", 0)
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        yield reader, writer
    finally:
        writer.transport.abort()
        await wrong.aclose()
        server.close()
        await asyncio.sleep(0.01)


async def test_a_connection_is_cut() -> None:
    async with network("drop=100ms") as (reader, writer):
        writer.write(UPGRADE)
        assert await reader.readexactly(len(UPGRADED)) == UPGRADED
        async with asyncio.timeout(5):
            with suppress(ConnectionResetError):
                assert await reader.read() == b""


async def test_only_websockets_are_cut() -> None:
    async with network("drop=50ms,half-open=60ms") as (reader, writer):
        plain = b"GET / HTTP/1.1\r\n\r\n"
        writer.write(plain)
        assert await reader.readexactly(len(plain)) == plain
        await asyncio.sleep(0.2)
        writer.write(b"more")
        assert await reader.readexactly(4) == b"more"


async def test_a_half_open_connection_stays_and_says_nothing() -> None:
    async with network("half-open=50ms") as (reader, writer):
        writer.write(UPGRADE)
        await reader.readexactly(len(UPGRADED))
        await asyncio.sleep(0.2)
        writer.write(b"x" * 100_000)
        await writer.drain()
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.2):
                await reader.read(1)


async def test_a_stall_ends() -> None:
    async with network("stall=200ms@50ms") as (reader, writer):
        writer.write(UPGRADE)
        await reader.readexactly(len(UPGRADED))
        loop, longest = asyncio.get_running_loop(), 0.0
        for _ in range(30):
            before = loop.time()
            writer.write(b"x")
            await reader.readexactly(1)
            longest = max(longest, loop.time() - before)
            await asyncio.sleep(0.01)
        # It stood still for a while, and everything came.
        assert longest > 0.1


async def test_a_slow_reader_holds_up_who_writes() -> None:
    async with network("slow-reader=50000") as (reader, writer):
        writer.write(UPGRADE)
        await reader.readexactly(len(UPGRADED))
        loop = asyncio.get_running_loop()
        before = loop.time()
        writer.write(b"x" * 20_000)
        await reader.readexactly(20_000)
        assert loop.time() - before > 0.2
