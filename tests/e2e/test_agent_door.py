"""What an agent in its sandbox reaches of the platform, tried from inside."""

import asyncio
import json
import shutil
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest

from tests.e2e.conftest import AGENTS
from tests.support.certificates import trusting, write_certificate
from tests.support.platform import Platform, until_ended
from tests.support.routes import platform_routes, resource_routes

OPENAI = "/agents/inside/endpoint/protocols/openai"
P = "/api/projects/default"
QUERY = "?api-version=v1"


@pytest.fixture(scope="module")
def settings() -> dict[str, str]:
    return {"TRUNKLINE_GATEWAY_HEAD_TIMEOUT_S": "3"}


@pytest.fixture(scope="module")
def inside(platform: Platform) -> str:
    name, _, _ = platform.deploy(AGENTS / "inside")
    return name


@pytest.fixture
async def http(platform: Platform, token: str) -> AsyncIterator[httpx2.AsyncClient]:
    async with client(platform, token) as http:
        yield http


def client(platform: Platform, token: str, **options: Any) -> httpx2.AsyncClient:
    return httpx2.AsyncClient(
        base_url=platform.endpoint,
        headers={"authorization": f"Bearer {token}"},
        params={"api-version": "v1"},
        timeout=60,
        trust_env=False,
        **options,
    )


async def respond(http: httpx2.AsyncClient, session: str, **wanted: Any) -> dict[str, Any]:
    """Have the agent do something while it answers."""
    answer = await http.post(
        f"{OPENAI}/responses", json={"agent_session_id": session, "input": json.dumps(wanted)}
    )
    assert answer.status_code == 200, answer.text
    said: dict[str, Any] = json.loads(answer.json()["output"][0]["content"][0]["text"])
    return said


def head(target: str, *lines: str, method: str = "GET", call_id: str | None = "CALL") -> str:
    fields = ["Host: platform", "Connection: close", *lines]
    if call_id is not None:
        fields.append(f"x-agent-foundry-call-id: {call_id}")
    return "\r\n".join([f"{method} {target} HTTP/1.1", *fields, "", ""])


async def ask(http: httpx2.AsyncClient, *requests: str, session: str = "s") -> list[Any]:
    """Return what the agent got for each request."""
    said = await respond(http, session, send=[[request] for request in requests])
    return [outcome(answer) for answer in said["answers"]]


def outcome(answer: str) -> Any:
    first, _, body = answer.partition("\r\n\r\n")
    status = int(first.split()[1])
    return status, json.loads(body) if body else None


async def conversation(http: httpx2.AsyncClient, *texts: str, agent: str = "inside") -> str:
    items = [{"type": "message", "role": "user", "content": text} for text in texts]
    where = f"/agents/{agent}/endpoint/protocols/openai/conversations"
    made = await http.post(where, json={"items": items, "metadata": {"topic": "doors"}})
    assert made.status_code == 200, made.text
    return str(made.json()["id"])


async def test_it_reads_its_conversation_where_it_is_told_to(
    platform: Platform, inside: str, http: httpx2.AsyncClient
) -> None:
    mine = await conversation(http, "one", "two")
    shown = (await http.get(f"{OPENAI}/conversations/{mine}")).json()
    items = (await http.get(f"{OPENAI}/conversations/{mine}/items")).json()
    paths = [f"/{mine}", f"/{mine}/items", f"/{mine}/items/{items['first_id']}"]
    for project in ("default", "_project"):
        for spelling in ("conversations", "v1/conversations"):
            base = f"/api/projects/{project}{OPENAI}/{spelling}"
            got = await ask(http, *(head(f"{base}{path}{QUERY}") for path in paths))
            assert got == [(200, shown), (200, items), (200, items["data"][0])]
    said = await respond(http, "s")
    assert said["endpoint"] == platform.endpoint


