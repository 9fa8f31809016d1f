"""WebSockets on a real server: what goes over the wire, and what the close event says of it."""

import asyncio

import pytest
from starlette.routing import WebSocketRoute
from starlette.websockets import WebSocket, WebSocketDisconnect
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from tests.integration.agentserver.conftest import client_frame, serve
from trunkline.agentserver import InvocationAgentServerHost

CLOSE, PING, PONG, TEXT, BINARY, CONTINUATION = 8, 9, 10, 1, 2, 0


async def echo(websocket):
    while True:
        message = await websocket.receive()
        if message["type"] == "websocket.disconnect":
            raise WebSocketDisconnect(message["code"])
        if "text" in message:
            await websocket.send_text(message["text"])
        else:
            await websocket.send_bytes(message["bytes"])


@pytest.mark.parametrize("size", [0, 1, 125, 126, 8192, 65535, 65536, 1 << 20])
async def test_messages_of_any_size_come_back(size):
    async with serve(echo) as host, host.connect(max_size=None) as client:
        for payload in ("x" * size, b"\xff" * size):
            await client.send(payload)
            assert await client.recv() == payload


async def test_large_and_small_messages_keep_their_order_and_their_bytes():
    sizes = [20_000, 1, 9_000, 300, 100_000, 0, 8_192, 8_193]

    async def handler(websocket):
        for number, size in enumerate(sizes):
            await websocket.send_bytes(bytes((number,)) * size)

    async with serve(handler) as host, host.connect() as client:
        received = [await client.recv() for _ in sizes]
    assert received == [bytes((number,)) * size for number, size in enumerate(sizes)]


async def test_fragments_become_one_message_and_pings_go_between():
    async with serve(echo) as host:
        client = await host.raw()
        client.send(TEXT, "hé".encode()[:2], fin=False)
        client.send(PING, b"now")
        client.send(CONTINUATION, "hé".encode()[2:], fin=True)
        assert await client.frame() == (PONG, b"now")
        assert await client.frame() == (TEXT, "hé".encode())
        await client.leave()


async def test_the_upgrade_has_the_hosts_headers_and_no_extensions():
    async with serve(echo) as host:
        client = await host.raw()
        head = client.head.lower()
        assert head.startswith(b"http/1.1 101 ")
        assert b"\r\nx-request-id: " in head
        assert b"\r\nx-platform-server: trunkline-agentserver/" in head
        assert b"sec-websocket-extensions" not in head
        await client.leave()


async def test_compression_is_never_agreed():
    async with serve(echo) as host, host.connect(compression="deflate") as client:
        assert client.protocol.extensions == []


async def test_an_upgrade_without_a_handler_is_404():
    async with serve() as host:
        with pytest.raises(InvalidStatus) as caught:
            await host.connect()
    assert caught.value.response.status_code == 404
    assert caught.value.response.headers["x-request-id"]


@pytest.mark.parametrize(
    ("change", "status"),
    [
        ((b"Version: 13", b"Version: 8"), b"426"),
        ((b"Key: dGhlIHNhbXBsZSBub25jZQ==", b"Key: short"), b"400"),
    ],
)
async def test_a_broken_handshake_is_refused(change, status):
    head = (
        b"GET /invocations_ws HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\n"
        b"Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
        b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    )
    async with serve(echo) as host:
        assert (await host.http(head.replace(*change))).startswith(b"HTTP/1.1 " + status)


