"""Upgrades that are refused: in plain HTTP, in one shape, and with nothing left behind."""

import asyncio
import contextlib
import datetime as dt
import json
import logging
from base64 import urlsafe_b64encode
from collections.abc import AsyncIterator
from typing import Any

import jwt
import pytest

from tests.integration.gateway.test_early_bytes import echo_raw
from tests.support.gateway import (
    NEW_PATH,
    OLD_PATH,
    Gateway,
    accept_upgrade,
    raw_agent,
    running_gateway,
)
from tests.unit.gateway.answers import Answer, assert_refused
from trunkline.auth.issuer import ALGORITHM, DEFAULT_AUDIENCE, ISSUER
from trunkline.gateway import reach
from trunkline.protocol.close import encode_close
from trunkline.protocol.errors import (
    SessionNotAccessibleError,
    SessionNotReadyError,
    UnavailableError,
)
from trunkline.runtimes.interface import Address, ExitStatus

NOBODY = Address(path="/nobody-listens-here.sock")
SAMPLE_KEY = "dGhlIHNhbXBsZSBub25jZQ=="


@pytest.fixture
async def gateway(caplog: pytest.LogCaptureFixture) -> AsyncIterator[Gateway]:
    """A gateway whose agent isn't there: what these tests ask for must not get that far."""
    async with running_gateway(NOBODY) as running:
        yield running
        await running.answers()
        assert not running.server.server_state.connections
        assert not running.sessions.held
    assert_log_is_calm(caplog)


def assert_log_is_calm(caplog: pytest.LogCaptureFixture) -> None:
    assert [r.getMessage() for r in caplog.records if r.levelno >= logging.ERROR] == []


def head(path: str = NEW_PATH, *, method: str = "GET", **changes: str | None) -> bytes:
    """An upgrade's head; a header changed to None is left out."""
    headers: dict[str, str | None] = {
        "Host": "x",
        "Connection": "Upgrade",
        "Upgrade": "websocket",
        "Sec-WebSocket-Version": "13",
        "Sec-WebSocket-Key": SAMPLE_KEY,
    }
    headers.update({name.replace("_", "-"): value for name, value in changes.items()})
    lines = [f"{name}: {value}" for name, value in headers.items() if value is not None]
    return "\r\n".join([f"{method} {path} HTTP/1.1", *lines]).encode() + b"\r\n\r\n"


async def ask(gateway: Gateway, request: bytes) -> bytes:
    """Send a request and return all that comes until the gateway closes the connection."""
    reader, writer = await gateway.open()
    writer.write(request)
    raw = await reader.read()
    writer.close()
    return raw


async def refused(gateway: Gateway, request: bytes, status: int, code: str, *words: str) -> Answer:
    answer = assert_refused(await ask(gateway, request), status, code, *words)
    assert answer.headers["x-request-id"]
    return answer


def bearer(gateway: Gateway) -> str:
    return f"Bearer {gateway.token()}"


def b64(data: Any) -> str:
    return urlsafe_b64encode(json.dumps(data).encode()).rstrip(b"=").decode()


def bad_authorization(gateway: Gateway, kind: str) -> str | None:
    issuer = gateway.issuer
    now = dt.datetime.now(dt.UTC)
    claims = {"iss": ISSUER, "sub": "tester", "aud": DEFAULT_AUDIENCE,
              "exp": int(now.timestamp()) + 900}  # fmt: skip
    kid = {"kid": issuer.public_jwk["kid"]}
    match kind:
        case "none":
            return None
        case "empty":
            return ""
        case "garbage":
            return "Bearer garbage"
        case "basic":
            return "Basic dGVzdGVyOnNlY3JldA=="
        case "expired":
            return f"Bearer {gateway.token(expires_in_s=-1)}"
        case "wrong audience":
            return f"Bearer {gateway.token(audience='https://else.example')}"
        case "not yet valid":
            late = {**claims, "nbf": int(now.timestamp()) + 600}
            return f"Bearer {jwt.encode(late, issuer._key, ALGORITHM, headers=kid)}"
        case "alg none":
            return f"Bearer {b64({'alg': 'none', **kid})}.{b64(claims)}."
        case "tampered":
            return f"Bearer {gateway.token()[:-8]}AAAAAAAA"
        case _:
            raise AssertionError(kind)


