"""A gateway that is told to stop: who hears of it, when, and what still works meanwhile."""

import asyncio
import contextlib
import http
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from websockets.asyncio.server import ServerConnection
from websockets.exceptions import ConnectionClosed, InvalidStatus

from tests.integration.gateway.test_relay import agent, echo, echo_gateway
from tests.support.gateway import Gateway, accept_upgrade, raw_agent, running_gateway
from trunkline.agentserver import InvocationAgentServerHost
from trunkline.gateway.drain import Drain
from trunkline.gateway.leg import Leg
from trunkline.gateway.relay import Relay
from trunkline.gateway.relayed import Relayed
from trunkline.runtimes.interface import Address

CLOSE_1001 = b"\x03\xe9"
INVOKE = "/api/projects/default/agents/echo/endpoint/protocols/invocations?api-version=v1"


async def get(gateway: Gateway, path: str, *headers: str) -> tuple[int, bytes]:
    reader, writer = await gateway.open()
    method = "POST" if path == INVOKE else "GET"
    lines = [f"{method} {path} HTTP/1.1", "Host: x", "Connection: close", *headers]
    if method == "POST":
        lines.append("Content-Length: 0")
    writer.write("\r\n".join(lines).encode() + b"\r\n\r\n")
    answer = await reader.read()
    writer.close()
    return int(answer.split(b" ")[1]), answer


@contextlib.asynccontextmanager
async def busy(gateway: Gateway) -> AsyncIterator["asyncio.Task[int | None]"]:
    """Keep one conversation going until it is closed; the task tells its close code."""
    async with gateway.connect() as websocket:

        async def talk() -> int | None:
            with contextlib.suppress(ConnectionClosed):
                while True:
                    await websocket.send("still here")
                    await websocket.recv()
                    await asyncio.sleep(0.02)
            return websocket.close_code

        talking = asyncio.create_task(talk())
        yield talking
        await talking


async def test_nothing_new_is_begun_while_what_is_in_use_goes_on() -> None:
    async with echo_gateway(drain_timeout_s=4, drain_quiet_s=1.5) as gateway:
        async with busy(gateway) as talking:
            started = time.monotonic()
            gateway.server.stop()
            status, answer = await get(gateway, "/readyz")
            assert (status, b"draining" in answer) == (503, True)
            assert (await get(gateway, "/healthz"))[0] == 200
            with pytest.raises(InvalidStatus) as refused:
                await gateway.connect()
            assert refused.value.response.status_code == 503
            assert refused.value.response.headers["retry-after"]
            status, answer = await get(gateway, INVOKE, f"Authorization: Bearer {gateway.token()}")
            assert status == 503
            assert b"retry-after:" in answer.lower()
            assert not talking.done()
            assert await talking == 1001
            # As late as its close handshake allows, and not later: then it would have been cut.
            assert time.monotonic() - started > 3
        await gateway.serving
        (event,) = gateway.sessions.ended
        assert (event["closed_by"], event["was_cut"]) == ("drain", False)


async def test_idle_connections_are_closed_at_once() -> None:
    async with echo_gateway(drain_timeout_s=60, drain_quiet_s=1.0) as gateway:
        async with gateway.connect() as idle, busy(gateway) as talking:
            await asyncio.sleep(1.1)
            started = time.monotonic()
            gateway.server.stop()
            await idle.wait_closed()
            assert idle.close_code == 1001
            # Who is in use has another half a minute.
            assert time.monotonic() - started < 10
            assert not talking.done()
            gateway.server.stop()
        await gateway.serving


async def test_one_in_use_is_closed_when_it_falls_quiet() -> None:
    async with echo_gateway(drain_timeout_s=30, drain_quiet_s=1.0) as gateway:
        async with gateway.connect() as websocket:
            await websocket.send("a")
            gateway.server.stop()
            for _ in range(10):
                await websocket.send("b")
                await asyncio.sleep(0.05)
            await websocket.wait_closed()
            assert websocket.close_code == 1001
            received = [message async for message in websocket]
            assert received == ["a", *"bbbbbbbbbb"]
        await gateway.serving


