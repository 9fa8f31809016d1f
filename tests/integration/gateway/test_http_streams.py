"""HTTP invocations as streams: both directions, one after another, and before the end."""

import asyncio
import json
from collections.abc import AsyncIterator

import pytest
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response, StreamingResponse

from tests.integration.gateway.http_agents import (
    PREFIX,
    V1,
    app_of,
    ask,
    client_of,
    gateway_to,
    head,
    mirror,
)
from tests.support.gateway import raw_agent, running_gateway
from trunkline.gateway.door import FrontDoor


async def test_a_request_streams_to_the_agent_piece_by_piece() -> None:
    pieces: asyncio.Queue[bytes] = asyncio.Queue()

    async def endpoint(request: Request) -> Response:
        async for piece in request.stream():
            pieces.put_nowait(piece)
        return PlainTextResponse("done")

    async with gateway_to(app_of(endpoint)) as gateway:
        reader, writer = await gateway.open()
        writer.write(
            head(gateway, "POST", f"{PREFIX}?{V1}", "Transfer-Encoding: chunked",
                 "Connection: close")
        )  # fmt: skip
        for word in (b"one", b"three", b"seventeen"):
            writer.write(b"%x\r\n%s\r\n" % (len(word), word))
            assert await pieces.get() == word
        writer.write(b"0\r\n\r\n")
        assert (await reader.read()).endswith(b"done")
        writer.close()


async def test_an_answer_streams_to_the_client_piece_by_piece() -> None:
    go_on: asyncio.Queue[bytes | None] = asyncio.Queue()

    async def body() -> AsyncIterator[bytes]:
        while (piece := await go_on.get()) is not None:
            yield piece

    async def endpoint(_: Request) -> Response:
        return StreamingResponse(body(), media_type="text/event-stream")

    async with gateway_to(app_of(endpoint)) as gateway, client_of(gateway) as client:
        async with client.stream("POST", f"{PREFIX}?{V1}") as response:
            assert response.headers["content-type"].startswith("text/event-stream")
            arriving = response.aiter_raw()
            for piece in (b"data: 1\n\n", b"data: 2\n\n"):
                go_on.put_nowait(piece)
                assert await anext(arriving) == piece
            assert gateway.sessions.held
            go_on.put_nowait(None)
            assert [piece async for piece in arriving] == []


async def test_a_kept_alive_client_asks_again() -> None:
    async with gateway_to(app_of(mirror)) as gateway, client_of(gateway) as client:
        for number in range(3):
            response = await client.post(f"{PREFIX}?{V1}", content=b"%d" % number)
            assert response.json()["body"] == str(number)
        assert len(gateway.sessions.asked) == 3


async def test_a_request_may_begin_before_the_one_ahead_of_it_is_answered() -> None:
    began, go = asyncio.Event(), asyncio.Event()

    async def answer(request: Request) -> Response:
        if request.method == "POST":
            return Response(await request.body())
        began.set()
        await go.wait()
        return Response(b"first")

    async with gateway_to(app_of(answer)) as gateway:
        reader, writer = await gateway.open()
        writer.write(head(gateway, "GET", f"{PREFIX}/i?{V1}"))
        await began.wait()
        # Its head, and its body only after the other's answer.
        writer.write(head(gateway, "POST", f"{PREFIX}?{V1}", "Content-Length: 6"))
        await gateway.answers()
        go.set()
        assert (await reader.readuntil(b"first")).startswith(b"HTTP/1.1 200 ")
        writer.write(b"second")
        assert (await reader.readuntil(b"second")).startswith(b"HTTP/1.1 200 ")
        writer.close()


async def test_a_head_request_is_answered_without_a_body() -> None:
    async with gateway_to(app_of(mirror)) as gateway:
        answer = await ask(gateway, "HEAD", f"{PREFIX}/i?{V1}")
        assert (answer.status, answer.body) == (200, b"")


async def test_the_platforms_own_pages() -> None:
    async with gateway_to(app_of(mirror)) as gateway:
        alive, ready = await ask(gateway, "GET", "/healthz"), await ask(gateway, "GET", "/readyz")
        assert json.loads(alive.body) == {"status": "alive"}
        assert (ready.status, json.loads(ready.body)) == (200, {"status": "ready"})
        keys = json.loads((await ask(gateway, "GET", "/.well-known/jwks.json")).body)["keys"]
        assert keys == [gateway.issuer.public_jwk]
        metrics = await ask(gateway, "GET", "/metrics")
        assert metrics.headers["content-type"].startswith("text/plain; version=0.0.4")
        assert b"# HELP trunkline_connections " in metrics.body
        gateway.health.is_draining = True
        ready = await ask(gateway, "GET", "/readyz")
        assert (ready.status, json.loads(ready.body)["reason"]) == (503, "draining")