@pytest.mark.parametrize("path", [NEW_PATH, OLD_PATH], ids=["new", "preview"])
@pytest.mark.parametrize(
    "kind",
    ["none", "empty", "garbage", "basic", "expired", "wrong audience", "not yet valid", "alg none",
     "tampered"],
)  # fmt: skip
async def test_without_a_good_token_no_session_is_asked(
    gateway: Gateway, caplog: pytest.LogCaptureFixture, path: str, kind: str
) -> None:
    caplog.set_level(logging.DEBUG)
    authorization = bad_authorization(gateway, kind)
    answer = await refused(gateway, head(path, Authorization=authorization), 401, "unauthenticated")
    assert answer.headers["www-authenticate"].startswith("Bearer ")
    assert "x-agent-session-id" not in answer.headers
    assert gateway.sessions.asked == []
    if authorization and kind != "garbage":
        secret = authorization.split(" ")[1].split(".")[-1] or authorization.split(".")[1]
        assert secret not in caplog.text
        assert secret.encode() not in answer.body


async def test_a_token_in_the_query_is_no_token(gateway: Gateway) -> None:
    path = f"{NEW_PATH}&authorization=Bearer%20{gateway.token()}&access_token={gateway.token()}"
    await refused(gateway, head(path), 401, "unauthenticated")
    assert gateway.sessions.asked == []


async def test_a_token_nested_too_deeply_to_be_read(gateway: Gateway) -> None:
    deep = urlsafe_b64encode(b'{"iss":' + b"[" * 5500 + b"]" * 5500 + b"}").rstrip(b"=").decode()
    token = f"{b64({'alg': ALGORITHM})}.{deep}.AAAA"
    await refused(gateway, head(Authorization=f"Bearer {token}"), 401, "unauthenticated")


async def test_two_authorization_headers_are_not_one_good_token(gateway: Gateway) -> None:
    two = head(Authorization=bearer(gateway))[:-2] + b"Authorization: Bearer x\r\n\r\n"
    await refused(gateway, two, 400, "invalid_request", "one authorization header")


@pytest.mark.parametrize(
    ("path", "status", "code", "words"),
    [
        (NEW_PATH.replace("echo", "nope"), 404, "agent_not_found", ["nope"]),
        (NEW_PATH.replace("echo", "bad_name"), 404, "not_found", ["hyphens"]),
        (NEW_PATH.replace("default", "nope"), 404, "not_found", ["nope"]),
        (NEW_PATH.partition("?")[0], 404, "not_found", ["api-version"]),
        (NEW_PATH.replace("=v1", "=v9"), 404, "not_found", ["v9", "v1"]),
        (OLD_PATH.partition("&foundry")[0], 404, "preview_feature_required",
         ["foundry_features=HostedAgents=V1Preview", "Foundry-Features: HostedAgents=V1Preview"]),
        (OLD_PATH.replace("agent_name=echo&", ""), 404, "not_found", ["agent_name"]),
        (NEW_PATH + "&agent_session_id=a%20b", 400, "invalid_request", ["1 to 256 characters"]),
        (NEW_PATH + "&agent_session_id=" + "a" * 300, 400, "invalid_request", ["1 to 256"]),
        (NEW_PATH + "&agent_session_id=a&agent_session_id=b", 400, "invalid_request", ["two"]),
        (NEW_PATH + "&agent_session_id=a%0d%0aX-Evil:%201", 400, "invalid_request", []),
        ("/healthz", 404, "not_found", []),
        ("/", 404, "not_found", []),
        ("/%2e%2e/%00", 404, "not_found", []),
    ],
)  # fmt: skip
async def test_a_target_that_is_not_there(
    gateway: Gateway, path: str, status: int, code: str, words: list[str]
) -> None:
    answer = await refused(gateway, head(path, Authorization=bearer(gateway)), status, code, *words)
    assert "x-evil" not in answer.headers
    assert "retry-after" not in answer.headers


async def test_what_the_session_is_asked_for(gateway: Gateway) -> None:
    path = f"{NEW_PATH.replace('echo', 'nope')}&agent_session_id=s-1"
    answer = await refused(
        gateway, head(path, Authorization=bearer(gateway)), 404, "agent_not_found"
    )
    ((key, caller, protocol),) = gateway.sessions.asked
    assert (key.project, key.agent, key.session_id) == ("default", "nope", "s-1")
    assert (caller.identity.subject, protocol) == ("tester", "invocations_ws")
    assert answer.headers["x-agent-session-id"] == "s-1"


@pytest.mark.parametrize(
    ("error", "status", "retry_after"),
    [
        (SessionNotReadyError("it ended with exit code 1"), 424, None),
        (SessionNotAccessibleError("isn't yours"), 403, None),
        (UnavailableError("stopping"), 503, "1"),
    ],
)
async def test_a_session_that_cannot_be_had(
    gateway: Gateway, error: Any, status: int, retry_after: str | None
) -> None:
    gateway.sessions.error = error
    request = head(Authorization=bearer(gateway))
    answer = await refused(gateway, request, status, error.code, str(error))
    assert answer.headers.get("retry-after") == retry_after


