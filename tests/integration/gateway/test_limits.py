"""Each of the gateway's bounds: what it refuses or closes, what it says, and that it is counted."""

import asyncio
import contextlib
import json
import socket
from collections.abc import AsyncIterator, Callable

import pytest
from websockets.asyncio.server import ServerConnection
from websockets.exceptions import ConnectionClosed, InvalidStatus

from tests.integration.gateway.test_relay import agent, echo_gateway
from tests.support.gateway import NEW_PATH, Gateway, accept_upgrade, raw_agent, running_gateway

MASK = b"\0\0\0\0"
PING = b"\x89\x80" + MASK
FLOOD = b"\x82\x7e\x40\x00" + bytes(0x4000)


def counted(gateway: Gateway, limit: str) -> float:
    for line in gateway.metrics.render().decode().splitlines():
        if line.startswith(f'trunkline_limit_refusals_total{{limit="{limit}"}}'):
            return float(line.rpartition(" ")[2])
    return 0


async def until(is_so: Callable[[], bool]) -> None:
    while not is_so():  # noqa: ASYNC110 - what is waited for tells nobody
        await asyncio.sleep(0.01)


async def upgraded(gateway: Gateway) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    reader, writer = await gateway.open()
    writer.write(gateway.upgrade_head())
    assert b" 101 " in await reader.readuntil(b"\r\n\r\n")
    return reader, writer


async def answer_of(reader: asyncio.StreamReader) -> tuple[int, dict]:
    head, _, body = (await reader.read()).partition(b"\r\n\r\n")
    return int(head.split(b" ")[1]), json.loads(body)["error"] | {"head": head.lower()}


@contextlib.asynccontextmanager
async def closed_by_limit(
    gateway: Gateway, code: int, limit: str, value: float
) -> AsyncIterator[None]:
    """Expect the block's connection to end by a limit, and everybody to be told so."""
    yield
    await gateway.sessions.closed.wait()
    (event,) = gateway.sessions.ended
    assert (event["closed_by"], event["code"]) == ("limit", code)
    assert event["limit"] == {
        "name": limit,
        "setting": f"TRUNKLINE_GATEWAY_{limit.upper()}",
        "value": value,
    }
    assert limit in event["reason"]
    assert counted(gateway, limit) == 1
    line = gateway.sessions.events[-1][1]
    assert f"limit={limit} setting=TRUNKLINE_GATEWAY_{limit.upper()}" in line
    assert not gateway.sessions.held
    assert not gateway.server.server_state.connections


# Connections at once


async def test_one_connection_too_many_is_answered_503_and_the_next_is_served_again() -> None:
    async with echo_gateway(max_connections=2) as gateway:
        async with gateway.connect() as first, gateway.connect():
            reader, writer = await gateway.open()
            status, error = await answer_of(reader)
            assert (status, error["code"]) == (503, "unavailable")
            assert "max_connections" in error["message"]
            assert b"retry-after:" in error["head"]
            writer.close()
            assert counted(gateway, "max_connections") == 1
            await first.send("still served")
            assert await first.recv() == "still served"
        for _ in range(20):
            await gateway.answers()


async def test_far_too_many_connections_are_dropped_without_a_word() -> None:
    async with echo_gateway(max_connections=1) as gateway:
        async with gateway.connect():
            socks = []
            for _ in range(300):
                sock = socket.socket()
                sock.setblocking(False)
                await asyncio.get_running_loop().sock_connect(sock, ("127.0.0.1", gateway.port))
                socks.append(sock)
            limits = gateway.services.limits
            await until(lambda: counted(gateway, "max_connections") == 300)
            assert len(limits.places) <= 1 + 256
            for sock in socks:
                sock.close()
            await until(lambda: len(limits.places) == 1)
        await until(lambda: not limits.places)
        assert len(limits.addresses) == 0


async def test_an_address_may_have_only_so_many() -> None:
    async with echo_gateway(max_connections_per_address=1) as gateway:
        async with gateway.connect():
            reader, writer = await gateway.open()
            status, error = await answer_of(reader)
            assert (status, error["code"]) == (429, "too_many_connections")
            assert "max_connections_per_address" in error["message"]
            writer.close()
            assert counted(gateway, "max_connections_per_address") == 1
        await gateway.sessions.closed.wait()
        await gateway.answers()


