"""Frames through a real gateway, on loopback."""

import asyncio
import contextlib
import os
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from websockets.asyncio.server import ServerConnection, unix_serve
from websockets.exceptions import ConnectionClosed

from tests.support.gateway import (
    NEW_PATH,
    OLD_PATH,
    Gateway,
    accept_upgrade,
    raw_agent,
    running_gateway,
)
from trunkline.protocol.close import encode_close
from trunkline.runtimes.interface import Address, ExitStatus

pytestmark = pytest.mark.usefixtures("relay_of")

MASK = b"\0\0\0\0"


def resident_bytes() -> int:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


@contextlib.asynccontextmanager
async def agent(handler) -> AsyncIterator[Address]:
    with tempfile.TemporaryDirectory(prefix="trunkline-test-") as folder:
        path = f"{folder}/agent.sock"
        async with unix_serve(handler, path, max_size=None, close_timeout=2, compression=None):
            yield Address(path=path)


async def echo(websocket: ServerConnection) -> None:
    with contextlib.suppress(ConnectionClosed):
        async for message in websocket:
            await websocket.send(message)


@contextlib.asynccontextmanager
async def echo_gateway(**settings) -> AsyncIterator[Gateway]:
    async with agent(echo) as address, running_gateway(address, **settings) as gateway:
        yield gateway


@pytest.mark.parametrize("path", [NEW_PATH, OLD_PATH])
async def test_text_and_binary_come_back_by_both_url_forms(path: str) -> None:
    async with echo_gateway() as gateway, gateway.connect(path) as websocket:
        await websocket.send("hallo é")
        await websocket.send(b"\x00\xff")
        assert await websocket.recv() == "hallo é"
        assert await websocket.recv() == b"\x00\xff"


async def test_the_101_names_the_session_and_the_request() -> None:
    async with echo_gateway() as gateway:
        async with gateway.connect(f"{NEW_PATH}&agent_session_id=s.1:a_b-c") as websocket:
            assert websocket.response is not None
            assert websocket.response.headers["x-agent-session-id"] == "s.1:a_b-c"
            assert websocket.response.headers["x-request-id"]
        async with gateway.connect() as websocket:
            assert websocket.response is not None
            generated = websocket.response.headers["x-agent-session-id"]
            assert len(generated) == 32
            assert int(generated, 16) >= 0


async def test_the_agent_sees_the_query_and_never_the_token() -> None:
    seen: asyncio.Future[ServerConnection] = asyncio.get_running_loop().create_future()

    async def handler(websocket: ServerConnection) -> None:
        seen.set_result(websocket)

    async with agent(handler) as address, running_gateway(address) as gateway:
        async with gateway.connect(
            f"{NEW_PATH}&agent_session_id=s&voice=a%20b",
            headers={
                "X-Client-Tag": "t",
                "traceparent": "00-" + "1" * 32 + "-" + "2" * 16 + "-01",
                "X-Agent-User-Id": "somebody-else",
                "X-Agent-Foundry-Call-Id": "forged",
                "Cookie": "secret=1",
                "X-Forwarded-For": "1.2.3.4",
            },
        ):
            request = (await seen).request
        assert request is not None
        assert request.path == "/invocations_ws?agent_session_id=s&voice=a%20b"
        names = {name.lower() for name in request.headers}
        assert names.isdisjoint({"authorization", "cookie", "x-forwarded-for"})
        assert request.headers["x-client-tag"] == "t"
        assert request.headers["traceparent"].startswith("00-111")
        assert request.headers["x-agent-user-id"] not in ("somebody-else", "tester")
        assert len(request.headers.get_all("x-agent-user-id")) == 1
        assert request.headers["x-agent-foundry-call-id"] != "forged"
        assert gateway.token() not in str(request.headers)


async def test_an_upgrade_has_a_trace_and_nothing_of_one_connection() -> None:
    seen: asyncio.Future[ServerConnection] = asyncio.get_running_loop().create_future()

    async def handler(websocket: ServerConnection) -> None:
        seen.set_result(websocket)

    async with agent(handler) as address, running_gateway(address) as gateway:
        reader, writer = await gateway.open()
        head = gateway.upgrade_head(NEW_PATH, "X-Client-Secret: 1", "Traceparent: rubbish")
        writer.write(head.replace(b"Connection: Upgrade", b"Connection: Upgrade, x-client-secret"))
        answer = await reader.readuntil(b"\r\n\r\n")
        request = (await seen).request
        assert request is not None
        _, trace_id, _, _ = request.headers["traceparent"].split("-")
        assert f"x-request-id: {trace_id}\r\n".encode() in answer
        assert request.headers["x-request-id"] == trace_id
        assert "x-client-secret" not in request.headers
        writer.close()