async def test_all_clients_hear_of_it_before_any_agent_does(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    told, looks = [], 0
    write_close, until_idle_s = Relay._write_close, Drain._until_idle_s

    def note(relay: Relay, leg: Leg, frame: bytes) -> None:
        told.append("client" if leg is relay.downstream else "agent")
        write_close(relay, leg, frame)

    def look(drain: Drain, relayed: Relayed, now: float) -> float:
        nonlocal looks
        looks += 1
        return until_idle_s(drain, relayed, now)

    monkeypatch.setattr(Relay, "_write_close", note)
    monkeypatch.setattr(Drain, "_until_idle_s", look)
    async with echo_gateway(drain_timeout_s=30, drain_quiet_s=1.5) as gateway:
        async with contextlib.AsyncExitStack() as stack:
            clients = [await stack.enter_async_context(gateway.connect()) for _ in range(10)]
            await asyncio.sleep(1.6)
            clients.append(await stack.enter_async_context(gateway.connect()))
            gateway.server.stop()
            for client in clients:
                await client.wait_closed()
                assert client.close_code == 1001
        await gateway.serving
    # The last one was in use a moment before.
    assert told == ["client"] * 10 + ["agent"] * 10 + ["client", "agent"]
    # Not at each turn: with thousands of them that alone would take all the time there is.
    assert looks <= 14


@pytest.mark.parametrize("ends", ["answers", "vanishes"])
async def test_an_agent_whose_client_ends_first_hears_of_it_all_the_same(ends: str) -> None:
    codes: list[int | None] = []
    ended = asyncio.Event()

    async def listen(websocket: ServerConnection) -> None:
        await websocket.wait_closed()
        codes.append(websocket.close_code)
        ended.set()

    async with agent(listen) as address, running_gateway(address) as gateway:
        async with gateway.connect() as client:
            (relayed,) = gateway.services.relayed
            relayed.relay.drain(client_first=True)
            if ends == "vanishes":
                client.transport.abort()
            await client.wait_closed()
            await ended.wait()
        relayed.relay.drain()
    assert codes == [1001]
    assert gateway.sessions.ended[0]["closed_by"] == "drain"


async def test_a_second_signal_does_not_wait() -> None:
    async with echo_gateway(drain_timeout_s=60) as gateway, busy(gateway):
        gateway.server.stop()
        await asyncio.sleep(0.05)
        gateway.server.stop()
        await asyncio.wait_for(gateway.serving, 5)


async def test_with_nothing_open_it_is_over_at_once() -> None:
    async with echo_gateway(drain_timeout_s=60) as gateway:
        gateway.server.stop()
        await asyncio.wait_for(gateway.serving, 5)


async def test_a_request_that_is_being_answered_is_answered() -> None:
    is_asked, go_on = asyncio.Event(), asyncio.Event()

    async def slow(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        is_asked.set()
        await go_on.wait()
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok")
        await writer.drain()

    async with raw_agent(slow) as address, running_gateway(address) as gateway:
        authorization = f"Authorization: Bearer {gateway.token()}"
        asking = asyncio.create_task(get(gateway, INVOKE, authorization))
        await is_asked.wait()
        gateway.server.stop()
        await asyncio.sleep(0.3)
        assert not gateway.serving.done()
        go_on.set()
        status, answer = await asking
        assert (status, answer[-2:]) == (http.HTTPStatus.OK, b"ok")
        await gateway.serving


async def test_an_agent_that_hangs_does_not_hold_up_the_drain() -> None:
    async def deaf(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if (await reader.readline()).startswith(b"GET"):
            await accept_upgrade(reader, writer)
        await never.wait()

    never = asyncio.Event()
    async with raw_agent(deaf) as address:
        async with running_gateway(
            address, drain_timeout_s=2, close_timeout_s=0.3, drain_quiet_s=0.1
        ) as gateway:
            reader, writer = await gateway.open()
            writer.write(gateway.upgrade_head())
            await reader.readuntil(b"\r\n\r\n")
            gateway.server.stop()
            assert CLOSE_1001 in await reader.read(200)
            await asyncio.wait_for(gateway.serving, 5)
            writer.close()
            assert gateway.sessions.ended[0]["was_cut"]
        never.set()


async def test_the_agent_is_told_first_and_finishes_its_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = str(tmp_path / "agent.sock")
    monkeypatch.setenv("TRUNKLINE_AGENT_SOCKET", path)
    app = InvocationAgentServerHost()

    @app.ws_handler
    async def speak(websocket) -> None:
        word = 0
        while not app.draining.is_set():
            await websocket.send_text(f"word {word}")
            word += 1
            await asyncio.sleep(0.01)
        await asyncio.sleep(0.4)
        await websocket.send_text("I have to go.")

    hosting = asyncio.create_task(app.run_async())
    while not Path(path).exists():  # noqa: ASYNC110 - files tell nobody
        await asyncio.sleep(0.01)
    async with running_gateway(
        Address(path=path), drain_timeout_s=20, drain_quiet_s=5.0
    ) as gateway:
        async with gateway.connect() as websocket:
            assert await websocket.recv() == "word 0"
            gateway.server.stop()
            words = [message async for message in websocket]
            assert words[-1] == "I have to go."
            assert websocket.close_code == 1000
        await gateway.serving
        assert gateway.sessions.ended[0]["closed_by"] == "agent"
    hosting.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await hosting


async def _drain_many(count: int, timeout_s: float) -> None:
    """Open that many sockets, half of them in use, and look that each sees 1001 in time."""
    settings = {"drain_timeout_s": timeout_s, "max_connections_per_session": 0}
    codes: list[bytes] = []
    ready = asyncio.Event()
    opened = 0

    async def client(gateway: Gateway, room: asyncio.Semaphore, is_busy: bool) -> None:
        nonlocal opened
        async with room:
            reader, writer = await gateway.open()
            writer.write(gateway.upgrade_head())
            assert b" 101 " in await reader.readuntil(b"\r\n\r\n")
        opened += 1
        if opened == count:
            ready.set()

        async def talk() -> None:
            while True:
                writer.write(b"\x82\x84\0\0\0\0talk")
                await asyncio.sleep(0.4)

        talking = asyncio.create_task(talk()) if is_busy else None
        while True:
            head = await reader.readexactly(2)
            payload = await reader.readexactly(head[1])
            if head[0] == 0x88:
                codes.append(payload[:2])
                break
        if talking is not None:
            talking.cancel()
        writer.write(b"\x88\x82\0\0\0\0" + payload[:2])
        assert await reader.read() == b""
        writer.close()

    async with agent(echo) as address, running_gateway(address, **settings) as gateway:
        room = asyncio.Semaphore(50)
        clients = [
            asyncio.create_task(client(gateway, room, is_busy=bool(n % 2))) for n in range(count)
        ]
        await ready.wait()
        started = time.monotonic()
        gateway.server.stop()
        await asyncio.gather(*clients)
        took_s = time.monotonic() - started
        await gateway.serving
        assert codes == [CLOSE_1001] * count
        assert took_s <= timeout_s
        assert {event["closed_by"] for event in gateway.sessions.ended} == {"drain"}


async def test_everybody_sees_1001_in_time() -> None:
    await _drain_many(40, 5.0)


@pytest.mark.long
@pytest.mark.timeout(300)
async def test_a_thousand_see_1001_in_time() -> None:
    await _drain_many(1000, 10.0)
