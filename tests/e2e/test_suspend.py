"""A session with nothing to do is frozen, and goes on as if nothing had been."""

import asyncio
import json
import os
import random
import re
import shutil
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import httpx2
import pytest

from tests.e2e.conftest import AGENTS
from tests.e2e.test_reload import reload
from tests.support.platform import Platform, ask, number_of, until_gone

PATIENCE_S = 20


@pytest.fixture(scope="module")
def settings() -> dict[str, str]:
    return {"TRUNKLINE_SESSIONS_IDLE_TIMEOUT_S": "1"}


@pytest.fixture(scope="module")
def dozer(platform: Platform) -> str:
    assert os.geteuid() == 0, "freezing is tried as root"
    name, _, _ = platform.deploy(AGENTS / "dozer")
    return name


@pytest.fixture
async def http(platform: Platform, token: str) -> AsyncIterator[httpx2.AsyncClient]:
    async with httpx2.AsyncClient(
        base_url=platform.url,
        headers={"authorization": f"Bearer {token}"},
        timeout=60,
        trust_env=False,
    ) as client:
        yield client


async def metric(http: httpx2.AsyncClient, name: str) -> float:
    text = (await http.get("/metrics")).text
    found = re.search(rf"^{name} (\S+)$", text, re.MULTILINE)
    assert found, text
    return float(found[1])


async def until(http: httpx2.AsyncClient, name: str, holds: Callable[[float], bool]) -> None:
    give_up_at = time.monotonic() + PATIENCE_S
    while not holds(value := await metric(http, name)):
        assert time.monotonic() < give_up_at, f"{name} is {value}"
        await asyncio.sleep(0.05)


async def until_frozen(http: httpx2.AsyncClient, count: int = 1) -> None:
    await until(http, "trunkline_sessions_frozen", lambda value: value == count)


def cpu_ticks(process: str) -> int:
    number = number_of(process)
    assert number is not None
    fields = Path(f"/proc/{number}/stat").read_text().rpartition(")")[2].split()
    return int(fields[11]) + int(fields[12])


async def test_it_costs_nothing_answers_pings_and_wakes(
    platform: Platform, dozer: str, token: str, http: httpx2.AsyncClient
) -> None:
    async with platform.connect(dozer, "s", token=token) as websocket:
        process = await ask(websocket, "who")
        await until_frozen(http)
        thaws, ticks = await metric(http, "trunkline_session_thaws_total"), cpu_ticks(process)
        for _ in range(3):
            # The agent's own keep-alive would be due, too.
            await asyncio.wait_for(await websocket.ping(), PATIENCE_S)
            await asyncio.sleep(0.5)
        assert cpu_ticks(process) == ticks
        assert await metric(http, "trunkline_session_thaws_total") == thaws
        # It has slept through more than one of its own keep-alive intervals.
        assert await ask(websocket, "hello") == "hello"
        assert await metric(http, "trunkline_session_thaws_total") == thaws + 1
        # And doesn't hold it against the client.
        await asyncio.sleep(2.5)
        assert await ask(websocket, "still there") == "still there"
        assert await ask(websocket, "who") == process
    events = platform.events(dozer, "s")
    assert "Frozen: nothing was said for " in events
    assert re.search(r"Woken: by a frame, after \d+\.\d s", events)
    assert "1000" in events


async def test_a_forked_one_sleeps_as_well(
    platform: Platform, token: str, http: httpx2.AsyncClient, tmp_path: Path
) -> None:
    folder = tmp_path / "forked"
    shutil.copytree(AGENTS / "dozer", folder)
    described = (folder / "agent.yaml").read_text().replace("name: dozer", "name: forked")
    (folder / "agent.yaml").write_text(described + "  - name: TRUNKLINE_START\n    value: zygote\n")
    name, _, _ = await asyncio.to_thread(platform.deploy, folder)
    async with platform.connect(name, "s", token=token) as websocket:
        process = await ask(websocket, "who")
        await until_frozen(http)
        ticks = cpu_ticks(process)
        await asyncio.wait_for(await websocket.ping(), PATIENCE_S)
        await asyncio.sleep(0.5)
        assert cpu_ticks(process) == ticks
        assert await ask(websocket, "who") == process
        await until_frozen(http)
    assert "Woken: by a frame" in platform.events(name, "s")


@pytest.mark.long
async def test_two_connections_wake_together_and_a_new_one_wakes_them(
    platform: Platform, dozer: str, token: str, http: httpx2.AsyncClient
) -> None:
    async with (
        platform.connect(dozer, "two", token=token) as one,
        platform.connect(dozer, "two", token=token) as other,
    ):
        await ask(one, "who")
        await until_frozen(http)
        assert await ask(other, "x") == "x"
        assert await ask(one, "y") == "y"
        await until_frozen(http)
        async with platform.connect(dozer, "two", token=token) as third:
            assert await ask(third, "z") == "z"
    assert "Woken: by a request" in platform.events(dozer, "two")