async def test_a_subprotocol_is_agreed_end_to_end() -> None:
    with tempfile.TemporaryDirectory(prefix="trunkline-test-") as folder:
        path = f"{folder}/agent.sock"
        async with unix_serve(echo, path, subprotocols=["chat.v2"]):  # type: ignore[list-item]
            async with running_gateway(Address(path=path)) as gateway:
                async with gateway.connect(subprotocols=["chat.v1", "chat.v2"]) as websocket:
                    assert websocket.subprotocol == "chat.v2"


async def test_compression_is_agreed_end_to_end() -> None:
    with tempfile.TemporaryDirectory(prefix="trunkline-test-") as folder:
        path = f"{folder}/agent.sock"
        async with unix_serve(echo, path), running_gateway(Address(path=path)) as gateway:
            async with gateway.connect(compression="deflate") as websocket:
                await websocket.send("a" * 10_000)
                assert await websocket.recv() == "a" * 10_000
                assert websocket.protocol.extensions


async def test_pings_and_fragments_pass() -> None:
    async with echo_gateway() as gateway, gateway.connect() as websocket:
        await (await websocket.ping(b"p"))
        await websocket.send(["one ", "two ", "three"])
        assert await websocket.recv() == "one two three"


@pytest.mark.parametrize(("code", "reason"), [(1000, ""), (4321, "my own"), (3000, "x" * 123)])
async def test_a_clients_close_reaches_the_agent(code: int, reason: str) -> None:
    got: asyncio.Future[tuple[int, str]] = asyncio.get_running_loop().create_future()

    async def handler(websocket: ServerConnection) -> None:
        await websocket.wait_closed()
        got.set_result((websocket.close_code or 0, websocket.close_reason or ""))

    async with agent(handler) as address, running_gateway(address) as gateway:
        async with gateway.connect() as websocket:
            await websocket.close(code, reason)
        assert await got == (code, reason)
        await gateway.sessions.closed.wait()
        assert f"by=client code={code}" in gateway.sessions.events[-1][1]
        assert not gateway.sessions.held


async def test_an_agents_close_reaches_the_client() -> None:
    async def handler(websocket: ServerConnection) -> None:
        await websocket.close(4004, "enough")

    async with agent(handler) as address, running_gateway(address) as gateway:
        async with gateway.connect() as websocket:
            await websocket.wait_closed()
        assert (websocket.close_code, websocket.close_reason) == (4004, "enough")
        await gateway.sessions.closed.wait()
        assert "by=agent code=4004 reason='enough'" in gateway.sessions.events[-1][1]


async def test_a_frame_of_one_mebibyte_passes_and_one_byte_more_is_1009() -> None:
    async with echo_gateway() as gateway, gateway.connect() as websocket:
        await websocket.send(bytes(2**20))
        assert len(await websocket.recv()) == 2**20
        await websocket.send(bytes(2**20 + 1))
        with pytest.raises(ConnectionClosed):
            await websocket.recv()
        assert websocket.close_code == 1009
        assert "1048577" in (websocket.close_reason or "")
        assert "max_frame_bytes (1048576)" in (websocket.close_reason or "")
        await gateway.sessions.closed.wait()
        assert "by=limit code=1009" in gateway.sessions.events[-1][1]
        assert not gateway.sessions.held


async def test_a_large_message_in_small_frames_passes() -> None:
    async with echo_gateway(max_frame_bytes=1000) as gateway, gateway.connect() as websocket:
        await websocket.send([b"x" * 1000] * 20)
        # The agent sends it back as one frame, which is over the limit in that direction.
        with pytest.raises(ConnectionClosed):
            await websocket.recv()
        assert websocket.close_code == 1009


async def test_an_agent_is_told_of_an_oversize_frame_too() -> None:
    ended: asyncio.Future[int | None] = asyncio.get_running_loop().create_future()

    async def handler(websocket: ServerConnection) -> None:
        await websocket.wait_closed()
        ended.set_result(websocket.close_code)

    async with agent(handler) as address, running_gateway(address, max_frame_bytes=200) as gateway:
        async with gateway.connect() as websocket:
            await websocket.send(bytes(201))
            assert await ended == 1009


