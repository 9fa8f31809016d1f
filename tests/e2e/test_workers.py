"""Several processes relay, and the platform is one all the same."""

import asyncio
import contextlib
import json
import os
import re
import shutil
import signal
import ssl
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from tests.e2e.conftest import AGENTS
from tests.support.certificates import trusting, write_certificate
from tests.support.counting import conversations
from tests.support.platform import Platform, ask, until_ended
from trunkline.auth.issuer import ISSUER

MOST = 12
INVOCATIONS = "/agents/counter/endpoint/protocols/invocations"


@pytest.fixture(scope="module")
def settings() -> dict[str, str]:
    return {
        "TRUNKLINE_GATEWAY_WORKERS": "2",
        "TRUNKLINE_GATEWAY_MAX_CONNECTIONS_PER_SESSION": str(MOST),
        "TRUNKLINE_GATEWAY_CREDENTIAL_CHECK_S": "0.1",
        "TRUNKLINE_GATEWAY_DRAIN_QUIET_S": "1.5",
    }


async def metric(platform: Platform, name: str) -> float:
    async with httpx2.AsyncClient(trust_env=False) as client:
        text = (await client.get(f"{platform.url}/metrics")).text
    found = re.search(rf"^{re.escape(name)} (.*)$", text, re.MULTILINE)
    return float(found[1]) if found else 0.0


async def until_metric(platform: Platform, name: str, value: float) -> None:
    """Wait until a metric has a value: a connection has ended when its agent has ended it, too."""
    deadline = time.monotonic() + 20
    while (found := await metric(platform, name)) != value:
        assert time.monotonic() < deadline, f"{name} is {found}"


def sockets_of(pid: int) -> set[str]:
    """Return the sockets that a process has open, as the system names them."""
    found = set()
    for file in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(OSError):
            found.add(os.readlink(file))
    return found


def far_end_of(websocket: ClientConnection) -> str:
    """Return the socket at the other end of a connection, as the system names it."""
    # Both ports: others on this machine may have the same one as their own far end's.
    local, remote = (
        f":{address[1]:04X}" for address in (websocket.remote_address, websocket.local_address)
    )
    rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()]
    (number,) = (r[9] for r in rows if r[1].endswith(local) and r[2].endswith(remote))
    return f"socket:[{number}]"


async def spread(
    stack: contextlib.AsyncExitStack, platform: Platform, agent: str, session: str, token: str
) -> dict[int, list[ClientConnection]]:
    """Open connections to a session until both workers have some; return whose they are."""
    workers = platform.workers
    owned: dict[int, list[ClientConnection]] = {pid: [] for pid in workers}
    while not all(owned.values()):
        websocket = await stack.enter_async_context(platform.connect(agent, session, token=token))
        await ask(websocket, "facts")
        (owner,) = (pid for pid in workers if far_end_of(websocket) in sockets_of(pid))
        owned[owner].append(websocket)
    return owned


async def status_of(connecting: connect) -> int:
    try:
        async with connecting:
            return 101
    except InvalidStatus as error:
        return error.response.status_code


async def close_code(websocket: ClientConnection) -> int:
    await asyncio.wait_for(websocket.wait_closed(), 20)
    assert websocket.close_code is not None
    return websocket.close_code


async def test_connections_are_spread_and_their_session_is_one(
    platform: Platform, probe: str, token: str, http: httpx2.AsyncClient
) -> None:
    async with contextlib.AsyncExitStack() as stack:
        owned = await spread(stack, platform, probe, "one", token)
        every = [websocket for some in owned.values() for websocket in some]
        assert len({(await ask(websocket, "facts"))["pid"] for websocket in every}) == 1
        assert await metric(platform, "trunkline_connections") == len(every)
        path = f"/agents/{probe}/endpoint/sessions/one/connections"
        answer = await http.get(path, params={"state": "open"})
        assert len(answer.json()["data"]) == len(every)
        assert {event["address"] for event in answer.json()["data"]} == {"127.0.0.1"}
    await until_metric(platform, "trunkline_connections", 0)