class TestEndings:
    async def test_the_client_closes_while_the_handler_receives(self, events):
        async with serve(echo) as host:
            async with host.connect() as client:
                await client.close(4001, "bye")
            assert client.close_code == 4001
            event = await events.next()
        assert (event["close_code"], event["closed_by"]) == (4001, "client")
        assert not events.errors

    async def test_the_client_closes_while_the_handler_iterates(self, events):
        async def handler(websocket):
            async for _text in websocket.iter_text():
                pass

        async with serve(handler) as host:
            async with host.connect() as client:
                await client.close(4001)
            assert (await events.next())["close_code"] == 4001

    async def test_the_client_closes_without_a_code(self, events):
        async with serve(echo) as host:
            client = await host.raw()
            client.send(CLOSE)
            assert await client.frame() == (CLOSE, b"")
            assert await client.reader.read() == b""
            assert (await events.next())["close_code"] == 1005
            await client.leave()

    async def test_the_connection_is_lost(self, events):
        async with serve(echo) as host:
            client = await host.raw()
            client.writer.transport.abort()
            event = await events.next()
        assert (event["close_code"], event["closed_by"]) == (1006, "network")

    async def test_the_handler_returns(self, events):
        async def handler(websocket):
            await websocket.send_text("last")

        async with serve(handler) as host, host.connect() as client:
            assert await client.recv() == "last"
            with pytest.raises(ConnectionClosed):
                await client.recv()
        assert client.close_code == 1000
        assert (await events.next())["close_code"] == 1000

    async def test_the_handler_closes(self, events):
        async def handler(websocket):
            await websocket.close(4321, "bye")

        async with serve(handler) as host, host.connect() as client:
            await client.wait_closed()
        assert (client.close_code, client.close_reason) == (4321, "bye")
        event = await events.next()
        assert (event["close_code"], event["closed_by"]) == (4321, "handler")

    async def test_the_handler_fails(self, events):
        async def handler(websocket):
            raise ValueError("secret")

        async with serve(handler) as host, host.connect() as client:
            await client.wait_closed()
        assert (client.close_code, client.close_reason) == (1011, "Internal server error")
        event = await events.next()
        assert (event["close_code"], event["error.code"]) == (1011, "internal_error")

    async def test_the_handler_only_sends_and_the_client_leaves(self, events):
        async def handler(websocket):
            while True:
                await websocket.send_text("tick")
                await asyncio.sleep(0)

        async with serve(handler) as host:
            async with host.connect() as client:
                await client.recv()
                await client.close(4001)
            event = await events.next()
        assert event["close_code"] == 4001
        assert not events.errors

    async def test_the_handler_sleeps_and_the_client_leaves(self, events):
        ended = asyncio.Event()

        async def handler(websocket):
            try:
                await asyncio.Event().wait()
            finally:
                ended.set()

        async with serve(handler, ws_disconnect_grace_s=0.01) as host:
            async with host.connect() as client:
                await client.close(4001)
            await ended.wait()
            event = await events.next()
        assert event["close_code"] == 4001
        assert "error.code" not in event

    async def test_a_handler_that_noticed_may_take_its_time(self, events):
        async def handler(websocket):
            async for _text in websocket.iter_text():
                pass
            await asyncio.sleep(0.3)
            saved.set()

        saved = asyncio.Event()
        async with serve(handler, ws_disconnect_grace_s=0.2) as host:
            async with host.connect():
                pass
            await saved.wait()
            assert "error.code" not in await events.next()

    async def test_going_on_after_the_end_is_no_error_either(self, events):
        async def handler(websocket):
            try:
                while True:
                    await websocket.send_text("tick")
            except WebSocketDisconnect:
                await websocket.receive_text()

        async with serve(handler) as host:
            async with host.connect() as client:
                await client.recv()
                client.transport.abort()
            event = await events.next()
        assert event["close_code"] == 1006
        assert "error.code" not in event

    async def test_many_tasks_of_the_handler_notice(self, events):
        async def receive(websocket):
            while True:
                await websocket.receive_text()

        async def handler(websocket):
            async with asyncio.TaskGroup() as group:
                group.create_task(receive(websocket))
                group.create_task(asyncio.Event().wait())

        async with serve(handler) as host:
            async with host.connect() as client:
                await client.close(4001)
            event = await events.next()
        assert event["close_code"] == 4001
        assert "error.code" not in event
        assert not events.errors

    async def test_a_client_that_never_answers_a_close_is_dropped(self):
        async def handler(websocket):
            pass

        async with serve(handler, ws_close_timeout_s=0.05) as host:
            client = await host.raw()
            assert await client.close_code() == 1000
            with pytest.raises(OSError, match=r"reset|closed"):
                # Dropping means resetting: the client is not worth an orderly end.
                await read_to_end(client)
            await client.leave()


async def read_to_end(client):
    if await client.reader.read() == b"":
        raise ConnectionResetError("closed")


