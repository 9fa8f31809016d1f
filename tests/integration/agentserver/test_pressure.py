"""Much at once, in either direction: who is slow makes the other wait, and nobody else."""

import asyncio

from tests.integration.agentserver.conftest import serve

TEXT, PING, PONG = 1, 9, 10


class TestPressure:
    async def test_a_ping_is_answered_while_the_handler_is_busy(self):
        async def handler(websocket):
            await asyncio.Event().wait()

        async with serve(handler, ws_disconnect_grace_s=0) as host:
            client = await host.raw()
            for _ in range(200):
                client.send(TEXT, b"m")
            client.send(PING, b"p")
            assert await client.frame() == (PONG, b"p")
            await client.leave()

    async def test_reading_stops_when_too_much_waits_and_starts_again(self):
        go = asyncio.Event()
        got = 0

        async def handler(websocket):
            nonlocal got
            await go.wait()
            async for data in websocket.iter_bytes():
                got += len(data)
                if got == total:
                    await websocket.send_text("all")

        piece = bytes(64 * 1024)
        total = 512 * len(piece)
        async with serve(handler, ws_max_queued_bytes=256 * 1024) as host:
            async with host.connect() as client:
                sending = asyncio.create_task(send_all(client, piece, 512))
                # The sender can only be done once the handler runs: no buffer holds 32 MiB.
                done, _ = await asyncio.wait((sending,), timeout=0.2)
                assert not done
                go.set()
                await sending
                assert await client.recv() == "all"

    async def test_a_client_that_does_not_read_makes_the_handler_wait(self):
        sent = 0

        async def handler(websocket):
            nonlocal sent
            while True:
                await websocket.send_bytes(bytes(64 * 1024))
                sent += 1

        async with serve(handler, ws_close_timeout_s=0.05) as host:
            client = await host.raw()
            count = -1
            while count != sent:
                count = sent
                await asyncio.sleep(0.05)
            assert count * 64 * 1024 < 64 << 20
            await client.leave()

    async def test_a_handler_that_never_waits_leaves_room_for_others(self):
        async def handler(websocket):
            while True:
                await websocket.send_text("x")

        async with serve(handler) as host:
            client = await host.raw()
            reading = asyncio.create_task(client.reader.read(1 << 30))
            answer = await host.http(
                b"GET /readiness HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
            )
            assert b" 200 " in answer
            reading.cancel()
            await client.leave()


async def send_all(client, piece, times):
    for _ in range(times):
        await client.send(piece)