async def test_limits_hold_for_all_workers_together(
    platform: Platform, probe: str, token: str
) -> None:
    async with contextlib.AsyncExitStack() as stack:
        for _ in range(MOST):
            connecting = platform.connect(probe, "full", token=token)
            websocket = await stack.enter_async_context(connecting)
        for _ in range(MOST):
            assert await status_of(platform.connect(probe, "full", token=token)) == 429
        await websocket.close()
        # The place is given back when the agent has closed its end, too.
        deadline = time.monotonic() + 10
        while await status_of(platform.connect(probe, "full", token=token)) != 101:
            assert time.monotonic() < deadline
            await asyncio.sleep(0.05)
    name = 'trunkline_limit_refusals_total{limit="max_connections_per_session"}'
    assert await metric(platform, name) >= MOST


async def test_a_ticket_lets_one_connection_in_at_whichever_worker(
    platform: Platform, probe: str, http: httpx2.AsyncClient
) -> None:
    for _ in range(3):
        made = await http.post(
            f"/agents/{probe}/endpoint/tickets", json={"agent_session_id": "by-ticket"}
        )
        url = platform.websocket_url(probe, query=f"&ticket={made.json()['ticket']}")
        tries = [status_of(connect(url, proxy=None, open_timeout=60)) for _ in range(8)]
        assert sorted(await asyncio.gather(*tries)) == [101] + [401] * 7


async def test_every_connection_is_accounted_for(
    platform: Platform, probe: str, token: str, http: httpx2.AsyncClient
) -> None:
    closed = 'trunkline_connections_closed_total{by="client",code="1000"}'
    await until_metric(platform, "trunkline_connections", 0)
    before = await metric(platform, closed)
    for _ in range(10):
        async with platform.connect(probe, "counted", token=token) as websocket:
            await ask(websocket, "facts")
    await until_metric(platform, closed, before + 10)
    told = platform.run("why", probe, "--session-id", "counted", "-n", "50", "-o", "json")
    ends = json.loads(told.stdout)
    assert len({end["request_id"] for end in ends}) == len(ends) == 10
    assert all(end["in"]["frames"] == end["out"]["frames"] == 2 for end in ends)
    assert all(end["version"] == "1" for end in ends)
    events = platform.events(probe, "counted")
    assert events.count("ConnectionOpened") == events.count("ConnectionClosed") == 10
    query = {"limit": "100", "action": "connect"}
    admins = {"authorization": f"Bearer {platform.token('--role', 'admin')}"}
    async with asyncio.timeout(10):
        while True:
            kept = (await http.get("/audit", params=query, headers=admins)).json()["data"]
            if sum(entry["agent_session_id"] == "counted" for entry in kept) == 10:
                break
            await asyncio.sleep(0.1)


async def test_a_revocation_reaches_every_worker(
    platform: Platform, probe: str, token: str
) -> None:
    eves, admins = platform.token("--user", "eve"), platform.token("--role", "admin")
    async with (
        contextlib.AsyncExitStack() as stack,
        httpx2.AsyncClient(trust_env=False) as client,
        platform.connect(probe, "mine", token=token) as unharmed,
    ):
        owned = await spread(stack, platform, probe, "eves", eves)
        answer = await client.post(
            f"{platform.url}/api/revocations",
            json={"issuer": ISSUER, "subject": "eve"},
            headers={"authorization": f"Bearer {admins}"},
        )
        assert answer.status_code == 201, answer.text
        for some in owned.values():
            for websocket in some:
                assert await close_code(websocket) == 1008
        for _ in range(6):
            assert await status_of(platform.connect(probe, "eves", token=eves)) == 401
        assert await ask(unharmed, "facts")


