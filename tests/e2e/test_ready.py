"""Sessions are kept ready for callers who name none; until one gets them they are nobody's."""

import asyncio
import json
from pathlib import Path
from typing import Any

import httpx2
import pytest

from tests.e2e.conftest import AGENTS
from tests.support.platform import Platform

SESSION_ID = "x-agent-session-id"


@pytest.fixture(scope="module")
def settings() -> dict[str, str]:
    return {"TRUNKLINE_PROCESS_START": "spawn", "TRUNKLINE_SESSIONS_READY_MAX": "1"}


@pytest.fixture(scope="module", autouse=True)
def counter(platform: Platform) -> None:
    """Have the agent there, whichever of the tests runs first, or alone."""
    platform.deploy(AGENTS / "counter")


def start_of(platform: Platform) -> dict[str, Any]:
    done = platform.run("show", "counter", "-o", "json")
    assert done.code == 0, done.stderr
    start: dict[str, Any] = json.loads(done.stdout)["start"]
    return start


async def one_is_kept(platform: Platform) -> None:
    wanted = {"kept": 1, "wanted": 1, "most": 1}
    while (await asyncio.to_thread(start_of, platform))["ready"] != wanted:
        pass


async def talk(platform: Platform, token: str, session: str | None = None) -> str:
    """Say something in a session; return which one it is."""
    async with platform.connect("counter", session, token=token) as websocket:
        await websocket.send("0 hello")
        assert await websocket.recv() == "0 hello"
        assert websocket.response is not None
        return str(websocket.response.headers[SESSION_ID])


def homes(platform: Platform) -> set[str]:
    return {path.name for path in (platform.state_dir / "sessions").glob("[!.]*")}


async def until_homes(platform: Platform, count: int) -> None:
    while len(homes(platform)) != count:  # noqa: ASYNC110 - nobody tells of it
        await asyncio.sleep(0.05)


async def test_callers_who_name_no_session_get_one_that_was_ready(
    platform: Platform, token: str, http: httpx2.AsyncClient
) -> None:
    assert start_of(platform)["ready"] == {"kept": 0, "wanted": 0, "most": 1}
    first = await talk(platform, token)
    await one_is_kept(platform)
    assert "; 1 of 1 kept ready" in platform.run("show", "counter").stdout
    metrics = (await http.get(f"{platform.url}/metrics")).text
    assert "trunkline_sessions_ready 1.0" in metrics
    # It is nobody's: the list has the first alone, though two agents run.
    sessions = "agents/counter/endpoint/sessions"
    listed = (await http.get(sessions)).json()["data"]
    assert [each["agent_session_id"] for each in listed] == [first]
    assert len(homes(platform)) == 2

    second = await talk(platform, token)
    assert second != first
    events = platform.events("counter", second)
    assert events.index("Ready") < events.index("Given: to a caller who named no session")
    await one_is_kept(platform)
    said = await http.post("agents/counter/endpoint/protocols/invocations", params={"seconds": "0"})
    assert said.is_success, said.text
    third = said.headers[SESSION_ID]
    assert "Given: " in platform.events("counter", third)
    await one_is_kept(platform)
    made = await http.post(sessions, json={})
    assert (made.status_code, made.json()["status"]) == (201, "active")
    fourth = made.json()["agent_session_id"]
    assert "Given: " in platform.events("counter", fourth)
    assert await talk(platform, token, fourth) == fourth
    assert "trunkline_ready_sessions_total" in (await http.get(f"{platform.url}/metrics")).text
    listed = (await http.get(sessions)).json()["data"]
    assert {each["agent_session_id"] for each in listed} == {first, second, third, fourth}
    # Who names one has it made.
    assert await talk(platform, token, "named") == "named"
    assert "Given: " not in platform.events("counter", "named")


async def test_a_reload_a_deploy_and_a_deletion_leave_nothing_of_them(
    platform: Platform, token: str, http: httpx2.AsyncClient, tmp_path: Path
) -> None:
    await talk(platform, token)
    await one_is_kept(platform)
    there = len((await http.get("agents/counter/endpoint/sessions")).json()["data"])
    assert len(homes(platform)) == there + 1
    done = await asyncio.to_thread(platform.run, "gateway", "reload")
    assert done.code == 0, done.stderr
    await until_homes(platform, there)
    assert await talk(platform, token) != ""
    await one_is_kept(platform)
    there += 1
    for name in ("agent.yaml", "main.py"):
        text = (AGENTS / "counter" / name).read_text()
        (tmp_path / name).write_text(text + "\n# newer\n")
    platform.deploy(tmp_path)
    await until_homes(platform, there)
    await talk(platform, token)
    await one_is_kept(platform)
    done = await asyncio.to_thread(platform.run, "delete", "counter", "--force", "--yes")
    assert done.code == 0, done.stderr
    await until_homes(platform, 0)
    assert list((platform.state_dir / "sessions" / ".ahead").glob("*/*")) == []