async def test_it_reaches_nothing_else(
    platform: Platform, inside: str, probe: str, http: httpx2.AsyncClient, token: str
) -> None:
    mine = await conversation(http, "one")
    other = await conversation(http, "one", agent=probe)
    own = f"{P}{OPENAI}"
    # All that the platform serves, with what it is about filled in, but for the three.
    reading = {"get_conversation", "list_items", "get_item"}
    targets = set()
    for route in (*platform_routes(), *resource_routes()):
        if getattr(route.endpoint, "__name__", "") in reading and "GET" in route.methods:
            continue
        path = route.path
        for name, value in (
            ("project", "default"), ("agent", "inside"), ("session", "s"), ("conversation", mine),
            ("version", "1"), ("response", "resp_1"), ("item", "msg_1"),
        ):  # fmt: skip
            path = path.replace(f"{{{name}}}", value)
        targets |= {(method, path) for method in route.methods if method != "HEAD"}
    assert len(targets) > 60
    targets |= {
        ("GET", f"{P}/agents/{probe}/endpoint/protocols/openai/conversations/{other}"),
        ("GET", f"/api/projects/elsewhere{OPENAI}/conversations/{mine}"),
        ("GET", f"{own}/conversations/{mine}/items/"),
        ("GET", f"{own}/conversations"),
        ("GET", "/"),
        ("GET", f"{own}/conversations/../../../../../../../../metrics"),
        ("GET", f"{own}/conversations/..%2f..%2f..%2f..%2f..%2f..%2f..%2f..%2fmetrics"),
        ("GET", f"{own}/conversations/%2e%2e/%2e%2e/%2e%2e/metrics"),
        ("GET", f"http://platform{P}/agents"),
        ("GET", "http://platform/metrics"),
        ("OPTIONS", "*"),
        ("TRACE", f"{own}/conversations/{mine}"),
        ("CONNECT", "127.0.0.1:22"),
    }
    wanted = sorted(targets)
    got = await ask(http, *(head(target + QUERY, method=method) for method, target in wanted[:30]))
    for start in range(30, len(wanted), 30):
        part = wanted[start : start + 30]
        got += await ask(http, *(head(target + QUERY, method=method) for method, target in part))
    through = {}
    for (method, target), (status, body) in zip(wanted, got, strict=True):
        # 404 is for what only a conversation of one's own could be; 400 for what is no request.
        assert set(body) == {"error"}, (method, target, status, body)
        if status not in (400, 403, 404, 405):
            through[method, target] = status
        elif status in (403, 405) and "inside" not in body["error"]["message"]:
            assert "an agent reaches nothing of the platform but GET" in body["error"]["message"]
    assert through == {}
    statuses = [status for status, _ in got]
    assert statuses.count(403) + statuses.count(405) > 60
    # It was there all the time.
    assert (await http.get(f"{OPENAI}/conversations/{mine}")).status_code == 200
    system = platform.events("inside", "s")
    assert "PlatformRefused" in system
    assert system.count("PlatformRefused") == 20
    assert "no more such lines are written" in system


async def test_a_call_id_opens_it_and_nothing_else_does(
    platform: Platform, inside: str, http: httpx2.AsyncClient
) -> None:
    mine = await conversation(http, "one")
    target = f"{P}{OPENAI}/conversations/{mine}{QUERY}"
    admin = platform.token("--role", "admin")
    over = (await respond(http, "earlier"))["call_id"]
    waiting = asyncio.create_task(respond(http, "other", hold=True))
    under_way = await call_id_of(http, "other")
    tries = [
        head(target),
        head(target, call_id=None),
        head(target, call_id="CALLx"),
        head(target, call_id=over),
        head(target, call_id=under_way),
        head(target, f"x-agent-foundry-call-id: {under_way}"),
        head(target, f"Authorization: Bearer {admin}"),
        head(target, f"Authorization: Bearer {admin}", call_id=None),
        head(f"{P}/agents{QUERY}", f"Authorization: Bearer {admin}", call_id=None),
    ]
    got = await ask(http, *tries)
    assert [status for status, _ in got] == [200, 401, 401, 401, 401, 401, 403, 403, 403]
    assert "is being answered in this session" in got[1][1]["error"]["message"]
    assert "takes no token" in got[6][1]["error"]["message"]
    await release(http, "other")
    await waiting
    # The token is good out here.
    answer = await http.get("/agents", headers={"authorization": f"Bearer {admin}"})
    assert answer.status_code == 200


async def test_whose_conversation_it_is_still_counts(
    platform: Platform, inside: str, http: httpx2.AsyncClient
) -> None:
    async with client(platform, platform.token("--user", "somebody-else")) as others:
        theirs = await conversation(others, "secret")
    got = await ask(http, head(f"{P}{OPENAI}/conversations/{theirs}/items{QUERY}"))
    assert got == [(404, got[0][1])]
    assert got[0][1]["error"]["code"] == "conversation_not_found"


async def call_id_of(http: httpx2.AsyncClient, session: str) -> str:
    async with asyncio.timeout(60):
        while True:
            path = f"/agents/inside/endpoint/sessions/{session}/files/content"
            answer = await http.get(path, params={"path": "call"})
            if answer.status_code == 200:
                return answer.text
            await asyncio.sleep(0.05)