async def test_the_close_waits_for_the_end_of_a_frame_under_way() -> None:
    half_sent, go_on = asyncio.Event(), asyncio.Event()

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await accept_upgrade(reader, writer)
        writer.write(b"\x82\x7e" + (1000).to_bytes(2) + b"a" * 500)
        half_sent.set()
        await go_on.wait()
        writer.write(b"a" * 500 + b"\x82\x01z")
        await reader.read()

    async with raw_agent(handler) as address:
        async with running_gateway(address, max_frame_bytes=2000) as gateway:
            reader, writer = await gateway.open()
            writer.write(gateway.upgrade_head())
            await reader.readuntil(b"\r\n\r\n")
            await half_sent.wait()
            assert await reader.readexactly(504)
            # A frame over the limit from the client: the answer can't go out inside the other.
            writer.write(b"\x82\xff" + (10_000).to_bytes(8) + MASK)
            await gateway.answers()
            go_on.set()
            assert await reader.readexactly(500) == b"a" * 500
            head = await reader.readexactly(2)
            assert head[0] == 0x88
            payload = await reader.readexactly(head[1])
            assert payload[:2] == (1009).to_bytes(2)
            writer.write(encode_close(1009, mask=MASK))
            assert await reader.read() == b""
            writer.close()


async def test_an_agent_that_dies_gives_1011_with_its_exit() -> None:
    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await accept_upgrade(reader, writer)
        writer.write(b"\x82\x02hi")
        await writer.drain()
        writer.transport.abort()

    async with raw_agent(handler) as address, running_gateway(address) as gateway:
        gateway.sessions.exited.set_result(ExitStatus(signal=9))
        reader, writer = await gateway.open()
        writer.write(gateway.upgrade_head())
        await reader.readuntil(b"\r\n\r\n")
        assert await reader.readexactly(4) == b"\x82\x02hi"
        head = await reader.readexactly(2)
        payload = await reader.readexactly(head[1])
        assert (head[0], payload[:2]) == (0x88, (1011).to_bytes(2))
        assert payload[2:] == b"the agent's process ended: signal 9"
        writer.write(encode_close(1011, mask=MASK))
        assert await reader.read() == b""
        writer.close()
        await gateway.sessions.closed.wait()
        assert "by=agent code=1011" in gateway.sessions.events[-1][1]


async def test_an_agent_that_dies_inside_a_frame_ends_the_connection_without_a_lie() -> None:
    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await accept_upgrade(reader, writer)
        writer.write(b"\x82\x7e" + (1000).to_bytes(2) + b"a" * 10)
        await writer.drain()

    async with raw_agent(handler) as address, running_gateway(address) as gateway:
        reader, writer = await gateway.open()
        writer.write(gateway.upgrade_head())
        await reader.readuntil(b"\r\n\r\n")
        assert await reader.read() == b"\x82\x7e" + (1000).to_bytes(2) + b"a" * 10
        writer.close()
        await gateway.sessions.closed.wait()
        assert "by=agent code=1006" in gateway.sessions.events[-1][1]


@pytest.mark.parametrize(("code", "answered"), [(4000, 4000), (1006, 1002)])
async def test_an_agent_that_closes_without_an_answer_is_covered_for(
    code: int, answered: int
) -> None:
    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await accept_upgrade(reader, writer)
        await reader.readexactly(8)

    async with raw_agent(handler) as address, running_gateway(address) as gateway:
        reader, writer = await gateway.open()
        writer.write(gateway.upgrade_head())
        await reader.readuntil(b"\r\n\r\n")
        writer.write(encode_close(code, mask=MASK))
        assert await reader.read() == encode_close(answered)
        writer.close()
        await gateway.sessions.closed.wait()
        assert f"by=client code={code}" in gateway.sessions.events[-1][1]


async def test_a_client_that_vanishes_ends_the_agents_connection() -> None:
    gone: asyncio.Future[int | None] = asyncio.get_running_loop().create_future()

    async def handler(websocket: ServerConnection) -> None:
        await websocket.wait_closed()
        gone.set_result(websocket.close_code)

    async with agent(handler) as address, running_gateway(address) as gateway:
        websocket = await gateway.connect()
        websocket.transport.abort()
        assert await gone == 1006
        await gateway.sessions.closed.wait()
        assert "by=network code=1006" in gateway.sessions.events[-1][1]
        assert not gateway.sessions.held


async def test_a_client_that_half_closes_after_its_close_still_gets_the_answer() -> None:
    async with echo_gateway() as gateway:
        reader, writer = await gateway.open()
        writer.write(gateway.upgrade_head())
        await reader.readuntil(b"\r\n\r\n")
        writer.write(encode_close(1000, mask=MASK))
        writer.write_eof()
        assert await reader.read() == encode_close(1000)
        writer.close()


