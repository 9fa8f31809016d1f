"""Spans of requests and WebSockets."""

import asyncio

import pytest
from opentelemetry import trace
from opentelemetry.trace import SpanKind, StatusCode
from starlette.testclient import TestClient
from starlette.websockets import WebSocketDisconnect

from tests.unit.agentserver.otel.conftest import make_host

TRACE = "0af7651916cd43dd8448eb211c80319c"
PARENT = "b7ad6b7169203331"
TRACEPARENT = {"traceparent": f"00-{TRACE}-{PARENT}-01"}


def named(recorded, name):
    (span,) = [span for span in recorded.spans if span.name == name]
    return span


def test_a_request_is_a_span_of_the_callers_trace(own_providers):
    with TestClient(make_host()) as client:
        response = client.post("/invocations?agent_session_id=s2&q=hunter2", headers=TRACEPARENT)
    assert response.text == "answer"
    span = named(own_providers, "invoke_agent parrot")
    assert span.kind is SpanKind.SERVER
    assert span.status.status_code is StatusCode.UNSET
    assert f"{span.context.trace_id:032x}" == TRACE
    assert f"{span.parent.span_id:016x}" == PARENT
    assert span.instrumentation_scope.name == "trunkline.agentserver"
    assert dict(span.attributes) == {
        "gen_ai.operation.name": "invoke_agent",
        "gen_ai.provider.name": "trunkline",
        "gen_ai.agent.name": "parrot",
        "gen_ai.agent.version": "3",
        "gen_ai.agent.id": "11111111-2222-3333-4444-555555555555",
        "gen_ai.conversation.id": "s2",
        "azure.ai.agentserver.invocation_id": response.headers["x-agent-invocation-id"],
        "http.request.method": "POST",
        "http.response.status_code": 200,
        "http.route": "/invocations",
        "url.path": "/invocations",
        "url.scheme": "http",
        "network.protocol.name": "http",
        "network.protocol.version": "1.1",
        "client.address": "testclient",
        "server.address": "testserver",
        "server.port": 80,
        "user_agent.original": "testclient",
    }
    assert named(own_providers, "thought").parent.span_id == span.context.span_id


def test_a_trace_that_begins_here_names_the_request(own_providers):
    with TestClient(make_host()) as client:
        response = client.post("/invocations", content="state", headers={"x-request-id": "mine"})
    span = named(own_providers, "invoke_agent parrot")
    assert span.parent is None
    trace_id = f"{span.context.trace_id:032x}"
    assert response.headers["x-request-id"] == trace_id
    assert response.text == trace_id


def test_requests_about_an_invocation_are_no_invocations(own_providers):
    with TestClient(make_host()) as client:
        client.get("/invocations/i1")
        client.post(f"/invocations/{'i' * 300}/cancel")
        client.get("/readiness")
    get = named(own_providers, "GET /invocations/{invocation_id}")
    cancel = named(own_providers, "POST /invocations/{invocation_id}/cancel")
    assert len(own_providers.spans) == 2
    assert "gen_ai.operation.name" not in get.attributes
    assert get.attributes["gen_ai.agent.name"] == "parrot"
    assert get.attributes["azure.ai.agentserver.invocation_id"] == "i1"
    assert cancel.attributes["http.response.status_code"] == 404
    assert cancel.status.status_code is StatusCode.UNSET
    assert len(cancel.attributes["url.path"]) == 256


@pytest.mark.parametrize(
    ("body", "status", "error"),
    [
        ("fail", 500, "LookupError"),
        ("refuse", 403, None),
        ("unavailable", 503, "503"),
        ("unimplemented", 501, "NotImplementedError"),
        ("broken stream", 200, "LookupError"),
    ],
)
def test_failures_of_requests(own_providers, body, status, error):
    with TestClient(make_host(), raise_server_exceptions=False) as client:
        client.post("/invocations", content=body)
    span = named(own_providers, "invoke_agent parrot")
    assert span.attributes["http.response.status_code"] == status
    assert span.attributes.get("error.type") == error
    assert (span.status.status_code is StatusCode.ERROR) == (error is not None)
    # What the exception said might be what somebody said.
    assert span.events == ()
    assert span.status.description is None
    assert "hunter2" not in span.to_json()