class TestKeepAlive:
    async def test_pings_come_and_a_client_that_answers_stays(self):
        async with serve(echo, ws_keepalive_interval_s=0.02) as host:
            client = await host.raw()
            for _ in range(5):
                opcode, payload = await client.frame()
                assert opcode == PING
                client.send(PONG, payload)
            client.send(TEXT, b"still here")
            while (answer := await client.frame())[0] == PING:
                client.send(PONG, answer[1])
            assert answer == (TEXT, b"still here")
            await client.leave()

    async def test_a_client_that_stays_silent_is_given_up(self, events):
        async with serve(echo, ws_keepalive_interval_s=0.02, ws_close_timeout_s=0.05) as host:
            client = await host.raw()
            assert (await client.frame())[0] == PING
            opcode, payload = await client.frame()
            assert (opcode, payload[:2]) == (CLOSE, (1001).to_bytes(2))
            assert b"ws_keepalive_interval_s" in payload
            event = await events.next()
            await client.leave()
        assert (event["close_code"], event["closed_by"]) == (1001, "keepalive")

    async def test_part_of_a_frame_is_a_sign_of_life(self, events):
        async with serve(echo, ws_keepalive_interval_s=0.05) as host:
            client = await host.raw()
            frame = client_frame(BINARY, bytes(100))
            for part in (frame[:3], frame[3:20], frame[20:-1]):
                client.writer.write(part)
                assert (await client.frame())[0] == PING
            client.writer.write(frame[-1:])
            while (answer := await client.frame())[0] == PING:
                pass
            assert answer == (BINARY, bytes(100))
            await client.leave()


async def test_cancelling_run_async_drains(monkeypatch, tmp_path, events):
    path = str(tmp_path / "s")
    monkeypatch.setenv("TRUNKLINE_AGENT_SOCKET", path)
    app = InvocationAgentServerHost()
    app.ws_handler(echo)
    said = []
    app.register_pre_shutdown_callback(lambda: said.append("pre-shutdown"))
    app.shutdown_handler(lambda: said.append("shutdown"))
    task = asyncio.create_task(app.run_async())
    await asyncio.sleep(0)
    client = await connect("ws://agent/invocations_ws", unix=True, path=path)
    task.cancel()
    await client.wait_closed()
    assert client.close_code == 1001
    with pytest.raises(asyncio.CancelledError):
        await task
    assert said == ["pre-shutdown", "shutdown"]
    assert (await events.next())["closed_by"] == "drain"


async def test_the_event_counts_messages_and_payload_each_way(events):
    async def handler(websocket):
        await websocket.receive_text()
        await websocket.receive_bytes()
        await websocket.receive_text()
        await websocket.send_text("hé")
        await websocket.send_bytes(bytes(10_000))
        await websocket.send_bytes(memoryview(b"abc"))

    async with serve(handler) as host:
        client = await host.raw()
        client.send(TEXT, "hé".encode())
        client.send(BINARY, bytes(70_000))
        client.send(TEXT, b"a", fin=False)
        client.send(CONTINUATION, b"b", fin=True)
        assert [await client.frame() for _ in range(3)] == [
            (TEXT, "hé".encode()),
            (BINARY, bytes(10_000)),
            (BINARY, b"abc"),
        ]
        event = await events.next()
        await client.leave()
    assert (event["received_messages"], event["received_bytes"]) == (3, 70_005)
    assert (event["sent_messages"], event["sent_bytes"]) == (3, 10_006)


async def test_the_handler_gets_a_starlette_websocket():
    async def handler(websocket):
        assert isinstance(websocket, WebSocket)
        assert websocket.app is websocket.scope["app"]
        await websocket.send_json({"path": websocket.url.path})
        assert await websocket.receive_json() == [1]
        with pytest.raises(KeyError):
            await websocket.receive_bytes()
        await websocket.close(4000)
        with pytest.raises(RuntimeError):
            await websocket.send_text("late")

    async with serve(handler) as host, host.connect() as client:
        assert await client.recv() == '{"path":"/invocations_ws"}'
        await client.send("[1]")
        await client.send("text")
        await client.wait_closed()
        assert client.close_code == 4000


async def test_an_authors_middleware_surrounds_the_handler(events):
    seen = []

    class Middleware:
        def __init__(self, app):
            self.app = app

        async def __call__(self, scope, receive, send):
            async def noted(message):
                seen.append(message["type"])
                await send(message)

            await self.app(scope, receive, noted)

    async with serve(echo, middleware=[(Middleware, (), {})]) as host, host.connect() as client:
        await client.send("hello")
        assert await client.recv() == "hello"
        await client.close()
        event = await events.next()
    assert [kind for kind in seen if "websocket" in kind] == ["websocket.accept", "websocket.send"]
    assert (event["received_messages"], event["sent_messages"]) == (1, 1)


async def test_a_route_of_the_authors_that_comes_first_wins():
    async def other(websocket):
        await websocket.accept()
        await websocket.send_text("other")
        await websocket.close()

    routes = [WebSocketRoute("/invocations_ws", other)]
    async with serve(echo, routes=routes) as host, host.connect() as client:
        assert await client.recv() == "other"