async def test_a_peer_that_never_finishes_the_close_handshake_is_cut() -> None:
    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await accept_upgrade(reader, writer)
        await reader.read()

    async with raw_agent(handler) as address:
        async with running_gateway(address, close_timeout_s=0.2) as gateway:
            reader, writer = await gateway.open()
            writer.write(gateway.upgrade_head())
            await reader.readuntil(b"\r\n\r\n")
            writer.write(encode_close(1000, mask=MASK))
            with contextlib.suppress(ConnectionResetError):
                assert await reader.read() == b""
            writer.close()
            await gateway.sessions.closed.wait()
            assert not gateway.sessions.held


async def test_a_slow_client_slows_the_agent_instead_of_filling_memory() -> None:
    sent = 0
    is_stuck = asyncio.Event()

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        await accept_upgrade(reader, writer)
        block = b"\x82\x7e" + (65000).to_bytes(2) + bytes(65000)
        while True:
            writer.write(block)
            try:
                async with asyncio.timeout(0.3):
                    await writer.drain()
            except TimeoutError:
                is_stuck.set()
                return
            sent += len(block)

    async with raw_agent(handler) as address:
        async with running_gateway(address, write_buffer_bytes=65536) as gateway:
            reader, writer = await gateway.open()
            writer.write(gateway.upgrade_head())
            await reader.readuntil(b"\r\n\r\n")
            await is_stuck.wait()
            # What the two sockets' kernel buffers take, and no more than that.
            assert sent < 32 * 2**20
            writer.transport.abort()
            await gateway.sessions.closed.wait()


async def test_a_drain_closes_with_1001_on_both_sides() -> None:
    got: asyncio.Future[tuple[int | None, str | None]] = asyncio.get_running_loop().create_future()

    async def handler(websocket: ServerConnection) -> None:
        await websocket.wait_closed()
        got.set_result((websocket.close_code, websocket.close_reason))

    async with agent(handler) as address, running_gateway(address) as gateway:
        async with gateway.connect() as websocket:
            gateway.server.stop()
            await websocket.wait_closed()
            assert websocket.close_code == 1001
            assert "same session id" in (websocket.close_reason or "")
        code, _ = await got
        assert code == 1001
        await gateway.serving
        assert gateway.health.is_draining
        assert "by=drain code=1001" in gateway.sessions.events[-1][1]
        assert not gateway.sessions.held


async def test_a_client_that_vanishes_from_an_agent_that_does_not_read_is_forgotten() -> None:
    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await accept_upgrade(reader, writer)
        writer.transport.pause_reading()  # type: ignore[attr-defined]
        await gone.wait()

    gone = asyncio.Event()
    async with raw_agent(handler) as address:
        async with running_gateway(
            address, close_timeout_s=0.3, write_buffer_bytes=2**20
        ) as gateway:
            reader, writer = await gateway.open()
            writer.write(gateway.upgrade_head())
            await reader.readuntil(b"\r\n\r\n")
            # More than the agent's socket takes, less than makes the gateway stop reading.
            writer.write((b"\x82\xfe" + (60_000).to_bytes(2) + MASK + bytes(60_000)) * 12)
            await writer.drain()
            await gateway.answers()
            writer.close()
            await gateway.sessions.closed.wait()
            assert not gateway.sessions.held
            gone.set()


async def test_a_client_cannot_fill_memory_while_its_agent_is_leaving() -> None:
    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await accept_upgrade(reader, writer)
        writer.transport.pause_reading()  # type: ignore[attr-defined]
        await is_flooding.wait()
        writer.write_eof()
        await gone.wait()

    is_flooding, gone = asyncio.Event(), asyncio.Event()
    block = (b"\x82\xfe" + (60_000).to_bytes(2) + MASK + bytes(60_000)) * 16
    async with raw_agent(handler) as address:
        async with running_gateway(address, close_timeout_s=0.5) as gateway:
            gateway.sessions.exited.set_result(ExitStatus(code=0))
            reader, writer = await gateway.open()
            writer.write(gateway.upgrade_head())
            await reader.readuntil(b"\r\n\r\n")

            async def flood() -> None:
                while True:
                    writer.write(block)
                    await writer.drain()

            before = resident_bytes()
            flooding = asyncio.create_task(flood())
            # Full up to here: the gateway has stopped reading, and the flood waits.
            for _ in range(3):
                await gateway.answers()
            is_flooding.set()
            await gateway.sessions.closed.wait()
            flooding.cancel()
            with contextlib.suppress(asyncio.CancelledError, ConnectionError):
                await flooding
            # Without a bound it is all that fits through loopback in the half second.
            assert resident_bytes() - before < 96 * 2**20
            writer.transport.abort()
            gone.set()
