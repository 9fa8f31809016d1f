"""Ids that mean to be more than ids: in paths, queries, headers and bodies."""

import asyncio
import json
import re
from typing import Any
from urllib.parse import quote

import httpx2
import pytest

from tests.support.platform import Platform
from trunkline.protocol.ids import is_agent_name, is_session_id

#: As an attacker wants them to arrive: lines and headers of their own, terminals steered, other
#: places reached, letters that look like others or fold to them.
EVIL = [
    "a\r\nx-injected: yes", "a\nx-injected: yes", "a\rx-injected: yes", "\r\n\r\nHTTP/1.1 200 OK",
    "a\0b", "a\tb", "a b", "\x1b[2Jevil", "a\u2028x-injected: yes", "a\x85x-injected: yes", "évil",
    "\N{FULLWIDTH SOLIDUS}evil", "\N{CYRILLIC SMALL LETTER A}b", "a\u0301b", "\u202eevil",
    "\U0001f608",
    "%0d%0ax-injected:%20yes", "%00", "../evil", "..%2fevil", "a/b", "a\\b", "a;b=c", "a,b", "*",
    "'; DROP TABLE audit; --", "a" * 300, "\ufeffa",
]  # fmt: skip
HEADER_LINE = re.compile(rb"[a-z0-9-]+: ?[\x20-\x7e]*", re.IGNORECASE)
REQUEST_ID = re.compile(r"[A-Za-z0-9._:-]{1,128}")

PATHS = [
    "GET /agents/{}",
    "DELETE /agents/{}",
    "GET /agents/{}/versions",
    "POST /agents/{}/versions",
    "GET /agents/probe/versions/{}",
    "GET /agents/probe/endpoint/sessions/{}",
    "POST /agents/probe/endpoint/sessions/{}:stop",
    "DELETE /agents/probe/endpoint/sessions/{}",
    "GET /agents/probe/endpoint/sessions/{}/files",
    "GET /agents/probe/sessions/{}:logstream",
    "POST /agents/probe/endpoint/protocols/invocations?agent_session_id={}",
    "GET /agents/probe/endpoint/protocols/openai/responses/{}",
    "GET /agents/probe/endpoint/protocols/openai/conversations/{}",
    "POST /agents/{}/endpoint/tickets",
    "DELETE /api-keys/{}",
    "DELETE /secrets/{}",
    "GET /audit?after={}&limit=1",
]


@pytest.fixture(scope="module")
def admin(platform: Platform) -> str:
    return platform.token("--user", "ada", "--role", "admin", "--role", "impersonator")


async def exchange(platform: Platform, request: bytes) -> tuple[int, dict[str, str], bytes]:
    """Send bytes, and return status, headers and body of the one answer that has to come."""
    host, port = platform.url.removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(request)
    answer = await asyncio.wait_for(reader.read(), 60)
    writer.close()
    head, _, body = answer.partition(b"\r\n\r\n")
    first, *lines = head.split(b"\r\n")
    assert re.fullmatch(rb"HTTP/1\.1 [1-5][0-9][0-9] [ -~]*", first), answer
    for line in lines:
        assert HEADER_LINE.fullmatch(line), answer
    headers = {
        name.decode().lower(): value.strip().decode()
        for name, _, value in (line.partition(b":") for line in lines)
    }
    assert "x-injected" not in headers, answer
    # Whatever was sent, it was one request, and has one answer.
    assert len(body) == int(headers.get("content-length", len(body)))
    return int(first.split()[1]), headers, body


def head(method: str, target: str, token: str | None, *more: bytes) -> bytes:
    query = "&" if "?" in target else "?"
    lines = [f"{method} {target}{query}api-version=v1 HTTP/1.1".encode(), b"Host: x"]
    lines += [b"Connection: close"] if not any(m.startswith(b"Upgrade") for m in more) else []
    if token is not None:
        lines.append(f"Authorization: Bearer {token}".encode())
    if method in ("POST", "PUT") and not any(m.startswith(b"Content-Length") for m in more):
        lines.append(b"Content-Length: 0")
    return b"\r\n".join([*lines, *more]) + b"\r\n\r\n"