async def test_an_answer_may_come_before_the_body_is_sent() -> None:
    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 413 Content Too Large\r\nContent-Length: 3\r\n\r\nbig")
        await reader.read()

    async with raw_agent(handler) as address, running_gateway(address) as gateway:
        reader, writer = await gateway.open()
        writer.write(head(gateway, "POST", f"{PREFIX}?{V1}", "Content-Length: 1000000"))
        writer.write(b"only a little of it")
        answer = await reader.readuntil(b"big")
        assert answer.startswith(b"HTTP/1.1 413 ")
        # Its body isn't whole, so nothing can follow it on this connection.
        assert await reader.read() == b""
        writer.close()


async def test_what_is_left_of_a_small_body_is_awaited_when_it_was_answered_without_it() -> None:
    async def endpoint(_: Request) -> Response:
        return PlainTextResponse("good")

    async with gateway_to(app_of(endpoint)) as gateway:
        reader, writer = await gateway.open()
        for word in (b"bad", b"worse"):
            announced = f"Content-Length: {len(word)}"
            writer.write(head(gateway, "POST", f"/nowhere?{V1}", announced))
            answer = await reader.readuntil(b"\r\n\r\n")
            assert answer.startswith(b"HTTP/1.1 404 ")
            length = next(line for line in answer.lower().splitlines() if b"content-length" in line)
            await reader.readexactly(int(length.partition(b":")[2]))
            writer.write(word)
        writer.write(head(gateway, "POST", f"{PREFIX}?{V1}", "Content-Length: 0"))
        assert (await reader.readuntil(b"good")).startswith(b"HTTP/1.1 200 ")
        writer.close()


async def test_the_request_behind_such_a_body_is_given_the_time_it_takes() -> None:
    reached, go_on = asyncio.Event(), asyncio.Event()

    async def endpoint(_: Request) -> Response:
        reached.set()
        await go_on.wait()
        return PlainTextResponse("good")

    async with gateway_to(app_of(endpoint)) as gateway:
        reader, writer = await gateway.open()
        writer.write(head(gateway, "POST", f"/nowhere?{V1}", "Content-Length: 3"))
        assert (await reader.readuntil(b"}}}")).startswith(b"HTTP/1.1 404 ")
        writer.write(b"bad" + head(gateway, "POST", f"{PREFIX}?{V1}", "Content-Length: 0"))
        await reached.wait()
        (door,) = gateway.server.server_state.connections
        assert isinstance(door, FrontDoor)
        # What ends a connection that nothing is asked on any more.
        assert door.timeout_keep_alive_task is None
        go_on.set()
        assert (await reader.readuntil(b"good")).startswith(b"HTTP/1.1 200 ")
        writer.close()


async def test_a_body_that_waits_for_leave_is_not_awaited() -> None:
    async with gateway_to(app_of(mirror)) as gateway:
        reader, writer = await gateway.open()
        asks = ("Content-Length: 3", "Expect: 100-continue")
        writer.write(head(gateway, "POST", f"/nowhere?{V1}", *asks))
        assert (await reader.readuntil(b"}}}")).startswith(b"HTTP/1.1 404 ")
        assert await reader.read() == b""
        writer.close()


async def test_a_small_body_that_does_not_come_ends_the_connection(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("trunkline.gateway.door._LINGER_S", 0.05)
    async with gateway_to(app_of(mirror)) as gateway:
        reader, writer = await gateway.open()
        writer.write(head(gateway, "POST", f"/nowhere?{V1}", "Content-Length: 3"))
        assert (await reader.read()).startswith(b"HTTP/1.1 404 ")
        writer.close()


async def test_both_directions_stream_at_once() -> None:
    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        while (size := int(await reader.readline(), 16)) > 0:
            chunk = await reader.readexactly(size + 2)
            writer.write(b"%x\r\n" % size + chunk.upper())
        writer.write(b"0\r\n\r\n")
        await reader.read()

    async with raw_agent(handler) as address, running_gateway(address) as gateway:
        reader, writer = await gateway.open()
        writer.write(head(gateway, "POST", f"{PREFIX}?{V1}", "Transfer-Encoding: chunked"))
        for word in (b"one", b"two"):
            writer.write(b"3\r\n" + word + b"\r\n")
            await reader.readuntil(word.upper())
        writer.write(b"0\r\n\r\n")
        await reader.readuntil(b"0\r\n\r\n")
        writer.close()
