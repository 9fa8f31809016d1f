"""HTTP invocations that are refused, break, or are left in the middle."""

import asyncio
import logging
from collections.abc import AsyncIterator

import httpx2
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from tests.integration.gateway.http_agents import (
    PREFIX,
    V1,
    app_of,
    assert_enveloped,
    client_of,
    gateway_to,
    head,
    mirror,
)
from tests.support.gateway import NEW_PATH, OLD_PATH, raw_agent, running_gateway
from trunkline.protocol.errors import SessionNotReadyError
from trunkline.runtimes.interface import Address


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


@pytest.mark.parametrize("status", [b"600 x", b"999 x", b"101 Switching Protocols"])
async def test_a_status_that_is_none_is_a_502(status: bytes) -> None:
    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 " + status + b"\r\nContent-Length: 0\r\n\r\n")
        await reader.read()

    async with raw_agent(handler) as address, running_gateway(address) as gateway:
        async with client_of(gateway) as client:
            assert (await client.post(f"{PREFIX}?{V1}")).status_code == 502


async def test_a_refused_body_that_goes_on_for_ever_does_not_hold_its_connection() -> None:
    async with gateway_to(Starlette()) as gateway:
        reader, writer = await gateway.open()
        lines = [f"POST {PREFIX}?{V1} HTTP/1.1", "Host: x", "Content-Length: 1000"]
        writer.write("\r\n".join(lines).encode() + b"\r\n\r\nx")
        assert (await reader.readuntil(b"}}}")).startswith(b"HTTP/1.1 401 ")
        assert await reader.read() == b""
        writer.close()