def test_a_websocket_is_one_span_with_its_end(own_providers):
    with TestClient(make_host()) as client:
        with client.websocket_connect("/invocations_ws", headers=TRACEPARENT) as websocket:
            for text in ("ab", "hunter2"):
                websocket.send_text(text)
                assert websocket.receive_text() == text * 2
            assert own_providers.value("websocket.active_connections") == 1
            websocket.close(4001)
    span = named(own_providers, "invoke_agent parrot")
    assert span.kind is SpanKind.SERVER
    assert f"{span.context.trace_id:032x}" == TRACE
    assert f"{span.parent.span_id:016x}" == PARENT
    assert span.status.status_code is StatusCode.UNSET
    assert dict(span.attributes) == {
        "gen_ai.operation.name": "invoke_agent",
        "gen_ai.provider.name": "trunkline",
        "gen_ai.agent.name": "parrot",
        "gen_ai.agent.version": "3",
        "gen_ai.agent.id": "11111111-2222-3333-4444-555555555555",
        "gen_ai.conversation.id": "s1",
        "http.request.method": "GET",
        "http.route": "/invocations_ws",
        "url.path": "/invocations_ws",
        "url.scheme": "ws",
        "network.protocol.name": "websocket",
        "client.address": "testclient",
        "server.address": "testserver",
        "server.port": 80,
        "user_agent.original": "testclient",
        "websocket.close_code": 4001,
        "websocket.closed_by": "client",
        "websocket.frames.received": 2,
        "websocket.frames.sent": 2,
        "websocket.bytes_received": 9,
        "websocket.bytes_sent": 18,
    }
    thoughts = [s for s in own_providers.spans if s.name == "thought"]
    assert [s.parent.span_id for s in thoughts] == [span.context.span_id] * 2
    assert not any("hunter2" in s.to_json() for s in own_providers.spans)


@pytest.mark.parametrize(
    ("text", "code", "error"), [("fail", 1011, "LookupError"), ("leave", 4003, None)]
)
def test_ends_of_websockets(own_providers, text, code, error):
    with TestClient(make_host()) as client:
        with client.websocket_connect("/invocations_ws") as websocket:
            websocket.send_text(text)
            with pytest.raises(WebSocketDisconnect):
                websocket.receive_text()
    span = named(own_providers, "invoke_agent parrot")
    assert span.attributes["websocket.close_code"] == code
    assert span.attributes["websocket.closed_by"] == "handler"
    assert span.attributes.get("error.type") == error
    assert (span.status.status_code is StatusCode.ERROR) == (error is not None)
    (point,) = own_providers.metrics["websocket.connection.close_code"].data.data_points
    assert dict(point.attributes) == {
        "gen_ai.agent.name": "parrot",
        "websocket.close_code": str(code),
        "websocket.closed_by": "handler",
    }


async def serve_once(app, receive, send):
    scope = {
        "type": "websocket",
        "path": "/invocations_ws",
        "headers": [],
        "query_string": b"",
        "scheme": "ws",
        "client": None,
        "server": ("/run/agent.sock", None),
    }
    await app(scope, receive, send)


async def test_a_websocket_that_cannot_be_accepted(own_providers):
    async def send(_message):
        raise OSError("gone")

    async def receive():
        return {"type": "websocket.connect"}

    await serve_once(make_host(), receive, send)
    span = named(own_providers, "invoke_agent parrot")
    assert span.attributes["error.type"] == "accept_failed"
    assert span.attributes["websocket.close_code"] == 1011
    assert span.attributes["server.address"] == "/run/agent.sock"
    assert "server.port" not in span.attributes
    assert "client.address" not in span.attributes
    assert own_providers.value("websocket.active_connections") == 0


@pytest.mark.parametrize("is_accepting", [True, False])
async def test_a_websocket_that_is_cancelled(own_providers, is_accepting):
    is_there = asyncio.Event()

    async def send(_message):
        if is_accepting:
            is_there.set()
            await asyncio.Event().wait()

    messages = [{"type": "websocket.connect"}]

    async def receive():
        if not messages:
            is_there.set()
            await asyncio.Event().wait()
        return messages.pop()

    task = asyncio.create_task(serve_once(make_host(), receive, send))
    await is_there.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    span = named(own_providers, "invoke_agent parrot")
    assert span.attributes["error.type"] == "cancelled"
    assert span.attributes["websocket.close_code"] == 1011
    assert span.attributes["websocket.closed_by"] == ("host" if is_accepting else "handler")
    assert own_providers.value("websocket.active_connections") == 0
    assert trace.get_current_span() is trace.INVALID_SPAN
