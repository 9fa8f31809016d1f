"""Frames that arrive byte by byte: where a read ends says nothing about where a frame does."""

import pytest
from starlette.websockets import WebSocket

from tests.integration.agentserver.conftest import client_frame, serve

CLOSE, PING, PONG, TEXT = 8, 9, 10, 1


async def echo(websocket: WebSocket) -> None:
    async for text in websocket.iter_text():
        await websocket.send_text(text)


@pytest.mark.parametrize("opcode", [PONG, PING, TEXT])
@pytest.mark.parametrize("cut", [1, 2, 5, 6, 7])
async def test_a_first_frame_cut_anywhere(opcode: int, cut: int) -> None:
    frame = client_frame(opcode, b"hello")
    async with serve(echo) as host:
        client = await host.raw()
        client.writer.write(frame[:cut])
        await client.writer.drain()
        # The host has read the first part once it has answered somebody who came later.
        async with host.connect() as other:
            await other.send("x")
            assert await other.recv() == "x"
        client.writer.write(frame[cut:])
        if opcode != PONG:
            assert await client.frame() == (PONG if opcode == PING else TEXT, b"hello")
        client.send(TEXT, b"after")
        assert await client.frame() == (TEXT, b"after")
        await client.leave()