@pytest.mark.parametrize("path", PATHS)
async def test_an_id_in_a_path_stays_in_its_place(
    platform: Platform, probe: str, admin: str, path: str
) -> None:
    method, _, pattern = path.partition(" ")
    for evil in EVIL:
        target = "/api/projects/default" + pattern.format(quote(evil, safe=""))
        for token, statuses in ((admin, {200, 400, 403, 404, 405}), (None, {401, 404, 405})):
            status, headers, body = await exchange(platform, head(method, target, token))
            assert status in statuses, (evil, status, body)
            assert status != 200 or "/audit?" in path, evil
            assert REQUEST_ID.fullmatch(headers["x-request-id"])
            assert "agent-session-id" not in " ".join(headers), (evil, headers)
            if status != 200:
                assert json.loads(body)["error"]["code"], evil


WEBSOCKET = (
    b"Connection: Upgrade", b"Upgrade: websocket", b"Sec-WebSocket-Version: 13",
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
)  # fmt: skip


@pytest.mark.parametrize(
    "target",
    [
        "/api/projects/default/agents/probe/endpoint/protocols/invocations_ws?agent_session_id={}",
        "/api/projects/default/agents/{}/endpoint/protocols/invocations_ws",
        "/api/projects/{}/agents/probe/endpoint/protocols/invocations_ws",
        "/api/projects/default/agents/probe/endpoint/protocols/invocations_ws?ticket={}",
        "/api/projects/agents/endpoint/protocols/invocations_ws?project_name=default"
        "&agent_name={}&foundry_features=HostedAgents=V1Preview",
    ],
)
async def test_an_id_of_an_upgrade_lets_nothing_through(
    platform: Platform, probe: str, token: str, target: str
) -> None:
    for evil in EVIL:
        given = None if "ticket=" in target else token
        sent = head("GET", target.format(quote(evil, safe="")), given, *WEBSOCKET)
        status, headers, _ = await exchange(platform, sent)
        assert status in (400, 401, 403, 404), evil
        assert REQUEST_ID.fullmatch(headers["x-request-id"])


async def test_what_no_request_may_be_is_refused_by_its_bytes(
    platform: Platform, probe: str, token: str
) -> None:
    path = "/api/projects/default/agents/probe/endpoint/sessions/"
    for raw in (b"a\rb", b"a\nb", b"a\0b", b"a b", b"a\r\nx-injected: yes"):
        sent = head("GET", f"{path}RAW", token).replace(b"RAW", raw)
        status, _, _ = await exchange(platform, sent)
        assert status in (400, 403), raw


HEADERS = [
    "x-agent-user-id", "x-agent-foundry-call-id", "traceparent", "tracestate", "x-request-id",
    "x-agent-session-id", "x-trunkline-hops", "x-forwarded-for",
]  # fmt: skip


@pytest.mark.parametrize("name", HEADERS)
async def test_an_id_in_a_header_is_made_anew_or_passed_on_as_it_is(
    platform: Platform, probe: str, token: str, name: str
) -> None:
    target = f"/api/projects/default/agents/{probe}/endpoint/protocols/invocations"
    target += "?agent_session_id=headers"
    for evil in EVIL:
        if set(evil) & set("\r\n\0"):
            # No header holds these: what stands behind them would be another, which the tests
            # of request smuggling are about.
            continue
        sent = head("POST", target, token, f"{name}: {evil}".encode(), b"Content-Length: 0")
        status, headers, body = await exchange(platform, sent)
        if status == 400:
            continue
        assert status == 200, (evil, body)
        assert REQUEST_ID.fullmatch(headers["x-request-id"])
        seen = json.loads(body)["headers"]
        assert re.fullmatch(r"[0-9a-f]{32}", seen["x-agent-user-id"]), evil
        assert re.fullmatch(r"[0-9a-f]{32}", seen["x-agent-foundry-call-id"]), evil
        assert re.fullmatch(r"00-[0-9a-f]{32}-[0-9a-f]{16}-01", seen["traceparent"]), evil
        assert REQUEST_ID.fullmatch(seen["x-request-id"])
        assert not {"x-injected", "x-trunkline-hops", "x-forwarded-for", "authorization"} & set(
            seen
        )


