"""Paths, headers and statuses of HTTP invocations: what crosses the gateway, and what does not."""

import asyncio
import json
import logging

import pytest
from starlette.requests import Request
from starlette.responses import Response

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
from trunkline.protocol.ids import AgentName, ProjectName, SessionId, SessionKey


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


async def test_who_names_no_session_is_told_which_one_that_was_ready_it_got() -> None:
    async def endpoint(_: Request) -> Response:
        return Response()

    ready = SessionKey(ProjectName("default"), AgentName("echo"), SessionId("kept-ready"))
    async with gateway_to(app_of(endpoint)) as gateway, client_of(gateway) as client:
        gateway.sessions.ready = ready
        named = await client.post(f"{PREFIX}?{V1}&agent_session_id=s")
        assert named.headers["x-agent-session-id"] == "s"
        unnamed = await client.post(f"{PREFIX}?{V1}")
        assert unnamed.headers["x-agent-session-id"] == "kept-ready"


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
