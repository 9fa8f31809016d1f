"""HTTP invocations through a real gateway, to agents served on a Unix socket."""

import asyncio
import contextlib
import json
import logging
import tempfile
from collections.abc import AsyncIterator, Callable
from typing import Any

import httpx2
import pytest
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route

from tests.support.gateway import NEW_PATH, OLD_PATH, Gateway, raw_agent, running_gateway
from tests.unit.gateway.answers import Answer, parse_answer
from trunkline.protocol.errors import SessionNotReadyError
from trunkline.runtimes.interface import Address

PREFIX = "/api/projects/default/agents/echo/endpoint/protocols/invocations"
V1 = "api-version=v1"


class _AgentServer(uvicorn.Server):
    """A uvicorn that says when it serves, and leaves signals alone."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.is_ready = asyncio.Event()
        self.capture_signals = contextlib.nullcontext  # type: ignore[method-assign]

    async def startup(self, sockets: Any = None) -> None:
        await super().startup(sockets)
        self.is_ready.set()


@contextlib.asynccontextmanager
async def asgi_agent(app: Any, *, tcp: bool = False) -> AsyncIterator[Address]:
    with tempfile.TemporaryDirectory(prefix="trunkline-test-") as folder:
        where: dict[str, Any] = {"port": 0} if tcp else {"uds": f"{folder}/agent.sock"}
        server = _AgentServer(
            uvicorn.Config(app, **where, lifespan="off", ws="none", log_config=None)
        )
        serving = asyncio.create_task(server.serve())
        await server.is_ready.wait()
        port = server.servers[0].sockets[0].getsockname()[1] if tcp else None
        try:
            yield Address(port=port) if tcp else Address(path=where["uds"])
        finally:
            server.should_exit = server.force_exit = True
            await serving


@contextlib.asynccontextmanager
async def gateway_to(app: Any, *, tcp: bool = False) -> AsyncIterator[Gateway]:
    """A gateway in front of ``app`` that has to get rid of every connection and lease."""
    async with asgi_agent(app, tcp=tcp) as address, running_gateway(address) as gateway:
        yield gateway
        while gateway.sessions.held or gateway.server.server_state.connections:
            await gateway.answers()


@contextlib.asynccontextmanager
async def client_of(gateway: Gateway) -> AsyncIterator[httpx2.AsyncClient]:
    async with httpx2.AsyncClient(
        base_url=f"http://127.0.0.1:{gateway.port}",
        headers={"Authorization": f"Bearer {gateway.token()}"},
        trust_env=False,
        timeout=None,
    ) as client:
        yield client


def head(gateway: Gateway, method: str, target: str, *extra: str) -> bytes:
    lines = [f"{method} {target} HTTP/1.1", "Host: x", f"Authorization: Bearer {gateway.token()}"]
    return "\r\n".join([*lines, *extra]).encode() + b"\r\n\r\n"


async def ask(gateway: Gateway, method: str, target: str, *extra: str) -> Answer:
    reader, writer = await gateway.open()
    writer.write(head(gateway, method, target, "Connection: close", *extra))
    raw = await reader.read()
    writer.close()
    return parse_answer(raw)


def assert_enveloped(response: httpx2.Response, status: int, code: str) -> dict[str, Any]:
    assert response.status_code == status
    assert response.headers["content-type"] == "application/json"
    assert response.headers["x-request-id"]
    error: dict[str, Any] = response.json()["error"]
    assert error["code"] == code
    return error


async def mirror(request: Request) -> Response:
    """Tell a caller all that reached the agent."""
    body = await request.body()
    return JSONResponse(
        {
            "method": request.method,
            "path": request.scope["raw_path"].decode(),
            "query": request.scope["query_string"].decode(),
            "headers": [(n.decode(), v.decode()) for n, v in request.headers.raw],
            "body": body.decode("latin-1"),
        }
    )


def app_of(endpoint: Callable[[Request], Any]) -> Starlette:
    methods = ["GET", "POST", "HEAD"]
    return Starlette(routes=[Route("/{path:path}", endpoint, methods=methods)])


async def test_body_and_headers_go_both_ways() -> None:
    async def endpoint(request: Request) -> Response:
        body = await request.body()
        return Response(
            body[::-1],
            201,
            {"x-mine": "yes", "x-agent-invocation-id": "i-1", "x-platform-server": "core/1.0"},
            "application/octet-stream",
        )

    async with gateway_to(app_of(endpoint)) as gateway, client_of(gateway) as client:
        body = bytes(range(256)) * 1000
        response = await client.post(f"{PREFIX}?{V1}&agent_session_id=s-1", content=body)
        assert response.status_code == 201
        assert response.content == body[::-1]
        assert response.headers["content-length"] == str(len(body))
        assert response.headers["content-type"] == "application/octet-stream"
        assert response.headers["x-mine"] == "yes"
        assert response.headers["x-agent-invocation-id"] == "i-1"
        assert response.headers["x-platform-server"] == "core/1.0"
        assert response.headers["x-agent-session-id"] == "s-1"
        assert response.headers["x-request-id"]
        assert len(response.headers.get_list("date")) == 1
        ((key, caller, protocol),) = gateway.sessions.asked
        assert (key.session_id, caller.identity.subject, protocol) == (
            "s-1",
            "tester",
            "invocations",
        )


async def test_only_the_allowed_headers_reach_the_agent() -> None:
    forwarded = {
        "accept": "text/plain",
        "accept-language": "de",
        "content-type": "text/x",
        "traceparent": "00-" + "1" * 32 + "-" + "2" * 16 + "-01",
        "tracestate": "a=b",
        "baggage": "k=v",
        "x-ms-client-request-id": "c-1",
        "x-request-id": "r-1",
        "user-agent": "me/1",
        "x-client-Tag": "t",
    }
    dropped = {
        "cookie": "secret=1",
        "x-forwarded-for": "1.2.3.4",
        "x-forwarded-host": "evil",
        "forwarded": "for=1.2.3.4",
        "x-api-key": "secret",
        "proxy-authorization": "Basic x",
        "te": "trailers",
    }
    forged = {"x-agent-user-id": "forged", "x-agent-foundry-call-id": "forged"}
    async with gateway_to(app_of(mirror)) as gateway, client_of(gateway) as client:
        response = await client.post(
            f"{PREFIX}?{V1}", content=b"x", headers={**forwarded, **dropped, **forged}
        )
        seen: list[list[str]] = response.json()["headers"]
        names = [name for name, _ in seen]
        assert len(names) == len(set(names))
        values = dict(seen)
        for name, value in forwarded.items():
            assert values[name.lower()] == value
        assert not (dropped.keys() | {"authorization"}) & set(names)
        assert "forged" not in values.values()
        assert len(values["x-agent-user-id"]) == 32
        assert values["x-agent-foundry-call-id"]
        assert response.headers["x-request-id"] == "r-1"
        assert "eyJ" not in response.text
        again = await client.post(f"{PREFIX}?{V1}", content=b"x")
        second = dict(again.json()["headers"])
        assert second["x-agent-user-id"] == values["x-agent-user-id"]
        assert second["x-agent-foundry-call-id"] != values["x-agent-foundry-call-id"]


async def test_a_trace_is_begun_where_there_is_none_and_names_the_request() -> None:
    async with gateway_to(app_of(mirror)) as gateway, client_of(gateway) as client:
        for given in ({}, {"traceparent": "00-zz", "tracestate": "a=b"}):
            response = await client.post(f"{PREFIX}?{V1}", content=b"x", headers=given)
            seen = dict(response.json()["headers"])
            _, trace_id, _, flags = seen["traceparent"].split("-")
            assert (len(trace_id), flags) == (32, "01")
            assert seen["x-request-id"] == response.headers["x-request-id"] == trace_id
            assert "tracestate" not in seen
        refused = await client.get("/api/projects/none/agents", headers={
            "traceparent": f"00-{'1' * 32}-{'2' * 16}-01"})  # fmt: skip
        assert refused.headers["x-request-id"] == "1" * 32


async def test_what_is_of_one_connection_does_not_cross_either_way() -> None:
    async def answers(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        body = b"|".join(head.lower().split(b"\r\n"))
        writer.write(
            b"HTTP/1.1 200 OK\r\nconnection: close, X-Mine\r\nx-mine: 1\r\n"
            b"keep-alive: timeout=5\r\nproxy-connection: x\r\nx-agent-session-id: forged\r\n"
            b"x-platform-server: p/1\r\n"
            b"x-agent-invocation-id: i\r\nset-cookie: a=1\r\nset-cookie: b=2\r\n"
            + f"content-length: {len(body)}\r\n\r\n".encode()
            + body
        )
        await writer.drain()

    async with raw_agent(answers) as address, running_gateway(address) as gateway:
        async with client_of(gateway) as client:
            response = await client.post(
                f"{PREFIX}?{V1}&agent_session_id=s",
                content=b"x",
                headers={
                    "connection": "close, X-Client-Secret",
                    "x-client-secret": "1",
                    "x-client-other": "2",
                    "keep-alive": "timeout=5",
                },
            )
        assert b"x-client-other: 2" in response.content
        assert b"x-client-secret" not in response.content
        assert b"keep-alive" not in response.content
        assert {"x-mine", "keep-alive", "proxy-connection"}.isdisjoint(response.headers)
        assert response.headers["x-agent-session-id"] == "s"
        assert response.headers["x-platform-server"] == "p/1"
        assert response.headers["x-agent-invocation-id"] == "i"
        assert response.headers.get_list("set-cookie") == ["a=1", "b=2"]


async def test_a_user_who_is_named_has_a_pseudonym_of_their_own_and_no_header() -> None:
    async with gateway_to(app_of(mirror)) as gateway, client_of(gateway) as client:
        plain = await client.post(f"{PREFIX}?{V1}", content=b"x")
        named = {"x-ms-user-identity": "u-1"}
        refused = await client.post(f"{PREFIX}?{V1}", content=b"x", headers=named)
        assert refused.status_code == 403
        assert refused.json()["error"]["code"] == "forbidden"
        token = gateway.token(roles=["invoker", "impersonator"])
        acting = named | {"Authorization": f"Bearer {token}"}
        pseudonyms = set()
        for response in (plain, await client.post(f"{PREFIX}?{V1}", content=b"x", headers=acting)):
            values = dict(response.json()["headers"])
            assert "x-ms-user-identity" not in values
            pseudonyms.add(values["x-agent-user-id"])
        assert len(pseudonyms) == 2


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", ""),
        ("GET", "/inv-1"),
        ("POST", "/inv-1/cancel"),
        ("GET", "/docs/openapi.json"),
        ("GET", "/docs/asyncapi.json"),
        ("GET", "/docs/asyncapi.yaml"),
        ("GET", "/with%20space%2Bplus"),
        ("GET", "/protocols"),
        ("POST", "/protocols/cancel"),
        ("GET", "/protocols0"),
    ],
)
@pytest.mark.parametrize("tcp", [False, True], ids=["unix", "tcp"])
async def test_paths_and_queries_reach_the_agent_as_they_are(
    method: str, path: str, tcp: bool
) -> None:
    async with gateway_to(app_of(mirror), tcp=tcp) as gateway:
        query = "a=1&agent_session_id=s&b=%20c+d&e&f='g'"
        answer = await ask(gateway, method, f"{PREFIX}{path}?{V1}&{query}")
        assert answer.status == 200
        seen = json.loads(answer.body)
        assert (seen["method"], seen["path"]) == (method, f"/invocations{path}")
        assert seen["query"] == query


@pytest.mark.parametrize("path", ["/..", "/../cancel", "/%2e%2e", "/."])
async def test_no_path_leaves_the_agents_invocations(path: str) -> None:
    async with gateway_to(app_of(mirror)) as gateway:
        method = "POST" if path.endswith("cancel") else "GET"
        answer = await ask(gateway, method, f"{PREFIX}{path}?{V1}")
        if answer.status == 200:
            assert json.loads(answer.body)["path"].startswith("/invocations")
        else:
            assert answer.status in (400, 404)


async def test_no_path_changes_where_a_request_is_sent() -> None:
    """What follows `/protocols` must not become a part of the address."""
    reached = asyncio.Event()

    async def stranger(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        reached.set()
        writer.write(b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 0\r\n\r\n")
        await writer.drain()
        writer.close()

    other = await asyncio.start_server(stranger, "127.0.0.1", 0)
    port = other.sockets[0].getsockname()[1]
    async with other, gateway_to(app_of(mirror), tcp=True) as gateway:
        await ask(gateway, "GET", f"{PREFIX}/protocols@127.0.0.1:{port}?{V1}")
        assert not reached.is_set()


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


async def test_what_is_compressed_stays_so() -> None:
    async def endpoint(_: Request) -> Response:
        return Response(b"not really gzip", headers={"content-encoding": "gzip"})

    async with gateway_to(app_of(endpoint)) as gateway:
        answer = await ask(gateway, "POST", f"{PREFIX}?{V1}", "Content-Length: 0")
        assert answer.headers["content-encoding"] == "gzip"
        assert answer.body == b"not really gzip"


@pytest.mark.parametrize("status", [204, 302, 400, 401, 404, 409, 422, 500, 501, 503])
async def test_the_agents_own_status_and_body_pass(
    caplog: pytest.LogCaptureFixture, status: int
) -> None:
    async def endpoint(_: Request) -> Response:
        body = b"" if status == 204 else b'{"error":{"code":"mine"}}'
        return Response(body, status, {"x-mine": "yes", "location": "/elsewhere"})

    async with gateway_to(app_of(endpoint)) as gateway, client_of(gateway) as client:
        response = await client.post(f"{PREFIX}?{V1}", json={})
        assert response.status_code == status
        assert response.headers["x-mine"] == "yes"
        assert response.headers["x-agent-session-id"]
        assert response.content == (b"" if status == 204 else b'{"error":{"code":"mine"}}')
    assert [r for r in caplog.records if r.levelno >= logging.ERROR] == []


async def test_hop_by_hop_headers_of_the_agent_stop_at_the_gateway() -> None:
    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(
            b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nKeep-Alive: timeout=99\r\nServer: me\r\n"
            b"X-Agent-Session-Id: forged\r\nX-Request-Id: forged\r\nUpgrade: h2c\r\n"
            b"Set-Cookie: a=1\r\nConnection: close\r\n\r\nok"
        )
        await writer.drain()

    async with raw_agent(handler) as address, running_gateway(address) as gateway:
        answer = await ask(gateway, "GET", f"{PREFIX}/i?{V1}&agent_session_id=mine")
        assert (answer.status, answer.body) == (200, b"ok")
        assert {"keep-alive", "upgrade"}.isdisjoint(answer.headers)
        assert answer.headers["x-agent-session-id"] == "mine"
        assert "forged" not in answer.headers.values()
        await gateway.sessions.all_returned.wait()


@pytest.mark.parametrize(
    ("method", "target", "status", "code"),
    [
        ("POST", PREFIX, 400, "invalid_request"),
        ("POST", f"{PREFIX}?api-version=v9", 400, "invalid_request"),
        ("GET", f"{PREFIX}/i?api-version=", 400, "invalid_request"),
        ("POST", f"{PREFIX}?{V1}&agent_session_id={'a' * 300}", 400, "invalid_request"),
        ("POST", f"{PREFIX}?{V1}&agent_session_id=a%20b", 400, "invalid_request"),
        ("POST", f"{PREFIX}?{V1}".replace("default", "nope"), 404, "not_found"),
        ("POST", f"{PREFIX}?{V1}".replace("echo", "nope"), 404, "agent_not_found"),
        ("POST", f"{PREFIX}?{V1}".replace("echo", "bad_name"), 404, "not_found"),
        ("POST", f"{PREFIX}/a/b/c?{V1}", 404, "not_found"),
        ("GET", "/nowhere", 404, "not_found"),
        ("GET", "/", 404, "not_found"),
        ("GET", f"{PREFIX}?{V1}", 405, "method_not_allowed"),
        ("DELETE", f"{PREFIX}/i?{V1}", 405, "method_not_allowed"),
        ("PUT", "/healthz", 405, "method_not_allowed"),
        ("GET", NEW_PATH, 426, "upgrade_required"),
        ("GET", OLD_PATH, 426, "upgrade_required"),
        ("POST", NEW_PATH, 405, "method_not_allowed"),
    ],
)
async def test_what_is_refused_is_enveloped(
    method: str, target: str, status: int, code: str
) -> None:
    async with gateway_to(app_of(mirror)) as gateway, client_of(gateway) as client:
        response = await client.request(method, target)
        error = assert_enveloped(response, status, code)
        assert set(error) == {
            "code", "message", "param", "type", "details", "additionalInfo", "debugInfo",
        }  # fmt: skip
        if status == 405:
            assert response.headers["allow"]
        if status == 426:
            assert response.headers["upgrade"] == "websocket"
        if "api-version" in error["message"]:
            assert error["param"] == "api-version"


@pytest.mark.parametrize("authorization", [None, "Bearer garbage", "Basic eDp5"])
@pytest.mark.parametrize(
    ("method", "target"),
    [("POST", f"{PREFIX}?{V1}"), ("GET", f"{PREFIX}/i?{V1}"), ("GET", NEW_PATH),
     ("GET", f"{PREFIX}/docs/openapi.json?{V1}")],
)  # fmt: skip
async def test_without_a_good_token_no_session_is_asked(
    method: str, target: str, authorization: str | None
) -> None:
    async with gateway_to(app_of(mirror)) as gateway:
        url = f"http://127.0.0.1:{gateway.port}{target}"
        headers = {} if authorization is None else {"Authorization": authorization}
        async with httpx2.AsyncClient(trust_env=False) as client:
            response = await client.request(method, url, headers=headers)
        assert_enveloped(response, 401, "unauthenticated")
        assert response.headers["www-authenticate"].startswith("Bearer ")
        assert gateway.sessions.asked == []


async def test_a_session_that_cannot_be_started() -> None:
    async with gateway_to(app_of(mirror)) as gateway, client_of(gateway) as client:
        gateway.sessions.error = SessionNotReadyError("it ended with exit code 1")
        response = await client.post(f"{PREFIX}?{V1}", content=b"x")
        error = assert_enveloped(response, 424, "session_not_ready")
        assert error["message"] == "it ended with exit code 1"


async def test_an_agent_that_is_not_there() -> None:
    async with running_gateway(Address(path="/nobody.sock")) as gateway:
        async with client_of(gateway) as client:
            response = await client.post(f"{PREFIX}?{V1}", content=b"x")
            assert (
                "isn't listening" in assert_enveloped(response, 502, "upstream_failed")["message"]
            )
        assert not gateway.sessions.held


@pytest.mark.parametrize("raw", [b"", b"HTTP/1.1 200 O", b"garbage\r\n\r\n"])
async def test_an_agent_that_breaks_before_it_answers(
    caplog: pytest.LogCaptureFixture, raw: bytes
) -> None:
    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(raw)
        await writer.drain()

    async with raw_agent(handler) as address, running_gateway(address) as gateway:
        async with client_of(gateway) as client:
            response = await client.get(f"{PREFIX}/i?{V1}")
            assert_enveloped(response, 502, "upstream_failed")
        assert not gateway.sessions.held
    assert [r.getMessage() for r in caplog.records if r.levelno >= logging.ERROR] == []


@pytest.mark.parametrize(
    "framing",
    [b"Content-Length: 100\r\n\r\nhalf", b"Transfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n",
     b"Transfer-Encoding: chunked\r\n\r\n64\r\nhalf"],
    ids=["length", "between chunks", "inside a chunk"],
)  # fmt: skip
async def test_an_agent_that_dies_in_the_middle_of_its_answer(framing: bytes) -> None:
    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\n" + framing)
        await writer.drain()

    async with raw_agent(handler) as address, running_gateway(address) as gateway:
        async with client_of(gateway) as client:
            async with client.stream("GET", f"{PREFIX}/i?{V1}") as response:
                assert response.status_code == 200
                with pytest.raises(httpx2.RemoteProtocolError):
                    await response.aread()
        await gateway.sessions.all_returned.wait()
        await gateway.answers()
        assert not gateway.server.server_state.connections


async def test_a_client_that_leaves_in_the_middle_of_an_answer() -> None:
    ended = asyncio.Event()

    async def body() -> AsyncIterator[bytes]:
        try:
            yield b"first"
            await asyncio.Event().wait()
        finally:
            ended.set()

    async def endpoint(_: Request) -> Response:
        return StreamingResponse(body())

    async with gateway_to(app_of(endpoint)) as gateway:
        reader, writer = await gateway.open()
        writer.write(head(gateway, "GET", f"{PREFIX}/i?{V1}"))
        await reader.readuntil(b"first")
        writer.transport.abort()
        await ended.wait()
        await gateway.sessions.all_returned.wait()


async def test_a_client_that_leaves_in_the_middle_of_its_request() -> None:
    began, ended = asyncio.Event(), asyncio.Event()

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"first")
        began.set()
        await reader.read()
        ended.set()

    async with raw_agent(handler) as address, running_gateway(address) as gateway:
        _, writer = await gateway.open()
        writer.write(head(gateway, "POST", f"{PREFIX}?{V1}", "Content-Length: 100") + b"first")
        await began.wait()
        writer.transport.abort()
        await ended.wait()
        await gateway.sessions.all_returned.wait()


async def test_a_client_that_leaves_before_the_agent_answers() -> None:
    began, ended = asyncio.Event(), asyncio.Event()

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        began.set()
        await reader.read()
        ended.set()

    async with raw_agent(handler) as address, running_gateway(address) as gateway:
        _, writer = await gateway.open()
        writer.write(head(gateway, "GET", f"{PREFIX}/i?{V1}"))
        await began.wait()
        writer.transport.abort()
        async with asyncio.timeout(3):
            await ended.wait()
            await gateway.sessions.all_returned.wait()


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


@pytest.mark.parametrize("status", [b"600 x", b"999 x", b"101 Switching Protocols"])
async def test_a_status_that_is_none_is_a_502(status: bytes) -> None:
    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 " + status + b"\r\nContent-Length: 0\r\n\r\n")
        await reader.read()

    async with raw_agent(handler) as address, running_gateway(address) as gateway:
        async with client_of(gateway) as client:
            assert (await client.post(f"{PREFIX}?{V1}")).status_code == 502


async def test_a_get_has_no_body_whatever_its_headers_say() -> None:
    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        seen = await reader.readuntil(b"\r\n\r\n")
        body = b"content-length" in seen.lower()
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n" + b"%5d" % body)
        await reader.read()

    async with raw_agent(handler) as address, running_gateway(address) as gateway:
        reader, writer = await gateway.open()
        writer.write(head(gateway, "GET", f"{PREFIX}/id?{V1}", "Content-Length: 3") + b"abc")
        answer = await reader.readuntil(b"    0")
        assert answer.startswith(b"HTTP/1.1 200 ")
        writer.close()


@pytest.mark.parametrize(("value", "status"), [("é".encode(), 200), (b"\xe9", 400)])
async def test_header_values_are_utf8_or_refused(value: bytes, status: int) -> None:
    seen: list[bytes] = []

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        seen.append(await reader.readuntil(b"\r\n\r\n"))
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
        await reader.read()

    async with raw_agent(handler) as address, running_gateway(address) as gateway:
        async with client_of(gateway) as client:
            url = f"{PREFIX}?{V1}"
            answer = await client.post(url, headers=[(b"x-client-tag", value)])
            assert answer.status_code == status
    assert all(value in text for text in seen)
    assert len(seen) == (status == 200)


async def test_a_refused_body_that_goes_on_for_ever_does_not_hold_its_connection() -> None:
    async with gateway_to(Starlette()) as gateway:
        reader, writer = await gateway.open()
        lines = [f"POST {PREFIX}?{V1} HTTP/1.1", "Host: x", "Content-Length: 1000"]
        writer.write("\r\n".join(lines).encode() + b"\r\n\r\nx")
        assert (await reader.readuntil(b"}}}")).startswith(b"HTTP/1.1 401 ")
        assert await reader.read() == b""
        writer.close()