async def test_requests_are_served_whichever_worker_takes_them(
    platform: Platform, counter: str, token: str
) -> None:
    headers = {"authorization": f"Bearer {token}"}
    query = {"api-version": "v1", "agent_session_id": "http", "seconds": "0.3"}
    for _ in range(6):
        async with httpx2.AsyncClient(trust_env=False, timeout=60) as client:
            assert (await client.get(f"{platform.url}/readyz")).json() == {"status": "ready"}
            async with client.stream(
                "POST",
                platform.endpoint + INVOCATIONS,
                params=query,
                headers=headers,
                content=b"x" * 300_000,
            ) as answer:
                assert [part async for part in answer.aiter_lines()] == ["0", "1", "2"]
            # On the same connection.
            listed = await client.get(
                f"{platform.endpoint}/agents", params={"api-version": "v1"}, headers=headers
            )
            assert listed.status_code == 200
    assert counter


async def test_an_upgrade_behind_a_request_on_one_connection(
    platform: Platform, probe: str, token: str
) -> None:
    host, port = platform.url.removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
    head = await reader.readuntil(b"\r\n\r\n")
    length = re.search(rb"content-length: (\d+)", head)
    assert length is not None
    await reader.readexactly(int(length[1]))
    target = platform.websocket_url(probe, "late").partition(str(port))[2]
    writer.write(
        f"GET {target} HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
        f"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
        f"Authorization: Bearer {token}\r\n\r\n".encode()
    )
    assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 101 ")
    writer.write(b"\x81\x85\0\0\0\0facts")
    answer = await reader.readexactly(4)
    assert answer[0] == 0x81
    writer.close()
    await writer.wait_closed()


async def test_a_head_in_pieces_and_heads_that_are_refused(platform: Platform) -> None:
    host, port = platform.url.removeprefix("http://").split(":")

    async def answer_to(*pieces: bytes) -> bytes:
        reader, writer = await asyncio.open_connection(host, int(port))
        for piece in pieces:
            writer.write(piece)
            await asyncio.sleep(0.02)
        answer = await reader.read()
        writer.close()
        return answer

    whole = b"GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
    for _ in range(4):
        pieces = [whole[:1], whole[1:30], whole[30:-1], whole[-1:]]
        assert (await answer_to(*pieces)).endswith(b'{"status":"alive"}')
        assert (await answer_to(b"rubbish\r\n\r\n")).startswith(b"HTTP/1.1 400 ")
        too_large = b"GET / HTTP/1.1\r\nHost: x\r\nA: " + b"a" * 40_000
        assert (await answer_to(too_large)).startswith(b"HTTP/1.1 431 ")
        h2c = whole.replace(b"close", b"Upgrade, close\r\nUpgrade: h2c")
        assert (await answer_to(h2c)).endswith(b'{"status":"alive"}')
        two = whole.replace(b"Connection: close\r\n", b"") + whole
        assert (await answer_to(two)).count(b'{"status":"alive"}') == 2


async def test_nobody_says_by_a_header_where_they_are_from(
    platform: Platform, probe: str, token: str
) -> None:
    url = platform.websocket_url(probe, "liar")
    forged = {
        "Authorization": f"Bearer {token}",
        "X-Forwarded-For": "198.51.100.7",
        "x-trunkline-client": "198.51.100.7",
    }
    async with connect(url, additional_headers=forged, proxy=None, open_timeout=60) as websocket:
        await ask(websocket, "facts")
    await until_metric(platform, "trunkline_connections", 0)
    told = platform.run("why", probe, "--session-id", "liar", "-o", "json")
    assert [end["address"] for end in json.loads(told.stdout)] == ["127.0.0.1"]


