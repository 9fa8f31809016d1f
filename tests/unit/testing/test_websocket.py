"""A test's WebSocket: it is served by the real host, so its limits and codes are real."""

import asyncio

import pytest
from starlette.routing import WebSocketRoute
from starlette.websockets import WebSocket, WebSocketDisconnect

from trunkline.agentserver import InvocationAgentServerHost, get_request_context
from trunkline.testing import (
    Closed,
    NothingCameError,
    UnexpectedMessageError,
    UpgradeRefusedError,
    WebSocketClosedError,
    agent_client,
    running,
)


def agent(handler, **options) -> InvocationAgentServerHost:
    app = InvocationAgentServerHost(access_log=None, **options)
    app.ws_handler(handler)
    return app


async def echo(websocket: WebSocket) -> None:
    while (message := await websocket.receive())["type"] == "websocket.receive":
        if (text := message.get("text")) is not None:
            await websocket.send_text(text)
        else:
            await websocket.send_bytes(message["bytes"])


async def silent(websocket: WebSocket) -> None:
    async for _ in websocket.iter_text():
        pass


# Messages


@pytest.mark.parametrize("size", [0, 1, 125, 126, 65_535, 65_536, 3_000_000])
async def test_messages_of_every_size_come_back(size: int):
    async with agent_client(agent(echo)) as ws:
        await ws.send_bytes(b"x" * size)
        await ws.send_text("ü" * size)
        assert await ws.receive_bytes() == b"x" * size
        assert await ws.receive_text() == "ü" * size


async def test_json_goes_both_ways():
    async with agent_client(agent(echo)) as ws:
        await ws.send_json({"a": [1, None, "ü"]})
        assert await ws.receive_json() == {"a": [1, None, "ü"]}
        await ws.send_bytes(b"[2]")
        assert await ws.receive_json() == [2]


async def test_a_message_of_the_wrong_kind_is_said_to_be_one():
    async with agent_client(agent(echo)) as ws:
        await ws.send_text("x" * 100)
        await ws.send_bytes(b"\x00\x01")
        await ws.send_text("{")
        with pytest.raises(
            UnexpectedMessageError, match=r"a binary message, and the text 'x+'… came"
        ):
            await ws.receive_bytes()
        with pytest.raises(
            UnexpectedMessageError, match=r"text message, and 2 bytes: b'.x00.x01' came"
        ):
            await ws.receive_text()
        with pytest.raises(UnexpectedMessageError, match=r"expected JSON, and the text '{' came"):
            await ws.receive_json()


async def test_only_what_fits_is_sent():
    async with agent_client(agent(echo)) as ws:
        with pytest.raises(TypeError, match="send_text takes a str, not bytes"):
            await ws.send_text(b"x")  # type: ignore[arg-type]
        with pytest.raises(TypeError, match="send_bytes takes bytes, not str"):
            await ws.send_bytes("x")  # type: ignore[arg-type]


async def test_when_nothing_comes_the_test_is_told_what_the_agent_does():
    async def talk(websocket: WebSocket) -> None:
        await websocket.send_text("hello")
        await websocket.receive_text()
        await websocket.receive_text()

    async with agent_client(agent(talk), timeout_s=0.5) as ws:
        await ws.receive()
        await ws.send_text("one")
        with pytest.raises(NothingCameError) as caught:
            await ws.receive()
        first, *rest = str(caught.value).splitlines()
        assert first == "no message came within 0.5 s"
        assert rest[0].strip() == (
            "messages to the agent: 1, from it: 1, the last of them the text 'hello'"
        )
        assert "it waits in talk(), test_websocket.py line" in rest[1]
        assert rest[1].endswith(": await websocket.receive_text()")
        assert "its next timer is due in 30 s" in rest[2]


async def test_many_clients_talk_to_one_agent_at_once():
    rooms: set[WebSocket] = set()

    async def everybody(websocket: WebSocket) -> None:
        rooms.add(websocket)
        try:
            async for text in websocket.iter_text():
                for other in rooms:
                    await other.send_text(text)
        finally:
            rooms.discard(websocket)

    async with running(agent(everybody)) as running_agent:
        async with running_agent.connect() as one, running_agent.connect() as other:
            await one.ping()
            await other.ping()
            await one.send_text("hello")
            assert await one.receive() == await other.receive() == "hello"
        await running_agent.advance(0)
        assert rooms == set()


# Who is calling


async def test_the_agent_learns_who_is_calling():
    async def talk(websocket: WebSocket) -> None:
        context = get_request_context()
        await websocket.send_json(
            {
                "state": [websocket.state.session_id, websocket.state.user_id],
                "context": [context.session_id, context.user_id, context.call_id],
                "header": websocket.headers["x-client-mood"],
                "query": dict(websocket.query_params),
            }
        )

    async with agent_client(
        agent(talk),
        session_id="s1",
        user_id="u1",
        call_id="c1",
        headers={"x-client-mood": "good"},
        query={"a": "b c"},
    ) as ws:
        assert await ws.receive_json() == {
            "state": ["s1", "u1"],
            "context": ["s1", "u1", "c1"],
            "header": "good",
            "query": {"a": "b c", "agent_session_id": "s1"},
        }
        assert ws.headers["x-platform-server"].startswith("trunkline-agentserver/")