async def test_a_session_that_breaks_is_a_500_that_says_nothing(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with running_gateway(NOBODY) as gateway:
        gateway.sessions.error = ZeroDivisionError("the secret cause")  # type: ignore[assignment]
        request = head(Authorization=bearer(gateway))
        answer = await refused(gateway, request, 500, "internal_error")
        assert b"secret" not in answer.body
        assert "the secret cause" in caplog.text


@pytest.mark.parametrize("given", ["my-id_1.2:3", "a" * 128])
async def test_the_callers_request_id_comes_back(gateway: Gateway, given: str) -> None:
    answer = await refused(gateway, head(x_request_id=given), 401, "unauthenticated")
    assert answer.headers["x-request-id"] == given


@pytest.mark.parametrize("given", ["a" * 129, "a b", "é", "<x>"])
async def test_a_request_id_unfit_for_the_log_is_replaced(gateway: Gateway, given: str) -> None:
    answer = await refused(gateway, head(x_request_id=given), 401, "unauthenticated")
    assert len(answer.headers["x-request-id"]) == 32


@pytest.mark.parametrize("method", ["POST", "PUT", "OPTIONS"])
async def test_an_upgrade_by_another_method(gateway: Gateway, method: str) -> None:
    request = head(method=method, Authorization=bearer(gateway))
    await refused(gateway, request, 400, "invalid_request", "GET")


@pytest.mark.parametrize("version", ["8", "14", "", "13, 8", None])
async def test_another_websocket_version(gateway: Gateway, version: str | None) -> None:
    request = head(Authorization=bearer(gateway), Sec_WebSocket_Version=version)
    answer = await refused(gateway, request, 426, "upgrade_required", "13")
    assert answer.headers["sec-websocket-version"] == "13"
    assert answer.headers["upgrade"] == "websocket"


@pytest.mark.parametrize("key", [None, "", "short", "dGhlIHNhbXBsZSBub25jZQ", SAMPLE_KEY + "x",
                                 f"{SAMPLE_KEY}, {SAMPLE_KEY}", "!" * 22 + "=="])  # fmt: skip
async def test_a_bad_key(gateway: Gateway, key: str | None) -> None:
    request = head(Authorization=bearer(gateway), Sec_WebSocket_Key=key)
    await refused(gateway, request, 400, "invalid_request", "16 bytes in base64")
    assert gateway.sessions.asked == []


@contextlib.asynccontextmanager
async def answering(raw: bytes, **settings: Any) -> AsyncIterator[Gateway]:
    """A gateway in front of an agent that answers every upgrade with these bytes."""

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(raw)
        await writer.drain()

    async with raw_agent(handler) as address, running_gateway(address, **settings) as gateway:
        yield gateway


@pytest.mark.parametrize(
    ("raw", "status", "words"),
    [
        (b"HTTP/1.1 500 Oh no\r\ncontent-length: 0\r\n\r\n", 502, "500"),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n", 502, "200"),
        (b"HTTP/1.1 302 Found\r\nlocation: /x\r\n\r\n", 502, "302"),
        (b"garbage\r\n\r\n", 502, "isn't HTTP"),
        (b"\x16\x03\x01\r\n\r\n", 502, "isn't HTTP"),
        (b"HTTP/1.1 \r\n\r\n", 502, "isn't HTTP"),
        (b"HTTP/1.1 abc\r\n\r\n", 502, "isn't HTTP"),
        (b"HTTP/1.1 101 half a head", 502, "closed the connection before"),
        (b"", 502, "closed the connection before"),
        (b"HTTP/1.1 101 X\r\n" + b"a: b\r\n" * 20_000, 502, "has no end"),
        (b"HTTP/1.1 404 Not Found\r\n\r\n", 404, "no WebSocket handler"),
        (b"HTTP/1.1 403 Forbidden\r\n\r\n", 404, "no WebSocket handler"),
    ],
)
async def test_an_agent_that_does_not_upgrade(
    caplog: pytest.LogCaptureFixture, raw: bytes, status: int, words: str
) -> None:
    async with answering(raw) as gateway:
        request = gateway.upgrade_head()
        code = "not_found" if status == 404 else "upstream_failed"
        answer = await refused(gateway, request, status, code, words)
        assert answer.headers["x-agent-session-id"]
        await gateway.sessions.all_returned.wait()
        await gateway.answers()
        assert not gateway.server.server_state.connections
        assert len(gateway.sessions.asked) == 1
    assert_log_is_calm(caplog)


async def test_an_agent_that_says_nothing_is_given_up(caplog: pytest.LogCaptureFixture) -> None:
    hung_up = asyncio.Event()

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        hung_up.set()

    async with raw_agent(handler) as address:
        async with running_gateway(address, connect_timeout_s=0.1) as gateway:
            await refused(
                gateway, gateway.upgrade_head(), 502, "upstream_failed", "connect_timeout_s", "0.1"
            )
            await hung_up.wait()
            await gateway.sessions.all_returned.wait()
    assert_log_is_calm(caplog)


async def test_nobody_listening_is_tried_once_more_when_the_process_is_known_to_have_ended(
    gateway: Gateway,
) -> None:
    asking = asyncio.create_task(ask(gateway, gateway.upgrade_head()))
    while not gateway.sessions.held:
        await gateway.answers()
    assert len(gateway.sessions.asked) == 1
    gateway.sessions.exited.set_result(ExitStatus(code=1))
    assert_refused(await asking, 502, "upstream_failed", "isn't listening")
    assert len(gateway.sessions.asked) == 2
    await gateway.sessions.all_returned.wait()


async def test_the_second_try_reaches_the_agent_that_was_started_again(
    gateway: Gateway,
) -> None:
    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await accept_upgrade(reader, writer)

    async with raw_agent(handler) as address:
        asking = asyncio.create_task(ask(gateway, gateway.upgrade_head()))
        while not gateway.sessions.held:
            await gateway.answers()
        gateway.sessions.address = address
        gateway.sessions.exited.set_result(ExitStatus(code=1))
        raw = await asking
    assert raw.startswith(b"HTTP/1.1 101 ")
    await gateway.sessions.closed.wait()


async def test_a_process_that_lives_and_does_not_listen_is_a_502(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reach, "_EXIT_NOTICE_S", 0.05)
    await refused(gateway, gateway.upgrade_head(), 502, "upstream_failed")


async def test_an_agents_port_nobody_listens_at(gateway: Gateway) -> None:
    server = await asyncio.start_server(lambda r, w: None, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    server.close()
    await server.wait_closed()
    gateway.sessions.address = Address(port=port)
    gateway.sessions.exited.set_result(ExitStatus(code=1))
    await refused(gateway, gateway.upgrade_head(), 502, "upstream_failed", "isn't listening")


@pytest.mark.parametrize("how", ["abort", "half-close"])
async def test_a_client_that_leaves_while_the_session_starts(gateway: Gateway, how: str) -> None:
    gateway.sessions.gate.clear()
    _, writer = await gateway.open()
    writer.write(gateway.upgrade_head())
    while not gateway.sessions.asked:
        await gateway.answers()
    if how == "abort":
        writer.transport.abort()
    else:
        writer.write_eof()
    while gateway.server.server_state.connections:
        await gateway.answers()
    gateway.sessions.gate.set()
    await gateway.answers()
    assert not gateway.sessions.held
    writer.close()


async def test_a_client_that_leaves_while_the_agent_is_asked() -> None:
    asked, hung_up = asyncio.Event(), asyncio.Event()

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        asked.set()
        await reader.read()
        hung_up.set()

    async with raw_agent(handler) as address, running_gateway(address) as gateway:
        _, writer = await gateway.open()
        writer.write(gateway.upgrade_head())
        await asked.wait()
        writer.transport.abort()
        await hung_up.wait()
        await gateway.sessions.all_returned.wait()
        await gateway.answers()
        assert not gateway.server.server_state.connections


async def test_a_drain_while_a_start_is_pending(caplog: pytest.LogCaptureFixture) -> None:
    async with running_gateway(NOBODY) as gateway:
        gateway.sessions.gate.clear()
        asking = asyncio.create_task(ask(gateway, gateway.upgrade_head()))
        while not gateway.sessions.asked:
            await gateway.answers()
        gateway.server.stop()
        answer = assert_refused(await asking, 503, "unavailable", "restarting")
        assert answer.headers["retry-after"] == "1"
        assert answer.headers["x-request-id"]
        await gateway.serving
        assert not gateway.sessions.held
        assert not gateway.server.server_state.connections
    assert_log_is_calm(caplog)


async def test_refusals_are_counted_by_status(gateway: Gateway) -> None:
    await refused(gateway, head(), 401, "unauthenticated")
    await refused(gateway, head("/"), 404, "not_found")
    counted = gateway.metrics.render().decode()
    assert 'trunkline_upgrades_total{status="401"} 1.0' in counted
    assert 'trunkline_upgrades_total{status="404"} 1.0' in counted


async def test_the_close_of_a_relay_is_untouched_by_a_refusal_next_to_it() -> None:
    async with raw_agent(echo_raw) as address, running_gateway(address) as gateway:
        reader, writer = await gateway.open()
        writer.write(gateway.upgrade_head())
        await reader.readuntil(b"\r\n\r\n")
        await refused(gateway, head(), 401, "unauthenticated")
        writer.write(encode_close(1000, mask=b"\0\0\0\0"))
        assert (await reader.readexactly(2))[0] == 0x88
        writer.close()
        await gateway.sessions.closed.wait()