async def test_a_worker_that_is_killed_is_replaced(
    platform: Platform, probe: str, token: str
) -> None:
    async with contextlib.AsyncExitStack() as stack:
        owned = await spread(stack, platform, probe, "survives", token)
        every = [websocket for some in owned.values() for websocket in some]
        agent = (await ask(every[0], "facts"))["pid"]
        victim, other = platform.workers
        lost = len(owned[victim])
        os.kill(victim, signal.SIGKILL)
        for websocket in owned[victim]:
            assert await close_code(websocket) == 1006
        for websocket in owned[other]:
            assert (await ask(websocket, "facts"))["pid"] == agent
        # Whoever is sent to the dead one's socket waits there for the next.
        for _ in range(6):
            async with platform.connect(probe, "survives", token=token) as websocket:
                assert (await ask(websocket, "facts"))["pid"] == agent
        assert len(platform.workers) == 2
        assert victim not in platform.workers
        await until_metric(platform, "trunkline_connections", len(owned[other]))
        told = platform.run("why", probe, "--session-id", "survives", "-n", "50", "-o", "json")
        ends = [end for end in json.loads(told.stdout) if end["closed_by"] == "network"]
        assert len(ends) == lost
        assert all("the gateway's worker that relayed it ended" in end["reason"] for end in ends)
        # Their places are free.
        for _ in range(MOST - len(owned[other])):
            connecting = platform.connect(probe, "survives", token=token)
            await stack.enter_async_context(connecting)
        assert await status_of(platform.connect(probe, "survives", token=token)) == 429
    assert f"(process {victim}) was ended by SIGKILL; {lost} connections are lost" in platform.log()


async def test_a_worker_that_is_told_to_stop_drains_and_is_replaced(
    platform: Platform, probe: str, token: str
) -> None:
    async with contextlib.AsyncExitStack() as stack:
        owned = await spread(stack, platform, probe, "drained", token)
        victim, other = platform.workers
        os.kill(victim, signal.SIGTERM)
        for websocket in owned[victim]:
            assert await close_code(websocket) == 1001
        await until_ended(victim)
        for websocket in owned[other]:
            assert await ask(websocket, "facts")
        for _ in range(6):
            assert await status_of(platform.connect(probe, "drained", token=token)) == 101
    assert len(platform.workers) == 2


async def test_a_reload_moves_every_workers_connections(
    platform: Platform, counter: str, token: str
) -> None:
    sessions = [f"c{number % 5}" for number in range(30)]
    before = {platform.serving_pid, *platform.workers}
    async with conversations(platform, token, sessions, pace_s=0.05) as talking:
        for _ in range(2):
            await asyncio.sleep(0.3)
            done = await asyncio.to_thread(platform.run, "gateway", "reload", "-o", "json")
            assert done.code == 0, done.stderr
            report = json.loads(done.stdout)
            assert report["connections_moved"] == 30
            assert report["left_behind"] == 0
            assert await metric(platform, "trunkline_connections") == 30
        await asyncio.sleep(0.3)
    assert all(each.received == each.sent > 10 for each in talking)
    for pid in before:
        await until_ended(pid)
    assert len(platform.workers) == 2
    for session in set(sessions):
        events = platform.events(counter, session)
        assert events.count("Started") == 1
        assert events.count("ConnectionClosed: by=client code=1000") == 6


async def test_what_comes_during_a_reload(platform: Platform, probe: str, token: str) -> None:
    async def reload() -> None:
        done = await asyncio.to_thread(platform.run, "gateway", "reload", "-o", "json")
        assert done.code == 0, done.stderr

    reloading = asyncio.create_task(reload())
    calls = 0
    async with httpx2.AsyncClient(trust_env=False) as client:
        while not reloading.done():
            async with platform.connect(probe, f"new{calls % 3}", token=token) as websocket:
                await ask(websocket, "facts")
            assert (await client.get(f"{platform.url}/readyz")).status_code == 200
            calls += 1
    await reloading
    assert calls > 1
    assert "Traceback" not in platform.log()