async def test_a_line_break_can_not_be_put_into_the_handshake():
    async with running(agent(echo)) as running_agent:
        with pytest.raises(ValueError, match="may not hold a line break"):
            running_agent.connect(user_id="me\r\nhost: you")


async def test_a_route_of_the_authors_own_is_reached_by_its_path():
    app = InvocationAgentServerHost(
        access_log=None, routes=[WebSocketRoute("/mine", accepting_echo)]
    )
    async with agent_client(app, "/mine") as ws:
        await ws.send_text("there")
        assert await ws.receive() == "there"


async def accepting_echo(websocket: WebSocket) -> None:
    await websocket.accept()
    await echo(websocket)


async def test_an_upgrade_that_is_refused_says_why():
    async with running(agent(echo)) as running_agent:
        with pytest.raises(UpgradeRefusedError, match="404") as caught:
            await running_agent.connect("/elsewhere")
        assert caught.value.status_code == 404
        assert b"not_found" in caught.value.body
        assert caught.value.headers["content-type"] == "application/json"
        await running_agent.drain()
        # What is open keeps the host from going on to its end.


# Ends


@pytest.mark.parametrize(
    ("handler_code", "expected"),
    [
        (None, Closed(1000, "", "handler")),
        (1000, Closed(1000, "bye", "handler")),
        (4001, Closed(4001, "bye", "handler")),
    ],
)
async def test_the_agents_close_is_seen_as_it_was_sent(handler_code: int | None, expected: Closed):
    async def talk(websocket: WebSocket) -> None:
        await websocket.receive_text()
        if handler_code is not None:
            await websocket.close(handler_code, "bye")

    async with agent_client(agent(talk)) as ws:
        assert ws.closed is None
        await ws.send_text("go")
        assert await ws.wait_closed() == expected
        assert ws.closed == expected
        assert str(ws.closed).startswith(str(expected.code))


async def test_the_clients_close_is_seen_by_the_agent():
    ends = []

    async def talk(websocket: WebSocket) -> None:
        try:
            await websocket.receive_text()
        except WebSocketDisconnect as end:
            ends.append((end.code, end.reason))

    async with agent_client(agent(talk)) as ws:
        assert await ws.close(4000, "enough") == Closed(4000, "enough", "client")
        # Nobody has to wait for the handler: it has run.
        assert ends == [(4000, "enough")]
        assert await ws.close() == Closed(4000, "enough", "client")


async def test_leaving_the_block_closes_with_1000():
    ends = []

    async def talk(websocket: WebSocket) -> None:
        ends.append(await websocket.receive())

    async with agent_client(agent(talk)):
        pass
    assert ends == [{"type": "websocket.disconnect", "code": 1000, "reason": ""}]


async def test_a_connection_can_be_lost():
    ends = []

    async def talk(websocket: WebSocket) -> None:
        ends.append((await websocket.receive())["code"])

    async with agent_client(agent(talk)) as ws:
        await ws.drop()
        assert ends == [1006]
        assert ws.closed == Closed(1006, "", "network")


async def test_a_handler_that_does_not_notice_is_cancelled_when_its_time_is_over():
    outcome = []

    async def talk(websocket: WebSocket) -> None:
        try:
            await asyncio.get_running_loop().create_future()
        except asyncio.CancelledError:
            outcome.append("cancelled")
            raise

    async with agent_client(agent(talk, ws_disconnect_grace_s=7.0)) as ws:
        await ws.drop()
        await ws.agent.advance(6.9)
        assert outcome == []
        await ws.agent.advance(0.2)
        assert outcome == ["cancelled"]


async def test_messages_from_before_the_end_can_be_read_after_it():
    async def talk(websocket: WebSocket) -> None:
        await websocket.send_text("one")
        await websocket.send_text("two")

    async with agent_client(agent(talk)) as ws:
        await ws.wait_closed()
        assert await ws.receive() == "one"
        assert [message async for message in ws] == ["two"]
        with pytest.raises(WebSocketClosedError, match="closed with 1000, by handler") as caught:
            await ws.receive()
        assert caught.value.closed.code == 1000


async def test_iterating_fails_if_the_end_is_no_good_one():
    async def talk(websocket: WebSocket) -> None:
        await websocket.send_text("one")
        await websocket.close(1008, "not you")

    async with agent_client(agent(talk)) as ws:
        assert await anext(aiter(ws)) == "one"
        with pytest.raises(WebSocketClosedError, match=r"1008 \(not you\), by handler"):
            await anext(aiter(ws))