async def release(http: httpx2.AsyncClient, session: str) -> None:
    path = f"/agents/inside/endpoint/sessions/{session}/files/content"
    assert (await http.put(path, params={"path": "go"}, content=b"")).status_code == 201


async def test_one_parser_decides_what_a_request_is(inside: str, http: httpx2.AsyncClient) -> None:
    mine = await conversation(http, "one")
    target = f"{P}{OPENAI}/conversations/{mine}{QUERY}"
    hidden = head("/metrics", call_id=None)
    alive = head(target).replace("Connection: close\r\n", "")
    two_lengths = head(target, "Content-Length: 0", f"Content-Length: {len(hidden)}") + hidden
    both = head(target, "Content-Length: 5", "Transfer-Encoding: chunked") + "0\r\n\r\n" + hidden
    spaced = head(target, "Transfer-Encoding : chunked") + "0\r\n\r\n" + hidden
    folded = head(target, "X: a\r\n b") + hidden
    bare = head(target, "X: a\nContent-Length: 4")
    no_host = f"GET {target} HTTP/1.1\r\nx-agent-foundry-call-id: CALL\r\n\r\n"
    two_hosts = head(target, "Host: other")
    old = f"GET {target} HTTP/0.9\r\n\r\n"
    in_a_body = (
        head(target, f"Content-Length: {len(hidden)}").replace("Connection: close\r\n", "") + hidden
    )
    sent = [[two_lengths], [both], [spaced], [folded], [bare], [no_host], [two_hosts], [old],
            ["\x16\x03\x01\x02\x00\x01\x00"], [in_a_body],
            [alive + hidden], [alive + head(target)]]  # fmt: skip
    said = await respond(http, "smuggle", send=sent)
    *refused, body, pipelined, twice = said["answers"]
    for answer in refused:
        assert answer.startswith("HTTP/1.1 400 "), answer
        assert answer.count("HTTP/1.1 ") == 1
        assert "trunkline_" not in answer
    # What looks like a request in a body is one to nobody.
    assert body.startswith("HTTP/1.1 200 ")
    assert body.count("HTTP/1.1 ") == 1
    assert pipelined.count("HTTP/1.1 ") == 2
    assert pipelined.startswith("HTTP/1.1 200 ")
    assert pipelined.count("HTTP/1.1 403 ") == 1
    assert twice.count("HTTP/1.1 200 ") == 2


async def test_it_is_bounded(inside: str, http: httpx2.AsyncClient) -> None:
    mine = await conversation(http, "one")
    target = f"{P}{OPENAI}/conversations/{mine}{QUERY}"
    long, many = "x" * 40_000, [f"x-{number}: 1" for number in range(200)]
    got = await ask(
        http, head(target, f"x: {long}"), head(target, *many), head(target + "&" + long)
    )
    assert [status for status, _ in got] == [431, 431, 431]
    # Of connections that only begin, a few are told that they are too many, even more are
    # dropped, and those that may stay are told that they are too slow.
    said = await respond(http, "many", send=[["GET /"]] * 45)
    heads = [answer.partition("\r\n")[0].removeprefix("HTTP/1.1 ") for answer in said["answers"]]
    assert heads.count("408 Request Timeout") == 32
    assert heads.count("429 Too Many Requests") >= 8
    assert set(heads) <= {
        "408 Request Timeout",
        "429 Too Many Requests",
        "",
        "ConnectionResetError",
    }
    # And there is room again, also for other clients of the platform.
    assert (await ask(http, head(target), session="many"))[0][0] == 200


async def test_a_websocket_is_not_among_what_it_reaches(
    inside: str, probe: str, http: httpx2.AsyncClient
) -> None:
    upgrade = head(
        f"{P}/agents/{probe}/endpoint/protocols/invocations_ws{QUERY}",
        "Upgrade: websocket", "Connection: upgrade", "Sec-WebSocket-Version: 13",
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
    ).replace("Connection: close\r\n", "")  # fmt: skip
    ((status, body),) = await ask(http, upgrade)
    assert status == 403
    assert "an agent reaches nothing of the platform but GET" in body["error"]["message"]


async def test_it_goes_on_across_a_reload(
    platform: Platform, inside: str, http: httpx2.AsyncClient
) -> None:
    mine = await conversation(http, "one")
    request = head(f"{P}{OPENAI}/conversations/{mine}{QUERY}")
    waiting = asyncio.create_task(respond(http, "across", hold=True, send=[[request]] * 8))
    await call_id_of(http, "across")
    done = await asyncio.to_thread(platform.run, "gateway", "reload")
    assert done.code == 0, done.stderr
    # What answers the caller is the old process, and what the agent asks is the new one.
    await release(http, "across")
    said = await waiting
    assert [outcome(answer)[0] for answer in said["answers"]] == [200] * 8
    # So it does for calls that begin afterwards.
    assert (await ask(http, request, session="across"))[0][0] == 200


