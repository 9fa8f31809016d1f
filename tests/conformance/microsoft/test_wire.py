"""What Microsoft's tests can't see, because they start no server: facts on a real socket.

Each is one that Microsoft's own host gets wrong, or got wrong once. What is said of upgrades, close
codes, pings, floods and stopping in tests/integration/agentserver is not said again here.
"""

import asyncio
import json
import signal
from collections.abc import AsyncIterator, Awaitable, Callable

import httpx2
import pytest
from opentelemetry import trace
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.websockets import WebSocket

from tests.integration.agentserver.conftest import Served, serve
from tests.integration.agentserver.test_endurance import resident_bytes
from trunkline.agentserver import get_request_context

TRACE_ID = "0af7651916cd43dd8448eb211c80319c"
TRACEPARENT = {"traceparent": f"00-{TRACE_ID}-b7ad6b7169203331-01"}


async def ask(host: Served, path: str, method: str = "POST", **options: object) -> httpx2.Response:
    async with httpx2.AsyncClient(base_url=f"http://127.0.0.1:{host.port}") as client:
        return await client.request(method, path, **options)


def raising(error: Exception) -> Callable[[Request], Awaitable[Response]]:
    async def handler(_request: Request) -> Response:
        raise error

    return handler


class TestWebSocket:
    async def test_a_handler_knows_the_call_the_user_and_the_session(self, monkeypatch):
        monkeypatch.setenv("FOUNDRY_AGENT_SESSION_ID", "s-1")

        async def handler(websocket: WebSocket) -> None:
            context = get_request_context()
            await websocket.send_json([context.call_id, context.user_id, context.session_id])

        caller = {"x-agent-foundry-call-id": "c-1", "x-agent-user-id": "u-1"}
        async with serve(handler) as host, host.connect(additional_headers=caller) as client:
            assert json.loads(await client.recv()) == ["c-1", "u-1", "s-1"]

    async def test_a_handler_continues_the_callers_trace(self):
        async def handler(websocket: WebSocket) -> None:
            span = trace.get_current_span().get_span_context()
            await websocket.send_text(trace.format_trace_id(span.trace_id))

        async with serve(handler) as host, host.connect(additional_headers=TRACEPARENT) as client:
            assert await client.recv() == TRACE_ID

    async def test_a_session_that_is_no_session_id_is_not_in_the_event(self, monkeypatch, events):
        monkeypatch.setenv("FOUNDRY_AGENT_SESSION_ID", "bad id!")

        async def handler(websocket: WebSocket) -> None:
            await websocket.send_text(websocket.state.session_id)

        async with serve(handler) as host, host.connect() as client:
            known = await client.recv()
            event = await events.next()
        assert event["session_id"] == known
        assert known.replace("-", "").isalnum()

    async def test_a_busy_send_loop_whose_client_left_starves_nobody(self, events):
        async def handler(websocket: WebSocket) -> None:
            while True:
                await websocket.send_bytes(bytes(65536))

        async with serve(handler) as host:
            client = await host.raw()
            await client.frame()
            client.writer.transport.abort()
            assert (await ask(host, "/readiness", "GET")).status_code == 200
            assert (await events.next())["close_code"] == 1006
            assert (await ask(host, "/readiness", "GET")).status_code == 200


class TestIds:
    async def test_a_newline_is_no_part_of_a_session_id(self):
        async def handler(request: Request) -> Response:
            return JSONResponse(request.state.session_id)

        async with serve() as host:
            host.app.invoke_handler(handler)
            answer = await ask(host, "/invocations?agent_session_id=abc%0a")
        assert answer.headers["x-agent-session-id"] == answer.json()
        assert "abc" not in answer.json()

    @pytest.mark.parametrize(
        "headers", [{"x-request-id": "<script>"}, {"traceparent": f"00-{'Zz!@' * 8}-{'1' * 16}-01"}]
    )
    async def test_a_request_id_is_checked_before_it_is_repeated(self, headers):
        async with serve() as host:
            answer = await ask(host, "/readiness", "GET", headers=headers)
        assert len(answer.headers["x-request-id"]) == 32
        int(answer.headers["x-request-id"], 16)

    @pytest.mark.parametrize("odd", ["abc%0d%0aX-Evil:1", "h%E2%82%AC"])
    async def test_a_path_that_fits_in_no_header_is_an_id_all_the_same(self, odd):
        async def handler(request: Request) -> Response:
            return JSONResponse(request.state.invocation_id)

        async with serve() as host:
            refused = await ask(host, f"/invocations/{odd}", "GET")
            host.app.get_invocation_handler(handler)
            answered = await ask(host, f"/invocations/{odd}", "GET")
        assert (refused.status_code, refused.json()["error"]["code"]) == (404, "not_found")
        assert answered.status_code == 200
        for answer in (refused, answered):
            assert answer.headers["x-request-id"]
            assert "x-evil" not in answer.headers

    async def test_a_handler_continues_the_callers_trace(self):
        async def handler(_request: Request) -> Response:
            span = trace.get_current_span().get_span_context()
            return JSONResponse(trace.format_trace_id(span.trace_id))

        async with serve() as host:
            host.app.invoke_handler(handler)
            assert (await ask(host, "/invocations", headers=TRACEPARENT)).json() == TRACE_ID


