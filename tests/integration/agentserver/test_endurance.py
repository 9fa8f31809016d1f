"""What must not bring a host down: those who flood, those who don't read, and nonsense."""

import asyncio
import gc
import zlib
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings, strategies as st
from picows.picows import WSProtocol

from tests.integration.agentserver.conftest import RawClient, client_frame, serve

TEXT, BINARY, CLOSE, PING, PONG = 1, 2, 8, 9, 10
UPGRADE = (
    b"GET /invocations_ws HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)
READINESS = b"GET /readiness HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"


async def echo(websocket):
    async for data in websocket.iter_bytes():
        await websocket.send_bytes(data)


def resident_bytes():
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * 4096


async def is_ready(host):
    async with asyncio.timeout(5):
        return b" 200 OK" in await host.http(READINESS)


async def test_a_handler_that_sends_for_ever_to_a_client_that_never_reads():
    sent = 0

    async def flood(websocket):
        nonlocal sent
        while True:
            await websocket.send_bytes(bytes(65536))
            sent += 1

    async with serve(flood, ws_close_timeout_s=0.2, graceful_shutdown_timeout=1) as host:
        clients = [await host.raw() for _ in range(5)]
        await asyncio.sleep(0.3)
        before, sent_before = resident_bytes(), sent
        await asyncio.sleep(1)
        assert await is_ready(host)
        assert sent - sent_before < 50
        assert resident_bytes() - before < 8 << 20
        for client in clients:
            client.writer.transport.abort()


async def test_a_handler_that_sends_for_ever_to_a_client_that_reads_starves_nobody():
    async def flood(websocket):
        while True:
            await websocket.send_text("x")

    async with serve(flood, graceful_shutdown_timeout=1) as host:
        client = await host.raw()

        async def drop():
            while await client.reader.read(65536):
                pass

        reading = asyncio.ensure_future(drop())
        for _ in range(3):
            assert await is_ready(host)
        client.writer.transport.abort()
        await asyncio.gather(reading, return_exceptions=True)


async def test_a_client_that_sends_for_ever_to_a_handler_that_never_reads(events):
    async def deaf(websocket):
        await asyncio.Event().wait()

    async with serve(
        deaf, ws_max_queued_bytes=1 << 20, ws_disconnect_grace_s=0.1, graceful_shutdown_timeout=1
    ) as host:
        client = await host.raw()
        frame = client_frame(BINARY, bytes(65536))

        async def flood():
            while True:
                client.writer.write(frame)
                await client.writer.drain()

        flooding = asyncio.ensure_future(flood())
        await asyncio.sleep(0.5)
        before = resident_bytes()
        await asyncio.sleep(1)
        assert await is_ready(host)
        assert resident_bytes() - before < 8 << 20
        flooding.cancel()
        client.writer.transport.abort()


async def test_a_flood_of_small_messages_to_a_handler_that_reads_starves_nobody():
    received = 0

    async def read(websocket):
        nonlocal received
        async for _ in websocket.iter_bytes():
            received += 1

    async with serve(read) as host:
        client = await host.raw()
        many = client_frame(BINARY, b"x") * 2000

        async def flood():
            while True:
                client.writer.write(many)
                await client.writer.drain()

        flooding = asyncio.ensure_future(flood())
        for _ in range(3):
            assert await is_ready(host)
        async with asyncio.timeout(10):
            while received < 20_000:  # noqa: ASYNC110 - the handler has no word to give
                await asyncio.sleep(0.01)
        flooding.cancel()
        client.writer.transport.abort()


async def cycle(host, count):
    """Connect, talk, and leave in each of three ways."""
    for number in range(count):
        client = await host.raw()
        client.send(BINARY, b"hello")
        assert await client.frame() == (BINARY, b"hello")
        if number % 3 == 0:
            client.send(CLOSE, b"\x03\xe8")
            assert await client.close_code() == 1000
            await client.leave()
        elif number % 3 == 1:
            await client.leave()
        else:
            client.writer.transport.abort()


async def grown_bytes(cycles):
    async with serve(echo) as host:
        await asyncio.gather(*(cycle(host, 60) for _ in range(10)))
        await asyncio.sleep(0.2)
        gc.collect()
        before = resident_bytes()
        await asyncio.gather(*(cycle(host, cycles // 10) for _ in range(10)))
        await asyncio.sleep(0.2)
        gc.collect()
        assert not host.server.server_state.tasks
        assert not host.server.server_state.connections
        return resident_bytes() - before


async def test_2000_connections_leave_nothing_behind():
    assert await grown_bytes(2000) < 4 << 20


@pytest.mark.long
@pytest.mark.timeout(600)
async def test_10000_connections_leave_nothing_behind():
    assert await grown_bytes(10_000) < 4 << 20


async def test_a_compressed_bomb_is_a_frame_with_a_bit_that_means_nothing(events):
    squeeze = zlib.compressobj(wbits=-15)
    bomb = squeeze.compress(bytes(64 << 20)) + squeeze.flush(zlib.Z_SYNC_FLUSH)
    assert len(bomb) > 60_000
    async with serve(echo) as host:
        before = resident_bytes()
        client = await host.raw()
        client.send(BINARY, bomb, rsv=0x40)
        assert await client.close_code() == 1002
        await client.leave()
        assert (await events.next())["closed_by"] == "protocol"
        assert resident_bytes() - before < 8 << 20


async def test_room_for_a_long_message_is_given_back_when_pongs_come():
    async with serve(echo, ws_keepalive_interval_s=0) as host:
        clients = [await host.raw() for _ in range(8)]

        async def pong(client):
            client.send(PONG)
            client.send(PING, b"seen")
            assert await client.frame() == (PONG, b"seen")

        def parsers():
            return sum(type(thing) is WSProtocol for thing in gc.get_objects())

        payload = bytes(4 << 20)
        for client in clients:
            client.send(BINARY, payload)
            assert await client.frame() == (BINARY, payload)
        assert parsers() == 8
        for client in clients:
            client.send(PONG)
        await asyncio.sleep(0.1)
        assert parsers() == 0
        for client in clients:
            client.send(BINARY, b"awake")
            assert await client.frame() == (BINARY, b"awake")
            await client.leave()


@pytest.mark.parametrize("rest", [b"", b"\x81\x82\0\0\0\0hi"])
async def test_a_connection_at_rest_takes_whatever_comes_next(rest):
    pongs = client_frame(PONG, b"") + client_frame(PONG, b"abc")

    async with serve(echo, ws_keepalive_interval_s=0) as host:
        for size in (0, 5, 5000):
            client = await host.raw()
            for _ in range(2):
                # Two pongs with nothing said between them put the parser away.
                client.writer.write(pongs)
                await asyncio.sleep(0.05)
                whole = client_frame(BINARY, bytes(size))
                client.writer.write(pongs + whole[:1])
                await asyncio.sleep(0.05)
                client.writer.write(whole[1:] + pongs)
                assert await client.frame() == (BINARY, bytes(size))
            await client.leave()


async def serves_on(host):
    client = await host.raw()
    client.send(BINARY, b"still there")
    assert await client.frame() == (BINARY, b"still there")
    client.send(CLOSE, b"\x03\xe8")
    assert await client.close_code() == 1000
    await client.leave()


frames = st.builds(
    client_frame,
    st.integers(0, 15),
    st.binary(max_size=300) | st.just(bytes(70_000)),
    fin=st.booleans(),
    rsv=st.sampled_from([0, 0, 0, 0x10, 0x40]),
)
streams = st.lists(frames | st.binary(max_size=40), max_size=8).map(b"".join)
heads = st.one_of(
    st.binary(max_size=400),
    st.tuples(st.integers(0, len(UPGRADE)), st.binary(max_size=20)).map(
        lambda cut: UPGRADE[: cut[0]] + cut[1] + UPGRADE[cut[0] :]
    ),
    st.tuples(st.integers(0, len(UPGRADE) - 1), st.integers(1, 40)).map(
        lambda cut: UPGRADE[: cut[0]] + UPGRADE[cut[0] + cut[1] :]
    ),
)


async def talk(host, pieces):
    """Send pieces, each by itself, stop sending, and return all that was answered."""
    reader, writer = await asyncio.open_connection("127.0.0.1", host.port)
    try:
        for piece in pieces:
            writer.write(piece)
            await asyncio.sleep(0)
        writer.write_eof()
        async with asyncio.timeout(10):
            return await reader.read()
    except (ConnectionError, OSError):
        return b""
    finally:
        writer.transport.abort()


def fuzz(pieces_of, examples):
    """Have a host take each example; it must end the connection and serve on."""
    loop = asyncio.new_event_loop()

    async def one(host, value):
        answer = await talk(host, pieces_of(value))
        assert b"Traceback" not in answer

    try:
        context = serve(echo, graceful_shutdown_timeout=1, ws_close_timeout_s=0.5)
        host = loop.run_until_complete(context.__aenter__())

        @settings(
            max_examples=60,
            deadline=None,
            suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
        )
        @given(examples)
        def run(value):
            loop.run_until_complete(one(host, value))

        run()
        loop.run_until_complete(serves_on(host))
        loop.run_until_complete(context.__aexit__(None, None, None))
    finally:
        loop.close()


def test_no_frame_brings_a_host_down(caplog):
    fuzz(lambda stream: [UPGRADE, stream], streams)
    assert "Traceback" not in caplog.text


def test_no_frame_in_pieces_brings_a_host_down(caplog):
    def cut(value):
        stream, size = value
        return [UPGRADE, *(stream[at : at + size] for at in range(0, min(len(stream), 2000), size))]

    fuzz(cut, st.tuples(streams, st.integers(1, 50)))
    assert "Traceback" not in caplog.text


def test_no_head_brings_a_host_down(caplog):
    fuzz(lambda head: [head], heads)
    assert "Traceback" not in caplog.text


async def test_a_head_without_end_is_refused():
    async with serve(echo) as host:
        answer = await host.http(b"GET / HTTP/1.1\r\n" + b"x: %b\r\n" % (b"y" * 1000) * 70)
        assert answer.startswith(b"HTTP/1.1 431 ")
        one_line = await host.http(b"GET / HTTP/1.1\r\nx: " + b"y" * (65 << 10))
        assert one_line.startswith(b"HTTP/1.1 431 ")
        assert await is_ready(host)


async def test_a_head_that_takes_too_long_is_refused(monkeypatch):
    monkeypatch.setattr("trunkline.agentserver._http.HEAD_TIMEOUT_S", 0.2)
    async with serve(echo) as host:
        assert (await host.http(b"GET / HT")).startswith(b"HTTP/1.1 408 ")
        assert (await host.http(b"")).startswith(b"HTTP/1.1 408 ")
        # A request whose head came in time may take as long as it likes, and a WebSocket too.
        client = await host.raw()
        await asyncio.sleep(0.4)
        client.send(BINARY, b"later")
        assert await client.frame() == (BINARY, b"later")
        await client.leave()


async def test_a_second_head_has_its_own_time(monkeypatch):
    monkeypatch.setattr("trunkline.agentserver._http.HEAD_TIMEOUT_S", 0.3)
    async with serve(echo) as host:
        reader, writer = await asyncio.open_connection("127.0.0.1", host.port)
        writer.write(READINESS.replace(b"close", b"keep-alive"))
        await reader.readuntil(b'"healthy"}')
        await asyncio.sleep(0.5)
        writer.write(b"GET /")
        assert (await reader.read()).startswith(b"HTTP/1.1 408 ")
        writer.close()


async def test_an_upgrade_cannot_overtake_a_request():
    async def slow(request):
        await asyncio.sleep(5)

    async with serve(echo, graceful_shutdown_timeout=0) as host:
        host.app.invoke_handler(slow)
        client = RawClient(*await asyncio.open_connection("127.0.0.1", host.port))
        client.writer.write(b"POST /invocations HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n")
        client.writer.write(UPGRADE)
        assert await client.reader.read() == b""
        await client.leave()