async def test_behind_a_trusted_proxy_the_address_is_the_one_it_names() -> None:
    async with echo_gateway(
        max_connections_per_address=1, trusted_proxies=("127.0.0.0/8",)
    ) as gateway:
        one, other = ({"X-Forwarded-For": f"6.6.6.6, 192.0.2.{n}"} for n in (1, 2))
        async with gateway.connect(headers=one), gateway.connect(headers=other):
            with pytest.raises(InvalidStatus) as refused:
                await gateway.connect(headers=one)
            assert refused.value.response.status_code == 429
            assert b"max_connections_per_address" in refused.value.response.body
        await gateway.sessions.closed.wait()
        async with gateway.connect(headers=one):
            pass
        assert {event["address"] for event in gateway.sessions.ended} <= {"192.0.2.1", "192.0.2.2"}


async def test_x_forwarded_for_of_anybody_else_is_ignored() -> None:
    async with echo_gateway(max_connections_per_address=1) as gateway:
        async with gateway.connect(headers={"X-Forwarded-For": "192.0.2.1"}):
            reader, writer = await gateway.open()
            assert (await answer_of(reader))[0] == 429
            writer.close()
        await gateway.sessions.closed.wait()
        assert gateway.sessions.ended[0]["address"] == "127.0.0.1"


async def test_an_identity_may_have_only_so_many() -> None:
    async with echo_gateway(max_connections_per_identity=1) as gateway:
        async with gateway.connect():
            with pytest.raises(InvalidStatus) as refused:
                await gateway.connect()
            assert refused.value.response.status_code == 429
            assert b"max_connections_per_identity" in refused.value.response.body
            other = {"Authorization": f"Bearer {gateway.issuer.issue('somebody-else')}"}
            async with gateway.connect(headers=other):
                pass
        await gateway.sessions.closed.wait()
        assert counted(gateway, "max_connections_per_identity") == 1
        assert len(gateway.services.limits.identities) <= 1


async def test_a_session_may_have_only_so_many() -> None:
    async with echo_gateway(max_connections_per_session=2) as gateway:
        path = f"{NEW_PATH}&agent_session_id=s"
        async with gateway.connect(path), gateway.connect(path):
            with pytest.raises(InvalidStatus) as refused:
                await gateway.connect(path)
            assert refused.value.response.status_code == 429
            assert b"max_connections_per_session" in refused.value.response.body
            async with gateway.connect(f"{NEW_PATH}&agent_session_id=t"):
                pass
            assert len(gateway.sessions.held) == 2
        await gateway.sessions.all_returned.wait()
        async with gateway.connect(path):
            pass
        assert counted(gateway, "max_connections_per_session") == 1


async def test_a_refused_upgrade_gives_its_places_back() -> None:
    async with echo_gateway(max_connections_per_identity=1) as gateway:
        for _ in range(3):
            with pytest.raises(InvalidStatus) as refused:
                await gateway.connect(NEW_PATH.replace("echo", "nobody"))
            assert refused.value.response.status_code == 404
        async with gateway.connect():
            pass


# Heads


async def test_a_request_with_too_many_headers_is_431() -> None:
    async with echo_gateway(max_headers=16) as gateway:
        for count, status in ((15, 200), (16, 431)):
            reader, writer = await gateway.open()
            extra = "".join(f"X-{n}: 1\r\n" for n in range(count - 1))
            writer.write(
                f"GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{extra}\r\n\r\n".encode()
            )
            head = await reader.read()
            assert head.startswith(f"HTTP/1.1 {status} ".encode())
            writer.close()
        assert b"max_headers" in head
        assert counted(gateway, "max_headers") == 1


async def test_limits_on_heads_are_counted() -> None:
    async with echo_gateway(max_head_bytes=1024, head_timeout_s=0.05) as gateway:
        reader, writer = await gateway.open()
        writer.write(b"GET /" + b"x" * 2000)
        assert b" 431 " in await reader.read()
        writer.close()
        reader, writer = await gateway.open()
        assert b" 408 " in await reader.read()
        writer.close()
        assert counted(gateway, "max_head_bytes") == 1
        assert counted(gateway, "head_timeout_s") == 1


async def test_an_agent_that_never_answers_the_upgrade_is_counted() -> None:
    never = asyncio.Event()

    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await never.wait()

    async with raw_agent(silent) as address:
        async with running_gateway(address, connect_timeout_s=0.05) as gateway:
            with pytest.raises(InvalidStatus) as refused:
                await gateway.connect()
            assert refused.value.response.status_code == 502
            assert counted(gateway, "connect_timeout_s") == 1
            never.set()