class TestFailures:
    @pytest.mark.parametrize("text", ["line 1\nX-Evil: 1", "naïve €"])
    async def test_a_platforms_error_is_told_whatever_its_text(self, text):
        error = RuntimeError(text)
        setattr(error, "Azure.AI.AgentServer.PlatformError", True)
        async with serve() as host:
            host.app.invoke_handler(raising(error))
            answer = await ask(host, "/invocations")
        assert (answer.status_code, answer.json()["error"]["code"]) == (500, "internal_error")
        assert answer.headers["x-platform-error-source"] == "platform"
        assert answer.headers["x-platform-error-detail"].startswith("RuntimeError: ")
        assert "x-evil" not in answer.headers

    async def test_what_is_not_implemented_keeps_its_text_to_itself(self):
        async with serve() as host:
            host.app.invoke_handler(raising(NotImplementedError("secret")))
            answer = await ask(host, "/invocations")
        assert answer.status_code == 501
        assert "secret" not in answer.text

    async def test_an_http_exception_keeps_its_status(self):
        async with serve() as host:
            host.app.invoke_handler(raising(HTTPException(400, "no such voice")))
            answer = await ask(host, "/invocations")
        assert answer.status_code == 400
        assert answer.json()["error"] == {"code": "bad_request", "message": "no such voice"}


class TestStreams:
    async def test_one_that_never_waits_ends_with_its_client_and_takes_no_memory(self):
        made = 0

        async def parts() -> AsyncIterator[bytes]:
            nonlocal made
            while True:
                made += 1
                yield bytes(65536)

        async def handler(_request: Request) -> Response:
            return StreamingResponse(parts())

        async with serve() as host:
            host.app.invoke_handler(handler)
            reader, writer = await asyncio.open_connection("127.0.0.1", host.port)
            writer.write(b"POST /invocations HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n")
            await reader.readexactly(1 << 20)
            before = resident_bytes()
            writer.transport.abort()
            assert (await ask(host, "/readiness", "GET")).status_code == 200
            async with asyncio.timeout(10):
                while host.server.server_state.tasks:  # noqa: ASYNC110 - it has no word to give
                    await asyncio.sleep(0.01)
            made_for_it = made
            assert (await ask(host, "/readiness", "GET")).status_code == 200
            assert made == made_for_it
            assert resident_bytes() - before < 32 << 20

    @pytest.mark.parametrize(
        ("method", "path"), [("POST", "/invocations"), ("GET", "/invocations/i")]
    )
    async def test_comments_go_between_events_and_never_into_one(self, monkeypatch, method, path):
        monkeypatch.setenv("SSE_KEEPALIVE_INTERVAL", "1")
        commented = asyncio.Event()

        async def parts() -> AsyncIterator[str]:
            yield "data: a"
            # Longer than the interval: a comment could come here, and must not.
            await asyncio.sleep(1.3)
            yield "b\n\n"
            await commented.wait()
            yield "data: c\n\n"

        async def handler(_request: Request) -> Response:
            return StreamingResponse(parts(), media_type="text/event-stream")

        said = ""
        async with serve() as host:
            host.app.invoke_handler(handler)
            host.app.get_invocation_handler(handler)
            async with (
                httpx2.AsyncClient(base_url=f"http://127.0.0.1:{host.port}") as client,
                client.stream(method, path) as answer,
            ):
                async for text in answer.aiter_text():
                    said += text
                    if ": keep-alive\n\n" in said:
                        commented.set()
        assert said.replace(": keep-alive\n\n", "") == "data: ab\n\ndata: c\n\n"
        assert said.startswith("data: ab\n\n: keep-alive\n\n")


# Sees what Python's own sockets do. A thread could do something later, so there must be none.
WATCHED = """
    import sys, threading

    asked = []

    def watch(event, args):
        if event in ("socket.connect", "socket.getaddrinfo", "socket.sendto"):
            asked.append((event, args[-1]))

    sys.addaudithook(watch)

    from starlette.responses import JSONResponse
    from trunkline.agentserver import InvocationAgentServerHost

    app = InvocationAgentServerHost()

    @app.ws_handler
    async def talk(websocket):
        await websocket.send_text("hello")

    @app.invoke_handler
    async def invoke(request):
        return JSONResponse([thread.name for thread in threading.enumerate()])

    @app.shutdown_handler
    def end():
        print(f"asked for {asked}", flush=True)

    app.run()
"""


class TestDefaults:
    async def test_an_empty_number_in_the_environment_is_none(self, monkeypatch):
        for name in (
            "AGENTSERVER_GRACEFUL_SHUTDOWN_TIMEOUT_SECONDS",
            "PORT",
            "SSE_KEEPALIVE_INTERVAL",
            "WS_KEEPALIVE_INTERVAL",
        ):
            monkeypatch.setenv(name, "")
        async with serve() as host:
            assert (await ask(host, "/readiness", "GET")).status_code == 200

    async def test_nothing_is_sent_anywhere(self, start_host):
        host = await start_host(WATCHED)
        async with await host.connect() as client:
            assert await client.recv() == "hello"
        transport = httpx2.AsyncHTTPTransport(uds=host.socket_path)
        async with httpx2.AsyncClient(transport=transport, base_url="http://agent") as client:
            assert (await client.get("/readiness")).status_code == 200
            assert (await client.post("/invocations")).json() == ["MainThread"]
        host.process.send_signal(signal.SIGTERM)
        assert await host.line_with("asked for") == "asked for []"
        assert await host.process.wait() == 0