def test_the_port_is_nobody_elses(platform: Platform, tmp_path: Path) -> None:
    port = platform.url.rpartition(":")[2]
    done = subprocess.run(
        [sys.executable, "-m", "trunkline", "up", "--port", port, "--workers", "2",
         "--state-dir", str(tmp_path)],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 1
    assert f"can't listen on 127.0.0.1:{port}" in done.stderr


async def test_everybody_hears_of_the_end(platform: Platform, probe: str, token: str) -> None:
    async with contextlib.AsyncExitStack() as stack:
        owned = await spread(stack, platform, probe, "last", token)
        every = [websocket for some in owned.values() for websocket in some]
        workers = platform.workers
        platform.signal(signal.SIGTERM)
        assert {await close_code(websocket) for websocket in every} == {1001}
        assert platform.wait() == 0
        for pid in workers:
            await until_ended(pid)
    platform.start()
    told = platform.run("why", probe, "--session-id", "last", "-n", "50", "-o", "json")
    ends = json.loads(told.stdout)
    assert [end["closed_by"] for end in ends] == ["drain"] * len(every)


async def test_who_comes_while_it_drains_is_told_so(
    platform: Platform, probe: str, token: str
) -> None:
    async with contextlib.AsyncExitStack() as stack:
        owned = await spread(stack, platform, probe, "busy", token)
        kept = [some[0] for some in owned.values()][:1]
        talking = True

        async def talk() -> None:
            with contextlib.suppress(ConnectionClosed):
                while talking:
                    await ask(kept[0], "facts")

        task = asyncio.create_task(talk())
        platform.signal(signal.SIGTERM)
        refused: set[int] = set()
        async with httpx2.AsyncClient(trust_env=False) as client:
            deadline = time.monotonic() + 5
            while 503 not in refused and time.monotonic() < deadline:
                refused.add(await status_of(platform.connect(probe, "busy", token=token)))
            # One worker has nothing left to relay; it answers all the same.
            for _ in range(6):
                assert (await client.get(f"{platform.url}/readyz")).status_code == 503
                status = await status_of(platform.connect(probe, "busy", token=token))
                assert status == 503
        talking = False
        await task
    assert platform.wait() == 0
    platform.start()


async def test_the_workers_end_with_the_platform(platform: Platform, probe: str) -> None:
    workers = platform.workers
    os.kill(platform.serving_pid, signal.SIGKILL)
    assert platform.wait() == -signal.SIGKILL
    for pid in workers:
        await until_ended(pid)
    platform.start()
    assert probe


@pytest.fixture
def encrypted() -> Iterator[tuple[Platform, ssl.SSLContext]]:
    folder = Path(tempfile.mkdtemp(prefix="trunkline-test-"))
    certificate, key = write_certificate(folder, "one")
    own = Platform(folder / "state", "--workers", "2")
    try:
        own.start().deploy(AGENTS / "counter")
        assert own.stop() == 0
        own.settings = {
            "TRUNKLINE_GATEWAY_TLS_CERTIFICATE": str(certificate),
            "TRUNKLINE_GATEWAY_TLS_KEY": str(key),
        }
        yield own.start(), trusting(certificate)
        assert own.stop() == 0
        assert "Traceback" not in own.log()
    finally:
        own.stop()
        shutil.rmtree(folder)


async def test_tls_ends_in_the_workers(encrypted: tuple[Platform, ssl.SSLContext]) -> None:
    platform, context = encrypted
    assert platform.url.startswith("https://")
    assert len(platform.workers) == 2
    token = platform.token()
    headers = {"authorization": f"Bearer {token}"}
    async with httpx2.AsyncClient(trust_env=False, verify=context, timeout=60) as client:
        query: dict[str, Any] = {"api-version": "v1", "seconds": "0.3"}
        for _ in range(4):
            answer = await client.post(
                platform.endpoint + INVOCATIONS,
                params=query,
                headers=headers,
                content=b"x" * 3_000_000,
            )
            assert answer.text == "0\n1\n2\n"
        for _ in range(4):
            url = platform.websocket_url("counter", "secret").replace("https://", "wss://")
            async with connect(
                url, additional_headers=headers, ssl=context, proxy=None, open_timeout=60
            ) as websocket:
                await websocket.send("0 " + "x" * 200_000)
                assert len(await websocket.recv()) == 200_002
        async with connect(
            url, additional_headers=headers, ssl=context, proxy=None, open_timeout=60
        ) as websocket:
            await websocket.send("0")
            assert await websocket.recv() == "0"
            platform.signal(signal.SIGTERM)
            assert await close_code(websocket) == 1001
    assert platform.wait() == 0
