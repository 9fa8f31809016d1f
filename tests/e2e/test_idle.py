"""A session nobody uses loses its process and keeps its files."""

import pytest

from tests.support.platform import Platform, ask, until_gone


@pytest.fixture(scope="module")
def settings() -> dict[str, str]:
    return {"TRUNKLINE_SESSIONS_IDLE_TIMEOUT_S": "0.3"}


async def test_an_idle_session_is_stopped_and_resumed(
    platform: Platform, probe: str, token: str
) -> None:
    async with platform.connect(probe, "s", token=token) as websocket:
        assert await ask(websocket, "remember 42") == "remembered"
        first = (await ask(websocket, "facts"))["pid"]
    await until_gone(first)
    async with platform.connect(probe, "s", token=token) as websocket:
        assert (await ask(websocket, "facts"))["pid"] != first
        assert await ask(websocket, "recall") == "42"
    assert "Idle: no connection for 0.3 s (idle_timeout_s)" in platform.events(probe, "s")


async def test_an_open_connection_keeps_its_session(
    platform: Platform, probe: str, token: str
) -> None:
    async with platform.connect(probe, "open", token=token) as websocket:
        pid = (await ask(websocket, "facts"))["pid"]
        async with platform.connect(probe, "other", token=token) as other:
            gone = (await ask(other, "facts"))["pid"]
        # The other session's idle time runs out while this one's connection is quiet.
        await until_gone(gone)
        assert (await ask(websocket, "facts"))["pid"] == pid
