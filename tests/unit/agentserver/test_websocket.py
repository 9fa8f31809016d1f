import asyncio
import json
import logging
import uuid

import pytest
from starlette.testclient import TestClient
from starlette.websockets import WebSocketDisconnect

from trunkline.agentserver import InvocationAgentServerHost, get_request_context

PATH = "/invocations_ws"
FIELD = "azure.ai.agentserver.invocations_ws."


@pytest.fixture
def events(caplog):
    """The close events so far, as their fields."""
    caplog.set_level(logging.INFO, logger="azure.ai.agentserver")

    def found():
        return [
            {key.removeprefix(FIELD): value for key, value in vars(record).items()
             if key.startswith(FIELD)}
            for record in caplog.records
            if hasattr(record, f"{FIELD}close_code")
        ]  # fmt: skip

    return found


def client_for(handler):
    app = InvocationAgentServerHost()
    app.ws_handler(handler)
    return TestClient(app)


async def echo(websocket):
    async for text in websocket.iter_text():
        await websocket.send_text(text)


async def read(websocket):
    while True:
        await websocket.receive_text()


def test_the_host_accepts_and_the_handler_talks(events):
    with client_for(echo).websocket_connect(PATH) as websocket:
        websocket.send_text("héllo")
        assert websocket.receive_text() == "héllo"
    (event,) = events()
    assert event["close_code"] == 1000
    assert event["duration_ms"] >= 0
    assert event["closed_by"] == "client"
    assert str(uuid.UUID(event["session_id"])) == event["session_id"]
    assert "error.code" not in event


def test_the_event_is_one_readable_line(events, caplog):
    with client_for(echo).websocket_connect(PATH):
        pass
    (line,) = [r.message for r in caplog.records if "connection closed" in r.message]
    session = events()[0]["session_id"]
    assert line.startswith(f"invocations_ws connection closed: session_id={session} code=1000 ")


@pytest.mark.parametrize("handler", [echo, read])
def test_a_clients_code_is_in_the_event(handler, events, caplog):
    with client_for(handler).websocket_connect(PATH) as websocket:
        websocket.close(4001)
    assert events()[0]["close_code"] == 4001
    assert not [record for record in caplog.records if record.levelno >= logging.ERROR]


def receive_end(handler):
    with pytest.raises(WebSocketDisconnect) as caught:
        with client_for(handler).websocket_connect(PATH) as websocket:
            websocket.receive_text()
    return caught.value.code, caught.value.reason


def test_returning_closes_with_1000(events):
    async def handler(websocket):
        pass

    assert receive_end(handler) == (1000, "")
    assert events()[0]["closed_by"] == "handler"


def test_raising_closes_with_1011_and_tells_only_the_log(events, caplog):
    async def handler(websocket):
        raise ValueError("secret")

    assert receive_end(handler) == (1011, "Internal server error")
    (event,) = events()
    assert (event["close_code"], event["error.code"]) == (1011, "internal_error")
    assert "secret" not in json.dumps(event)
    (error,) = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert error.exc_info is not None


@pytest.mark.parametrize(("raised", "sent"), [(4002, 4002), (1005, 1000), (1006, 1000), (0, 1000)])
def test_a_raised_disconnect_is_a_close(raised, sent, events, caplog):
    async def handler(websocket):
        raise WebSocketDisconnect(raised)

    assert receive_end(handler)[0] == sent
    assert events()[0]["close_code"] == sent
    assert "error.code" not in events()[0]


def test_a_handler_may_close_itself(events):
    async def handler(websocket):
        await websocket.close(4321, "bye")

    assert receive_end(handler) == (4321, "bye")
    (event,) = events()
    assert (event["close_code"], event["closed_by"]) == (4321, "handler")


def test_failing_after_the_client_left_is_still_an_error(events):
    async def handler(websocket):
        async for _text in websocket.iter_text():
            pass
        raise ValueError("while cleaning up")

    with client_for(handler).websocket_connect(PATH) as websocket:
        websocket.close(4001)
    (event,) = events()
    assert (event["close_code"], event["error.code"]) == (4001, "internal_error")


async def test_a_failing_accept_is_told(events):
    app = InvocationAgentServerHost()
    app.ws_handler(echo)

    async def receive():
        return {"type": "websocket.connect"}

    async def send(_message):
        raise OSError("gone")

    await app({"type": "websocket", "path": PATH, "headers": [], "query_string": b""},
              receive, send)  # fmt: skip
    (event,) = events()
    assert (event["close_code"], event["error.code"]) == (1011, "accept_failed")


async def test_a_cancelled_handler_is_told_and_stays_cancelled(events):
    app = InvocationAgentServerHost()
    started = asyncio.Event()
    sent = []

    @app.ws_handler
    async def handler(websocket):
        started.set()
        await asyncio.Event().wait()

    async def receive():
        return {"type": "websocket.connect"}

    async def send(message):
        sent.append(message)

    scope = {"type": "websocket", "path": PATH, "headers": [], "query_string": b""}
    task = asyncio.create_task(app(scope, receive, send))
    await started.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    (event,) = events()
    assert (event["close_code"], event["error.code"]) == (1011, "cancelled")
    assert sent[-1] == {
        "type": "websocket.close", "code": 1011, "reason": "Internal server error"
    }  # fmt: skip


class TestIdentity:
    def ask(self, query="", env="", headers=None):
        async def handler(websocket):
            found = get_request_context()
            await websocket.send_json(
                {
                    "state": websocket.state.session_id,
                    "user": websocket.state.user_id,
                    "context": [found.call_id, found.user_id, found.session_id],
                }
            )

        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("FOUNDRY_AGENT_SESSION_ID", env)
            client = client_for(handler)
        with client.websocket_connect(PATH + query, headers=headers or {}) as websocket:
            return websocket.receive_json()

    def test_from_the_environment(self, events):
        found = self.ask("?agent_session_id=q", "env")
        assert found["state"] == "env"
        assert events()[0]["session_id"] == "env"

    def test_from_the_query_for_the_handler_only(self, events):
        found = self.ask("?agent_session_id=q")
        assert found["state"] == "q"
        (event,) = events()
        assert event["requested_session_id"] == "q"
        assert uuid.UUID(event["session_id"])

    @pytest.mark.parametrize(("query", "env"), [("", ""), ("?agent_session_id=b%20d", "b d!")])
    def test_fresh_and_the_same_in_both_places(self, query, env, events):
        found = self.ask(query, env)
        assert events()[0]["session_id"] == found["state"]
        assert uuid.UUID(found["state"])

    def test_of_the_caller(self):
        found = self.ask(env="s", headers={"x-agent-user-id": "u", "x-agent-foundry-call-id": "c"})
        assert found["context"] == ["c", "u", "s"]
        assert found["user"] == "u"


def test_the_event_counts_under_any_server(events):
    with client_for(echo).websocket_connect(PATH) as websocket:
        websocket.send_text("héllo")
        websocket.receive_text()
    (event,) = events()
    assert (event["received_messages"], event["received_bytes"]) == (1, 6)
    assert (event["sent_messages"], event["sent_bytes"]) == (1, 6)
