"""Sessions are forked from their version's zygote, and calls go on whatever becomes of that."""

import asyncio
import json
from typing import Any

import pytest

from tests.e2e.conftest import AGENTS
from tests.support.platform import Platform


@pytest.fixture(scope="module")
def settings() -> dict[str, str]:
    return {"TRUNKLINE_PROCESS_START": "zygote"}


def shown(platform: Platform) -> dict[str, Any]:
    done = platform.run("show", "counter", "-o", "json")
    assert done.code == 0, done.stderr
    start: dict[str, Any] = json.loads(done.stdout)["start"]
    return start


async def talk(platform: Platform, token: str, session: str) -> None:
    async with platform.connect("counter", session, token=token) as websocket:
        await websocket.send("0 hello")
        assert await websocket.recv() == "0 hello"


async def test_calls_to_forked_sessions_go_on_across_reloads(
    platform: Platform, token: str
) -> None:
    platform.deploy(AGENTS / "counter")
    assert shown(platform)["reason"] == "no session was started yet"
    await talk(platform, token, "first")
    while (start := await asyncio.to_thread(shown, platform))["mode"] != "zygote":
        assert start["reason"] == "its zygote is being made"
    expected = {"trunkline.agentserver._rehearsal", "starlette.websockets", "uvloop"}
    assert expected <= set(start["preloaded"])
    assert start["left_out"] == []
    said = platform.run("show", "counter").stdout
    assert f"from a zygote with {len(start['preloaded'])} modules preloaded" in said
    async with platform.connect("counter", "second", token=token) as websocket:
        for number in range(3):
            await websocket.send(f"{number} hello")
            assert await websocket.recv() == f"{number} hello"
            done = await asyncio.to_thread(platform.run, "gateway", "reload", "-o", "json")
            assert done.code == 0, done.stderr
            assert json.loads(done.stdout)["connections_moved"] == 1
        await websocket.send("3 hello")
        assert await websocket.recv() == "3 hello"
    # The one that serves has none yet, and gets its own.
    await talk(platform, token, "third")
    while (await asyncio.to_thread(shown, platform))["mode"] != "zygote":
        pass
    await talk(platform, token, "fourth")
    assert shown(platform)["reason"] == ""
    assert "signal" not in platform.events("counter", "second")