async def test_a_user_is_named_in_letters_that_mean_nothing_else(
    platform: Platform, probe: str, admin: str
) -> None:
    target = f"/api/projects/default/agents/{probe}/endpoint/protocols/invocations"
    for name in ("x-ms-user-identity", "x-ms-user-isolation-key", "x-session-isolation-key"):
        for evil in EVIL:
            if set(evil) & set("\r\n\0"):
                continue
            sent = head("POST", target, admin, f"{name}: {evil}".encode(), b"Content-Length: 0")
            status, _, _ = await exchange(platform, sent)
            # Sent as it is, `..%2fevil` and others hold what no user's name may.
            assert status in (400, 403), (name, evil)


def test_an_id_in_a_body_is_an_id_or_refused(platform: Platform, probe: str, token: str) -> None:
    endpoint = f"agents/{probe}/endpoint"
    bodies: list[tuple[str, str, Any]] = [
        ("POST", f"{endpoint}/sessions", lambda evil: {"agent_session_id": evil}),
        ("POST", f"{endpoint}/tickets", lambda evil: {"agent_session_id": evil}),
        ("POST", f"{endpoint}/tickets", lambda evil: {"origin": f"https://{evil[:9]}/"}),
        ("POST", f"{endpoint}/protocols/openai/responses", lambda evil: {"conversation": evil}),
        ("POST", f"{endpoint}/protocols/openai/responses", lambda evil: {"session_id": evil}),
        ("POST", "agents", lambda evil: {"name": evil, "definition": {}}),
    ]
    with httpx2.Client(
        base_url=f"{platform.endpoint}/", params={"api-version": "v1"}, trust_env=False,
        headers={"Authorization": f"Bearer {token}"}, timeout=30,
    ) as http:  # fmt: skip
        for method, path, body in bodies:
            for evil in EVIL:
                answer = http.request(method, path, json=body(evil))
                assert answer.status_code == 400, (path, evil, answer.text)
                assert "x-injected" not in answer.headers


async def test_neither_the_log_nor_the_audit_log_says_what_was_made_up(
    platform: Platform, probe: str, admin: str
) -> None:
    # Whoever has no token may send any text as well, and it is recorded that somebody did.
    last = ""
    for evil in EVIL:
        target = f"/api/projects/default/agents/{quote(evil, safe='')}/versions"
        status, headers, _ = await exchange(platform, head("GET", target, None))
        assert status in (401, 404)
        last = headers["x-request-id"] if status == 401 else last
    log = platform.log()
    assert not [line for line in log.splitlines() if line.startswith(("x-injected", "HTTP/1.1"))]
    assert not set(log) & {"\0", "\x1b", "\r", "\u2028", "\u202e", "\x85"}
    assert "injected" not in log
    with httpx2.Client(
        base_url=f"{platform.endpoint}/", params={"api-version": "v1", "limit": "100"},
        headers={"Authorization": f"Bearer {admin}"}, trust_env=False,
    ) as http:  # fmt: skip
        for _ in range(100):
            entries = http.get("audit").json()["data"]
            if any(entry["request_id"] == last for entry in entries):
                break
            await asyncio.sleep(0.1)
        else:
            raise AssertionError("a refusal isn't in the audit log")
        after: str | None = None
        count = 0
        while True:
            page = http.get("audit", params={"after": after} if after else {}).json()
            for entry in page["data"]:
                count += 1
                assert entry["agent"] is None or is_agent_name(entry["agent"])
                session = entry["agent_session_id"]
                assert session is None or is_session_id(session)
            if not page["has_more"]:
                break
            after = page["last_id"]
        assert count > len(EVIL)
