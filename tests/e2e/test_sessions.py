"""A session is one process with one home, whoever and however many ask for it."""

import asyncio
import json
import signal

import httpx2
import pytest
from websockets.exceptions import ConnectionClosed

from tests.support.platform import Platform, ask, is_alive, kill, until_gone
from trunkline.client import Backoff, ClosedError, connect_sync


async def test_two_sessions_are_two_processes_with_two_homes(
    platform: Platform, probe: str, token: str
) -> None:
    async with (
        platform.connect(probe, "one", token=token) as first,
        platform.connect(probe, "two", token=token) as second,
    ):
        one, two = await ask(first, "facts"), await ask(second, "facts")
        assert one["pid"] != two["pid"]
        for websocket, word in ((first, "one"), (second, "two")):
            await ask(websocket, f"remember {word}")
        assert [await ask(each, "recall") for each in (first, second)] == ["one", "two"]
    homes = (platform.state_dir / "sessions").glob("*/home/memory")
    assert sorted(path.read_text() for path in homes) == ["one", "two"]


async def test_two_sockets_of_one_session_are_one_process(
    platform: Platform, probe: str, token: str
) -> None:
    async with (
        platform.connect(probe, "shared", token=token) as first,
        platform.connect(probe, "shared", token=token) as second,
    ):
        assert (await ask(first, "facts"))["pid"] == (await ask(second, "facts"))["pid"]


async def test_twenty_clients_of_a_cold_session_start_one_process(
    platform: Platform, probe: str, token: str
) -> None:
    async def one() -> int:
        async with platform.connect(probe, "crowd", token=token) as websocket:
            return (await ask(websocket, "facts"))["pid"]

    pids = await asyncio.gather(*(one() for _ in range(20)))
    assert len(pids) == 20
    assert len(set(pids)) == 1
    assert platform.events(probe, "crowd").count("system   Started") == 1


async def test_the_agents_environment_is_the_contracts(
    platform: Platform, probe: str, token: str
) -> None:
    async with platform.connect(probe, "env:1", token=token) as websocket:
        environment = (await ask(websocket, "facts"))["environment"]
    assert environment["FOUNDRY_AGENT_NAME"] == "probe"
    assert environment["FOUNDRY_AGENT_VERSION"] == "1"
    assert environment["FOUNDRY_AGENT_SESSION_ID"] == "env:1"
    assert len(environment["FOUNDRY_AGENT_SESSION_GUID"]) == 32
    assert environment["FOUNDRY_PROJECT_ENDPOINT"] == platform.endpoint
    assert environment["FOUNDRY_HOSTING_ENVIRONMENT"]
    assert environment["WS_KEEPALIVE_INTERVAL"] == "30"
    assert environment["GREETING"] == ""
    # The platform's own environment stays with the platform.
    assert "PYTEST_CURRENT_TEST" not in environment


async def test_an_agent_killed_in_mid_conversation(
    platform: Platform, probe: str, token: str
) -> None:
    async with platform.connect(probe, "killed", token=token) as websocket:
        assert await ask(websocket, "remember the milk") == "remembered"
        pid = (await ask(websocket, "facts"))["pid"]
        kill(pid)
        with pytest.raises(ConnectionClosed):
            await websocket.recv()
        assert websocket.close_code == 1011
        assert websocket.close_reason == "the agent's process ended: signal 9"
    async with platform.connect(probe, "killed", token=token) as websocket:
        assert (await ask(websocket, "facts"))["pid"] != pid
        assert await ask(websocket, "recall") == "the milk"
    events = platform.events(probe, "killed")
    assert "Exited: signal 9" in events
    assert "by=agent code=1011" in events


async def test_a_crash_of_the_handler_is_1011_and_the_process_lives(
    platform: Platform, probe: str, token: str
) -> None:
    async with platform.connect(probe, "raises", token=token) as websocket:
        pid = (await ask(websocket, "facts"))["pid"]
        await websocket.send("raise the secret text")
        with pytest.raises(ConnectionClosed):
            await websocket.recv()
        assert websocket.close_code == 1011
        assert "secret" not in (websocket.close_reason or "")
    assert is_alive(pid)
    assert "the secret text" in platform.events(probe, "raises")