# Connections in time


async def test_a_frame_over_the_limit_is_counted() -> None:
    async with echo_gateway(max_frame_bytes=200) as gateway:
        async with closed_by_limit(gateway, 1009, "max_frame_bytes", 200):
            async with gateway.connect() as websocket:
                await websocket.send(bytes(201))
                await websocket.wait_closed()


async def test_a_connection_ends_when_it_is_old_however_busy() -> None:
    async with echo_gateway(max_connection_s=0.3) as gateway:
        async with closed_by_limit(gateway, 1001, "max_connection_s", 0.3):
            async with gateway.connect() as websocket:
                with contextlib.suppress(ConnectionClosed):
                    while True:
                        await websocket.send("x")
                        await websocket.recv()
            assert websocket.close_code == 1001
            assert "same session id" in (websocket.close_reason or "")
        assert gateway.sessions.ended[0]["age_s"] >= 0.3


async def test_a_silent_connection_is_closed() -> None:
    async with echo_gateway(idle_connection_s=0.2) as gateway:
        async with closed_by_limit(gateway, 1001, "idle_connection_s", 0.2):
            async with gateway.connect() as websocket:
                await websocket.wait_closed()
            assert websocket.close_code == 1001


async def test_a_ping_keeps_a_connection_open() -> None:
    async with echo_gateway(idle_connection_s=1.2) as gateway:
        async with gateway.connect(ping_interval=0.05) as websocket:
            await asyncio.sleep(2.4)
            await websocket.send("here")
            assert await websocket.recv() == "here"


async def test_too_many_frames_a_second_are_a_policy_violation() -> None:
    async with echo_gateway(max_frames_per_s=50, idle_connection_s=0.4) as gateway:
        async with closed_by_limit(gateway, 1008, "max_frames_per_s", 50):
            reader, writer = await upgraded(gateway)
            with contextlib.suppress(ConnectionError):
                for _ in range(60):
                    writer.write(PING)
                await writer.drain()
                await reader.read()
            writer.close()


async def test_as_many_frames_as_allowed_pass() -> None:
    async with echo_gateway(max_frames_per_s=50) as gateway:
        async with gateway.connect() as websocket:
            for _ in range(3):
                for _ in range(20):
                    await websocket.send("x")
                    await websocket.recv()
                await asyncio.sleep(0.5)