async def test_nothing_can_be_sent_after_the_end():
    async with agent_client(agent(echo)) as ws:
        await ws.close()
        with pytest.raises(WebSocketClosedError, match="nothing can be sent any more"):
            await ws.send_text("hello?")


@pytest.mark.parametrize("code", [1005, 1006, 999, 5000])
async def test_a_close_code_that_may_not_be_sent_is_not(code: int):
    async with agent_client(agent(echo)) as ws:
        with pytest.raises(ValueError, match=f"{code} may not be sent"):
            await ws.close(code)
        with pytest.raises(ValueError, match="at most 123 bytes"):
            await ws.close(reason="x" * 124)
        assert ws.closed is None


async def test_a_websocket_that_was_awaited_is_closed_by_the_agents_end():
    async with running(agent(echo)) as running_agent:
        ws = await running_agent.connect()
    assert ws.closed == Closed(1001, "the agent is shutting down", "drain")


# The host's limits and keep-alive


async def test_a_message_over_the_limit_ends_it():
    async with agent_client(agent(echo, ws_max_message_bytes=1000)) as ws:
        await ws.send_bytes(bytes(1000))
        assert await ws.receive_bytes() == bytes(1000)
        await ws.send_bytes(bytes(1001))
        closed = await ws.wait_closed()
        assert (closed.code, closed.by) == (1009, "protocol")
        assert "1001 > 1000" in closed.reason


async def test_a_client_that_answers_pings_stays():
    async with agent_client(agent(silent, ws_keepalive_interval_s=10)) as ws:
        await ws.agent.advance(95)
        assert ws.pings == 9
        assert ws.closed is None


async def test_a_client_that_does_not_is_closed():
    async with agent_client(agent(silent, ws_keepalive_interval_s=10), answers_pings=False) as ws:
        assert not ws.answers_pings
        await ws.agent.advance(19.9)
        assert ws.closed is None
        await ws.agent.advance(1)
        assert ws.closed == Closed(
            1001, "no pong within 10 s (ws_keepalive_interval_s)", "keepalive"
        )
        assert ws.pings == 1


async def test_a_client_may_fall_silent_later():
    async with agent_client(agent(silent, ws_keepalive_interval_s=10)) as ws:
        await ws.agent.advance(50)
        ws.answers_pings = False
        await ws.agent.advance(21)
        assert ws.closed is not None
        assert ws.closed.by == "keepalive"


async def test_a_ping_is_answered_while_the_handler_is_busy():
    async def talk(websocket: WebSocket) -> None:
        await asyncio.sleep(60)

    async with agent_client(agent(talk)) as ws:
        await ws.ping()
        await ws.ping()
        assert ws.agent.elapsed_s == 0


async def test_a_ping_that_is_not_answered_fails():
    async def talk(websocket: WebSocket) -> None:
        await websocket.close()

    async with agent_client(agent(talk)) as ws:
        await ws.wait_closed()
        with pytest.raises(WebSocketClosedError):
            await ws.ping()


async def test_a_client_that_does_not_read_makes_the_agent_wait():
    sent = 0

    async def talk(websocket: WebSocket) -> None:
        nonlocal sent
        while True:
            await websocket.send_bytes(bytes(100_000))
            sent += 1

    async with agent_client(agent(talk)) as ws:
        ws.pause_reading()
        await ws.agent.advance(0)
        stuck_at = sent
        await ws.agent.advance(10)
        assert sent == stuck_at
        assert stuck_at * 100_000 < 20_000_000
        ws.resume_reading()
        for _ in range(stuck_at + 1):
            assert await ws.receive() == bytes(100_000)
        assert sent > stuck_at
        ws.pause_reading()
        with pytest.raises(NothingCameError, match="the test has paused reading"):
            await _receive_for_ever(ws)


async def _receive_for_ever(ws) -> None:
    while True:
        await ws.receive(timeout_s=0.01)


async def test_a_client_that_is_not_read_from_for_long_stops_by_itself():
    sent = 0

    async def talk(websocket: WebSocket) -> None:
        nonlocal sent
        while True:
            await websocket.send_bytes(bytes(1_000_000))
            sent += 1

    async with agent_client(agent(talk)) as ws:
        await ws.agent.advance(0)
        assert 16 <= sent < 30
        for _ in range(40):
            await ws.receive()
        assert sent >= 40


async def test_an_agent_that_does_not_read_makes_the_test_wait_and_then_fail():
    async def talk(websocket: WebSocket) -> None:
        await asyncio.get_running_loop().create_future()

    app = agent(talk, ws_max_queued_bytes=100_000)
    async with agent_client(app, timeout_s=1) as ws:
        with pytest.raises(NothingCameError, match=r"the agent took nothing \(\d+ bytes wait"):
            await _send_for_ever(ws)


async def _send_for_ever(ws) -> None:
    while True:
        await ws.send_bytes(bytes(100_000))
