"""How an agent may answer an upgrade, and how long it may take to be connected to."""

import asyncio
import contextlib
import errno
import socket
import tempfile
from collections.abc import Iterator

import pytest

from tests.support.gateway import Gateway, accept_upgrade, raw_agent, running_gateway
from trunkline.runtimes.interface import Address

pytestmark = pytest.mark.usefixtures("relay_of")

ANSWER = (
    b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n"
)


async def upgraded(gateway: Gateway) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    reader, writer = await gateway.open()
    writer.write(gateway.upgrade_head())
    assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 101 ")
    return reader, writer


@pytest.mark.parametrize("cut", [1, 12, 13, len(ANSWER) - 4, len(ANSWER) - 1, len(ANSWER) + 1])
async def test_an_answer_in_pieces_with_frames_behind_it(cut: int) -> None:
    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        # What waits for the answer reads each before the next comes.
        writer.write(ANSWER[:cut])
        await asyncio.sleep(0.01)
        writer.write(ANSWER[cut:] + b"\x82\x03one\x82\x03two"[max(cut - len(ANSWER), 0) :])
        while data := await reader.read(100):
            writer.write(data)

    async with raw_agent(handler) as address, running_gateway(address) as gateway:
        reader, writer = await upgraded(gateway)
        frames = b"\x82\x03one\x82\x03two"[max(cut - len(ANSWER), 0) :]
        assert await reader.readexactly(len(frames)) == frames
        writer.write(b"\x82\x02hi")
        assert await reader.readexactly(4) == b"\x82\x02hi"
        writer.close()
        await gateway.sessions.closed.wait()


async def test_an_agent_at_a_port() -> None:
    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await accept_upgrade(reader, writer)
        while data := await reader.read(100):
            writer.write(data)
        writer.close()

    server = await asyncio.start_server(handler, "127.0.0.1", 0)
    async with server:
        address = Address(port=server.sockets[0].getsockname()[1])
        async with running_gateway(address) as gateway:
            reader, writer = await upgraded(gateway)
            writer.write(b"\x82\x02hi")
            assert await reader.readexactly(4) == b"\x82\x02hi"
            writer.close()
            await gateway.sessions.closed.wait()


@contextlib.contextmanager
def full_agent() -> Iterator[tuple[socket.socket, Address]]:
    """An agent whose queue of connections is full until it accepts some."""
    with tempfile.TemporaryDirectory(prefix="trunkline-test-") as folder:
        path = f"{folder}/agent.sock"
        with socket.socket(socket.AF_UNIX) as agent, contextlib.ExitStack() as stack:
            agent.bind(path)
            agent.listen(0)
            error = 0
            while not error:
                waiting = stack.enter_context(socket.socket(socket.AF_UNIX))
                waiting.setblocking(False)
                error = waiting.connect_ex(path)
            assert error == errno.EAGAIN
            yield agent, Address(path=path)


async def test_an_agent_that_has_no_room_yet_is_waited_for() -> None:
    with full_agent() as (agent, address):
        async with running_gateway(address) as gateway:
            asking = asyncio.create_task(upgraded(gateway))
            while not gateway.sessions.held:
                await gateway.answers()
            await asyncio.sleep(0.02)
            assert not asking.done()

            async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
                with contextlib.suppress(asyncio.IncompleteReadError):
                    await accept_upgrade(reader, writer)
                    await reader.read()
                writer.close()

            server = await asyncio.start_unix_server(handler, sock=agent)
            _, writer = await asking
            writer.close()
            await gateway.sessions.closed.wait()
            server.close()


async def test_an_agent_that_never_has_room_is_given_up() -> None:
    with full_agent() as (_, address):
        async with running_gateway(address, connect_timeout_s=0.1) as gateway:
            reader, writer = await gateway.open()
            writer.write(gateway.upgrade_head())
            answer = await reader.read()
            assert answer.startswith(b"HTTP/1.1 502 ")
            assert b"connect_timeout_s" in answer
            writer.close()
            await gateway.sessions.all_returned.wait()


async def test_a_client_that_leaves_while_there_is_no_room() -> None:
    with full_agent() as (agent, address):
        async with running_gateway(address) as gateway:
            _, writer = await gateway.open()
            writer.write(gateway.upgrade_head())
            while not gateway.sessions.held:
                await gateway.answers()
            writer.close()
            await gateway.sessions.all_returned.wait()
            agent.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                while True:
                    accepted, _ = agent.accept()
                    accepted.setblocking(False)
                    # One of those that fill the queue, which never say anything.
                    with accepted, pytest.raises(BlockingIOError):
                        accepted.recv(1)
            await gateway.answers()
            assert not gateway.server.server_state.connections