async def test_a_call_that_began_before_two_reloads_still_opens_it(
    platform: Platform, inside: str, http: httpx2.AsyncClient
) -> None:
    mine = await conversation(http, "one")
    request = head(f"{P}{OPENAI}/conversations/{mine}{QUERY}")
    waiting = asyncio.create_task(respond(http, "twice", hold=True, send=[[request]] * 4))
    await call_id_of(http, "twice")
    first = platform.serving_pid
    for _ in range(2):
        done = await asyncio.to_thread(platform.run, "gateway", "reload")
        assert done.code == 0, done.stderr
    await release(http, "twice")
    said = await waiting
    assert [outcome(answer)[0] for answer in said["answers"]] == [200] * 4
    await until_ended(first)


async def test_reading_goes_on_while_the_platform_is_replaced(
    platform: Platform, inside: str, http: httpx2.AsyncClient
) -> None:
    mine = await conversation(http, "one")
    request = head(f"{P}{OPENAI}/conversations/{mine}{QUERY}")
    replacing = asyncio.create_task(asyncio.to_thread(platform.run, "gateway", "reload"))
    statuses = []
    while not replacing.done():
        got = await ask(http, *[request] * 4, session="meanwhile")
        statuses += [status for status, _ in got]
    assert (await replacing).code == 0
    assert set(statuses) == {200}
    assert len(statuses) >= 8


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="trunkline-test-"))
    yield folder
    shutil.rmtree(folder)


async def test_without_a_network_it_is_there_too(folder: Path) -> None:
    platform = Platform(
        folder / "none",
        TRUNKLINE_PROCESS_NETWORK="none",
        TRUNKLINE_RATES_FAILURES_PER_ADDRESS="5",
    ).start()
    try:
        await asyncio.to_thread(platform.deploy, AGENTS / "inside")
        async with client(platform, platform.token()) as http:
            await read_and_be_refused(http)
            await keep_trying(platform, http)
    finally:
        platform.stop()


async def test_with_tls_it_is_the_same_to_the_agent(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    certificate, key = write_certificate(folder, "platform")
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    platform = Platform(
        folder / "tls",
        TRUNKLINE_GATEWAY_TLS_CERTIFICATE=str(certificate),
        TRUNKLINE_GATEWAY_TLS_KEY=str(key),
    ).start()
    try:
        assert platform.url.startswith("https://")
        await asyncio.to_thread(platform.deploy, AGENTS / "inside")
        async with client(platform, platform.token(), verify=trusting(certificate)) as http:
            said = await read_and_be_refused(http)
        # The certificate isn't for an address that is another one for everybody.
        assert said["endpoint"] == f"{platform.url.replace('https', 'http')}{P}"
    finally:
        platform.stop()


async def keep_trying(platform: Platform, http: httpx2.AsyncClient) -> None:
    """Agents are of this machine's address to themselves, and clients of it are others."""
    mine = await conversation(http, "one")
    target = f"{P}{OPENAI}/conversations/{mine}{QUERY}"
    waiting = asyncio.create_task(respond(http, "held", hold=True, send=[[head(target)]]))
    held = await call_id_of(http, "held")
    # What an agent does in vain keeps nobody out.
    for _ in range(2):
        got = await ask(http, *[head(target, call_id="wrong")] * 30)
        assert {status for status, _ in got} == {401}
    assert (await http.get(f"{OPENAI}/conversations/{mine}")).status_code == 200
    # And what clients do in vain doesn't keep agents out.
    calls = platform.state_dir.glob("sessions/*/home/call")
    (home,) = [path.parent for path in calls if path.read_text() == held]
    status = 401
    while status == 401:
        status = (await http.get("/agents", headers={"authorization": "Bearer no"})).status_code
    assert status == 429
    (home / "go").touch()
    assert outcome((await waiting)["answers"][0])[0] == 200


async def read_and_be_refused(http: httpx2.AsyncClient) -> dict[str, Any]:
    mine = await conversation(http, "one")
    request = head(f"{P}{OPENAI}/conversations/{mine}{QUERY}")
    said = await respond(http, "s", send=[[request], [head("/metrics")]])
    assert [outcome(answer)[0] for answer in said["answers"]] == [200, 403]
    return said