async def test_a_client_that_never_reads_is_closed_and_named() -> None:
    gone = asyncio.Event()

    async def flood(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await accept_upgrade(reader, writer)
        with contextlib.suppress(ConnectionError):
            while not writer.is_closing():
                writer.write(FLOOD)
                await writer.drain()
        gone.set()

    async with raw_agent(flood) as address:
        async with running_gateway(address, stalled_reader_s=0.4, close_timeout_s=0.2) as gateway:
            async with closed_by_limit(gateway, 1013, "stalled_reader_s", 0.4):
                _, writer = await gateway.open()
                writer.write(gateway.upgrade_head())
                await gateway.sessions.closed.wait()
                writer.close()
            assert "the client read nothing" in gateway.sessions.ended[0]["reason"]
            assert counted(gateway, "close_timeout_s") == 1
            await gone.wait()


@pytest.mark.parametrize("compiled", [True, False])
async def test_what_waits_for_a_slow_reader_is_bounded_and_measured(compiled: bool) -> None:
    async def flood(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await accept_upgrade(reader, writer)
        with contextlib.suppress(ConnectionError):
            while not writer.is_closing():
                writer.write(FLOOD)
                await writer.drain()

    def waiting(gateway: Gateway, direction: str) -> float:
        name = f'trunkline_waiting_bytes{{direction="{direction}"}} '
        lines = gateway.metrics.render().decode().splitlines()
        return float(next(line for line in lines if line.startswith(name)).removeprefix(name))

    most = 100_000
    # The sweep looks as often as the shortest time needs.
    settings = {
        "write_buffer_bytes": most,
        "compiled_relay": compiled,
        "stalled_reader_s": 2.0,
        "close_timeout_s": 0.2,
    }
    async with raw_agent(flood) as address, running_gateway(address, **settings) as gateway:
        _, writer = await upgraded(gateway)
        seen = []
        while not gateway.sessions.closed.is_set():
            await gateway.metrics.gather()
            seen.append(waiting(gateway, "out"))
            assert waiting(gateway, "in") == 0
            await asyncio.sleep(0.05)
        await gateway.metrics.gather()
        assert waiting(gateway, "out") == 0
        # A read that is under way when the buffer is full comes on top; uvloop's are larger.
        one_read = 64 * 1024 if compiled else 256 * 1024
        assert 0 < max(seen) <= most + one_read
        writer.close()


async def test_a_client_that_reads_slowly_is_not_stalled() -> None:
    async def send_much(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await accept_upgrade(reader, writer)
        for _ in range(256):
            writer.write(FLOOD)
            await writer.drain()
        writer.write(b"\x88\x00")
        await reader.read()

    async with raw_agent(send_much) as address:
        async with running_gateway(address, stalled_reader_s=1.2) as gateway:
            loop = asyncio.get_running_loop()
            sock = socket.socket()
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 16384)
            sock.setblocking(False)
            await loop.sock_connect(sock, ("127.0.0.1", gateway.port))
            await loop.sock_sendall(sock, gateway.upgrade_head())
            got = 0
            # A little at a time, for far longer than a reader may be stalled.
            for _ in range(24):
                got += len(await loop.sock_recv(sock, 8192))
                await asyncio.sleep(0.1)
            while got < 256 * len(FLOOD):
                data = await loop.sock_recv(sock, 1 << 20)
                assert data
                got += len(data)
            sock.close()
            assert counted(gateway, "stalled_reader_s") == 0


async def test_an_agent_that_never_reads_is_closed_also_when_the_client_vanished() -> None:
    never = asyncio.Event()

    async def deaf(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await accept_upgrade(reader, writer)
        # Its reader pauses the transport by itself: nobody takes what it has.
        await never.wait()

    async with raw_agent(deaf) as address:
        async with running_gateway(address, stalled_reader_s=0.4, close_timeout_s=0.2) as gateway:
            async with closed_by_limit(gateway, 1013, "stalled_reader_s", 0.4):
                _, writer = await upgraded(gateway)
                frame = b"\x82\xfe\x40\x00" + MASK + bytes(0x4000)
                for _ in range(256):
                    writer.write(frame)
                await gateway.sessions.closed.wait()
                writer.transport.abort()
            assert "the agent read nothing" in gateway.sessions.ended[0]["reason"]
            never.set()


async def test_a_half_closed_client_cannot_stall() -> None:
    async def deaf_to_closes(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await accept_upgrade(reader, writer)
        while await reader.read(4096):
            pass

    async with raw_agent(deaf_to_closes) as address:
        async with running_gateway(address, close_timeout_s=0.2) as gateway:
            _, writer = await upgraded(gateway)
            writer.write(b"\x88\x82" + MASK + b"\x03\xe8")
            writer.write_eof()
            await gateway.sessions.closed.wait()
            assert gateway.sessions.ended[0]["was_cut"]
            assert gateway.sessions.ended[0]["closed_by"] == "client"
            assert counted(gateway, "close_timeout_s") == 1
            writer.close()


# What is told of an end


async def test_the_event_tells_all_there_is() -> None:
    async with echo_gateway() as gateway:
        path = f"{NEW_PATH}&agent_session_id=s"
        async with gateway.connect(path, headers={"x-request-id": "my-own"}) as websocket:
            await websocket.send("four")
            await websocket.recv()
            await websocket.close(4321, "bye")
        await gateway.sessions.closed.wait()
        (event,) = gateway.sessions.ended
        assert event["request_id"] == "my-own"
        assert (event["closed_by"], event["code"], event["reason"]) == ("client", 4321, "bye")
        assert event["limit"] is None
        assert event["version"] == "1"
        assert event["address"] == "127.0.0.1"
        assert event["in"]["frames"] == event["out"]["frames"] == 2
        assert event["in"]["bytes"] == (6 + 4) + (6 + 5)
        assert event["out"]["bytes"] == (2 + 4) + (2 + 5)
        assert event["in"]["quiet_s"] < 5
        assert event["opened_at"] < event["closed_at"]
        assert not event["was_cut"]


async def test_an_agent_that_never_spoke_has_no_last_activity() -> None:
    async def mute(websocket: ServerConnection) -> None:
        await websocket.wait_closed()

    async with agent(mute) as address, running_gateway(address) as gateway:
        async with gateway.connect() as websocket:
            websocket.transport.abort()
            await gateway.sessions.closed.wait()
        (event,) = gateway.sessions.ended
        assert (event["closed_by"], event["code"]) == ("network", 1006)
        assert event["in"]["quiet_s"] is None
        assert event["out"]["quiet_s"] is None