async def test_http_and_websocket_meet_in_one_session(
    platform: Platform, probe: str, token: str
) -> None:
    async with platform.connect(probe, "both", token=token) as websocket:
        pid = (await ask(websocket, "facts"))["pid"]
    done = platform.run("invoke", probe, "hello", "--session-id", "both")
    assert done.code == 0
    assert f'"pid":"{pid}"' in done.stdout
    assert '"body":"hello"' in done.stdout


async def test_a_hundred_megabytes_of_output_lose_no_line_and_hang_nothing(
    platform: Platform, probe: str, token: str
) -> None:
    async with platform.connect(probe, "loud", token=token) as websocket:
        await websocket.send("print 100000000")
        async with platform.connect(probe, "quiet", token=token) as other:
            # The platform serves others while one of them shouts.
            assert await ask(other, "hello") == "hello"
        assert await websocket.recv() == '"printed"'
        assert await ask(websocket, "say the end") == "said"
    logs = sorted((platform.state_dir / "sessions").glob("*/logs/console-*.log"))
    loudest = max(logs, key=lambda path: path.stat().st_size).parent
    text = b"".join(path.read_bytes() for path in logs if path.parent == loudest)
    assert text.count(b"x" * 99 + b"\n") == 1_000_000
    assert "the end" in platform.run("monitor", probe, "--session-id", "loud").stdout


async def test_a_restart_of_the_platform_keeps_the_homes(
    platform: Platform, probe: str, token: str
) -> None:
    websocket = await platform.connect(probe, "kept", token=token)
    assert await ask(websocket, "remember me") == "remembered"
    pid = (await ask(websocket, "facts"))["pid"]
    platform.signal(signal.SIGTERM)
    await websocket.wait_closed()
    assert websocket.close_code == 1001
    assert await asyncio.to_thread(platform.wait) == 0
    assert not is_alive(pid)
    platform.start()
    async with platform.connect(probe, "kept", token=token) as websocket:
        assert await ask(websocket, "recall") == "me"


async def test_agents_die_with_a_platform_that_is_killed(
    platform: Platform, probe: str, token: str
) -> None:
    websocket = await platform.connect(probe, "orphan", token=token)
    pid = (await ask(websocket, "facts"))["pid"]
    platform.signal(signal.SIGKILL)
    await websocket.wait_closed()
    await asyncio.to_thread(platform.wait)
    await until_gone(pid)
    platform.start()
    async with platform.connect(probe, "orphan", token=token) as websocket:
        assert (await ask(websocket, "facts"))["pid"] != pid


async def test_why_a_connection_ended_is_told_to_its_owner(
    platform: Platform, probe: str, token: str
) -> None:
    async with platform.connect(probe, "why", token=token) as websocket:
        await ask(websocket, "facts")
        await websocket.close(4321, "seen enough")
    deadline = asyncio.get_running_loop().time() + 20
    while "ConnectionClosed" not in platform.events(probe, "why"):
        assert asyncio.get_running_loop().time() < deadline
    told = platform.run("why", probe, "--session-id", "why", "-o", "json")
    (end,) = json.loads(told.stdout)
    assert (end["closed_by"], end["code"], end["reason"]) == ("client", 4321, "seen enough")
    assert end["version"] == "1"
    assert end["in"]["frames"] == 2
    words = platform.run("why", probe, "--session-id", "why").stdout
    assert "the client closed it with 4321: 'seen enough'" in words
    url = f"{platform.endpoint}/agents/{probe}/endpoint/sessions/why/connections?api-version=v1"
    other = {"Authorization": f"Bearer {platform.token('--user', 'somebody-else')}"}
    async with httpx2.AsyncClient(headers=other) as client:
        refused = await client.get(url)
    assert refused.status_code in (403, 404)


def test_a_client_without_asyncio_comes_back_to_its_session(
    platform: Platform, probe: str, token: str
) -> None:
    with connect_sync(
        probe, endpoint=platform.endpoint, token=token, session_id="sync", backoff=Backoff()
    ) as talk:
        talk.send("remember sync")
        assert json.loads(talk.receive(timeout_s=30)) == "remembered"
        assert platform.run("sessions", "stop", probe, "sync").code == 0
        # It says nothing of the loss: who waits gets the answer of the session's next process.
        talk.send("recall")
        assert json.loads(talk.receive(timeout_s=30)) == "sync"
        assert (talk.connections, talk.session_id) == (2, "sync")
        talk.send("raise oh dear")
        with pytest.raises(ClosedError, match="1011"):
            list(talk)
    assert talk.close_code == 1011