@pytest.mark.parametrize("rounds", [4, pytest.param(60, marks=pytest.mark.long)])
async def test_bursts_that_meet_it_falling_asleep_are_answered_once_and_in_order(
    platform: Platform, dozer: str, token: str, http: httpx2.AsyncClient, rounds: int
) -> None:
    chance = random.Random(rounds)
    async with (
        platform.connect(dozer, "bursts", token=token) as one,
        platform.connect(dozer, "bursts", token=token) as other,
    ):
        process = await ask(one, "who")
        await until_frozen(http)
        thaws = await metric(http, "trunkline_session_thaws_total")

        async def burst(websocket: Any, number: int) -> None:
            # Long ones are under way in parts when it wakes.
            texts = [f"{number} {n} " + "x" * chance.choice((0, 100, 100_000)) for n in range(12)]
            for text in texts:
                await websocket.send(text)
            for text in texts:
                assert json.loads(await websocket.recv()) == text

        for number in range(rounds):
            asked = (one, other) if number % 2 else (one,)
            await asyncio.gather(*(burst(websocket, number) for websocket in asked))
            # It is frozen half a second after the last word, as exactly as timers are.
            await asyncio.sleep(chance.uniform(0.45, 0.75))
        assert await ask(one, "who") == await ask(other, "who") == process
        assert await metric(http, "trunkline_session_thaws_total") > thaws


async def test_a_request_wakes_it(
    platform: Platform, dozer: str, token: str, http: httpx2.AsyncClient
) -> None:
    async with platform.connect(dozer, "h", token=token) as websocket:
        await ask(websocket, "who")
        await until_frozen(http)
        answer = await http.post(
            f"/api/projects/default/agents/{dozer}/endpoint/protocols/invocations",
            params={"api-version": "v1", "agent_session_id": "h"},
            content=b"hello",
        )
        assert answer.json() == {"body": "hello"}


@pytest.mark.long
async def test_who_works_or_is_connected_stays_awake(
    platform: Platform, dozer: str, token: str, http: httpx2.AsyncClient
) -> None:
    await until(http, "trunkline_sessions_running", lambda value: value == 0)
    for session, command in (("worker", "work"), ("caller", "connect")):
        async with platform.connect(dozer, session, token=token) as busy:
            await ask(busy, command)
            async with platform.connect(dozer, "waiter", token=token) as waiter:
                await ask(waiter, "who")
                await until_frozen(http)
                # The busy one has had as long as the other, and as long again.
                await asyncio.sleep(1.5)
                assert await metric(http, "trunkline_sessions_frozen") == 1
            assert "Frozen" not in platform.events(dozer, session)
        await until(http, "trunkline_sessions_running", lambda value: value == 0)


async def test_the_client_closes_while_it_is_frozen(
    platform: Platform, dozer: str, token: str, http: httpx2.AsyncClient
) -> None:
    async with platform.connect(dozer, "closing", token=token) as websocket:
        await ask(websocket, "who")
        await until_frozen(http)
    assert websocket.close_code == 1000
    # The client that just goes away is noticed as well.
    websocket = await platform.connect(dozer, "going", token=token)
    process = await ask(websocket, "who")
    await until_frozen(http)
    websocket.transport.abort()
    # Nothing is open any more: after a while it is frozen again, and then stopped.
    await until_gone(process)
    assert "Idle: no connection for 1 s" in platform.events(dozer, "going")
    await until_frozen(http, 0)


@pytest.mark.parametrize("command", ["stop", pytest.param("delete", marks=pytest.mark.long)])
async def test_a_frozen_one_is_ended(
    platform: Platform, dozer: str, token: str, http: httpx2.AsyncClient, command: str
) -> None:
    async with platform.connect(dozer, "ending", token=token) as websocket:
        process = await ask(websocket, "who")
        await until_frozen(http)
        begun = time.monotonic()
        done = await asyncio.to_thread(platform.run, "sessions", command, dozer, "ending")
        assert done.code == 0, done.stderr
        await until_gone(process)
        assert time.monotonic() - begun < 15, "it was killed, and not asked to end"
        await websocket.wait_closed()
    await until_frozen(http, 0)


async def test_a_frozen_one_moves_with_its_connection(
    platform: Platform, dozer: str, token: str, http: httpx2.AsyncClient
) -> None:
    async with platform.connect(dozer, "moving", token=token) as websocket:
        process = await ask(websocket, "who")
        await until_frozen(http)
        report = await reload(platform)
        assert report["connections_moved"] == 1
        await until_frozen(http)
        assert await ask(websocket, "who") == process


async def test_frozen_ones_end_with_the_platform(
    platform: Platform, dozer: str, token: str, http: httpx2.AsyncClient
) -> None:
    websocket = await platform.connect(dozer, "last", token=token)
    process = await ask(websocket, "who")
    await until_frozen(http)
    begun = time.monotonic()
    assert await asyncio.to_thread(platform.stop) == 0
    assert time.monotonic() - begun < 15
    await websocket.wait_closed()
    assert websocket.close_code == 1001
    await until_gone(process)
