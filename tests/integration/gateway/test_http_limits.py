"""The gateway's bounds of plain HTTP: of bodies, of answers nobody reads, and of what waits."""

import asyncio
import contextlib

import pytest
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from tests.integration.gateway.test_limits import counted, until
from tests.integration.gateway.test_relay import echo_gateway
from tests.support.gateway import Gateway, raw_agent, running_gateway

INVOKE = "/api/projects/default/agents/echo/endpoint/protocols/invocations?api-version=v1"


def invoke_head(gateway: Gateway, *extra: str) -> bytes:
    lines = [
        f"POST {INVOKE} HTTP/1.1",
        "Host: x",
        f"Authorization: Bearer {gateway.token()}",
        *extra,
    ]
    return "\r\n".join(lines).encode() + b"\r\n\r\n"


async def test_an_agent_that_never_reads_a_large_body_is_given_up() -> None:
    never = asyncio.Event()

    async def deaf(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await never.wait()

    async with raw_agent(deaf) as address:
        async with running_gateway(address, stalled_reader_s=0.4) as gateway:
            reader, writer = await gateway.open()
            writer.write(invoke_head(gateway, "Content-Length: 16777216"))
            writer.write(bytes(16_777_216))
            head = await reader.readuntil(b"\r\n\r\n")
            assert b" 502 " in head
            assert b"stalled_reader_s" in await reader.read(1000)
            writer.close()
            await gateway.sessions.all_returned.wait()
            assert counted(gateway, "stalled_reader_s") == 1
            never.set()


async def test_an_agent_that_answers_and_never_reads_the_body_is_given_up(caplog) -> None:
    never = asyncio.Event()

    async def answers_only(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\n12345")
        await never.wait()

    async with raw_agent(answers_only) as address:
        async with running_gateway(address, stalled_reader_s=0.4) as gateway:
            reader, writer = await gateway.open()
            writer.write(invoke_head(gateway, "Content-Length: 16777216"))
            writer.write(bytes(16_777_216))
            answer = b""
            with contextlib.suppress(ConnectionError):
                while data := await reader.read(1000):
                    answer += data
            assert answer.endswith(b"\r\n\r\n12345")
            writer.close()
            await gateway.sessions.all_returned.wait()
            assert counted(gateway, "stalled_reader_s") == 1
            assert "stalled_reader_s" in caplog.text
            never.set()


async def test_a_slow_agent_is_not_given_up() -> None:
    async def slow(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        for _ in range(20):
            await reader.readexactly(50_000)
            await asyncio.sleep(0.12)
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok")
        await writer.drain()

    async with raw_agent(slow) as address:
        # For all of it, it takes longer than one may take for nothing.
        async with running_gateway(address, stalled_reader_s=1.5) as gateway:
            reader, writer = await gateway.open()
            writer.write(invoke_head(gateway, "Content-Length: 1000000"))
            writer.write(bytes(1_000_000))
            assert b" 200 " in await reader.readuntil(b"\r\n\r\n")
            writer.close()
            assert counted(gateway, "stalled_reader_s") == 0


async def test_a_client_that_never_reads_its_answer_is_cut_and_named(caplog) -> None:
    async def flood(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n")
        with contextlib.suppress(ConnectionError):
            while not writer.is_closing():
                writer.write(b"4000\r\n" + bytes(0x4000) + b"\r\n")
                await writer.drain()

    async with raw_agent(flood) as address:
        async with running_gateway(address, stalled_reader_s=0.4) as gateway:
            _, writer = await gateway.open()
            writer.write(invoke_head(gateway, "Content-Length: 0"))
            await until(lambda: counted(gateway, "stalled_reader_s") == 1)
            await gateway.sessions.all_returned.wait()
            await until(lambda: not gateway.server.server_state.connections)
            assert "the client read nothing for 0.4 s (stalled_reader_s): address=127.0.0.1" in (
                caplog.text
            )
            writer.close()


def gets(count: int) -> bytes:
    return b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n" * count


async def test_requests_may_wait_for_those_before_them_but_not_too_many() -> None:
    async with echo_gateway(max_pipelined_requests=4) as gateway:
        reader, writer = await gateway.open()
        writer.write(gets(5))
        for _ in range(5):
            assert (await reader.readline()).startswith(b"HTTP/1.1 200")
            head = await reader.readuntil(b"\r\n\r\n")
            await reader.readexactly(int(head.split(b"content-length: ")[1].split(b"\r")[0]))
        # Once they are answered there is room again.
        writer.write(gets(5))
        assert (await reader.readline()).startswith(b"HTTP/1.1 200")
        writer.close()
        reader, writer = await gateway.open()
        writer.write(gets(300))
        answered = (await reader.read()).count(b"HTTP/1.1 200")
        writer.close()
        assert answered < 5
        # What stood behind the one too many in the same read wasn't looked at.
        assert counted(gateway, "max_pipelined_requests") == 1


async def test_what_stands_behind_a_refused_request_is_not_taken_apart(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    begun = []
    real = HttpToolsProtocol.on_message_begin
    monkeypatch.setattr(
        HttpToolsProtocol, "on_message_begin", lambda door: (begun.append(door), real(door))[1]
    )
    async with echo_gateway() as gateway:
        reader, writer = await gateway.open()
        writer.write(b"GET /healthz HTTP/1.1\r\nHost: x\r\nHost: y\r\n\r\n" + gets(300))
        answer = await reader.read()
        writer.close()
    assert answer.count(b"HTTP/1.1") == 1
    assert answer.startswith(b"HTTP/1.1 400")
    assert len(begun) == 1
