"""Upgrades and what comes close to them on one connection: before, behind and too early."""

import asyncio
import contextlib

from tests.support.gateway import (
    NEW_PATH,
    accept_upgrade,
    raw_agent,
    running_gateway,
)
from tests.unit.gateway.answers import parse_answer


async def echo_raw(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await accept_upgrade(reader, writer)
    while data := await reader.read(65536):
        writer.write(data)


async def test_an_upgrade_on_a_kept_alive_connection() -> None:
    async with raw_agent(echo_raw) as address, running_gateway(address) as gateway:
        reader, writer = await gateway.open()
        for _ in range(2):
            writer.write(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
            raw = await reader.readuntil(b"\r\n\r\n")
            answer = parse_answer(raw)
            assert answer.status == 200
            await reader.readexactly(int(answer.headers["content-length"]))
        writer.write(gateway.upgrade_head())
        assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 101 ")
        writer.write(b"\x82\x02hi")
        assert await reader.readexactly(4) == b"\x82\x02hi"
        writer.transport.abort()
        await gateway.sessions.closed.wait()
        await gateway.answers()
        assert not gateway.server.server_state.connections


async def test_an_upgrade_right_behind_an_unanswered_request_starts_nothing() -> None:
    async with raw_agent(echo_raw) as address, running_gateway(address) as gateway:
        reader, writer = await gateway.open()
        writer.write(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n" + gateway.upgrade_head())
        raw = await reader.read()
        assert b" 101 " not in raw
        assert gateway.sessions.asked == []
        writer.close()


async def test_what_is_sent_right_behind_the_head_is_delivered_after_the_101() -> None:
    async with raw_agent(echo_raw) as address, running_gateway(address) as gateway:
        gateway.sessions.gate.clear()
        reader, writer = await gateway.open()
        writer.write(gateway.upgrade_head() + b"\x82\x03one")
        while not gateway.sessions.asked:
            await gateway.answers()
        writer.write(b"\x82\x03two")
        await gateway.answers()
        gateway.sessions.gate.set()
        assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 101 ")
        writer.write(b"\x82\x05three")
        assert await reader.readexactly(17) == b"\x82\x03one\x82\x03two\x82\x05three"
        writer.transport.abort()
        await gateway.sessions.closed.wait()


async def test_what_the_agent_sends_with_its_101_comes_after_it() -> None:
    async def greeting(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(
            b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"x-agent-session-id: forged\r\nX-Request-Id: forged\r\nx-mine: kept\r\n"
            b"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n\x82\x05hello"
        )
        await reader.read()

    async with raw_agent(greeting) as address, running_gateway(address) as gateway:
        reader, writer = await gateway.open()
        writer.write(gateway.upgrade_head(NEW_PATH + "&agent_session_id=mine"))
        answer = parse_answer(await reader.readuntil(b"\r\n\r\n"))
        assert answer.headers["x-agent-session-id"] == "mine"
        assert answer.headers["x-request-id"] != "forged"
        assert answer.headers["x-mine"] == "kept"
        assert await reader.readexactly(7) == b"\x82\x05hello"
        writer.transport.abort()
        await gateway.sessions.closed.wait()


async def test_what_was_sent_too_early_does_not_undo_the_bound_on_the_buffer() -> None:
    """An agent that reads nothing slows the client, however much the client sent before the 101."""

    is_over = asyncio.Event()

    async def deaf(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await accept_upgrade(reader, writer)
        await is_over.wait()

    async with raw_agent(deaf) as address:
        async with running_gateway(address, write_buffer_bytes=65536) as gateway:
            gateway.sessions.gate.clear()
            reader, writer = await gateway.open()
            block = b"\x82\x7e" + (65000).to_bytes(2) + bytes(65000)
            writer.write(gateway.upgrade_head())
            while not gateway.sessions.asked:
                await gateway.answers()
            # More than a Unix socket's buffer holds, so that the gateway has to keep some of it.
            writer.write(block * 40)
            await gateway.answers()
            gateway.sessions.gate.set()
            await reader.readuntil(b"\r\n\r\n")
            sent = 0
            with contextlib.suppress(TimeoutError):
                while sent < 64 * 2**20:
                    writer.write(block)
                    async with asyncio.timeout(0.5):
                        await writer.drain()
                    sent += len(block)
            assert sent < 64 * 2**20
            writer.transport.abort()
            is_over.set()
            await gateway.sessions.closed.wait()
