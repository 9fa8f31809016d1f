"""What a session uses, and what goes over its connections while they are open."""

import contextlib
import json
from collections.abc import Iterator
from typing import Any

import httpx2
import pytest
from websockets.exceptions import ConnectionClosed

from tests.support.platform import Platform


class Rest:
    """The platform's REST API."""

    def __init__(self, platform: Platform, token: str) -> None:
        self._http = httpx2.Client(
            base_url=f"{platform.endpoint}/",
            headers={"authorization": f"Bearer {token}"},
            params={"api-version": "v1"},
            trust_env=False,
            timeout=30,
        )

    def get(self, path: str, **query: str) -> dict[str, Any]:
        got = self._http.get(path, params={"api-version": "v1", **query})
        assert got.status_code == 200, got.text
        found: dict[str, Any] = got.json()
        return found

    def status(self, path: str, **query: str) -> int:
        return self._http.get(path, params={"api-version": "v1", **query}).status_code

    def close(self) -> None:
        self._http.close()


@pytest.fixture(scope="module")
def rest(platform: Platform, probe: str, token: str) -> Iterator[Rest]:
    assert probe
    rest = Rest(platform, token)
    yield rest
    rest.close()


async def test_what_goes_over_a_connection_is_told_while_it_is_open_and_after(
    rest: Rest, platform: Platform, token: str
) -> None:
    session, path = "agents/probe/endpoint/sessions/u1", "agents/probe/endpoint/sessions"
    async with platform.connect("probe", "u1", token=token) as socket:
        for _ in range(3):
            await socket.send("x" * 100)
            await socket.recv()
        usage = rest.get(session, include="usage")["usage"]
        assert usage["open_connections"] == 1
        assert usage["in"] == {"frames": 3, "bytes": 3 * 106}
        assert usage["out"] == {"frames": 3, "bytes": 3 * 104}
        (listed,) = (s for s in rest.get(path, include="usage")["data"]
                     if s["agent_session_id"] == "u1")  # fmt: skip
        assert listed["usage"]["in"] == usage["in"]
        (now,) = rest.get(f"{session}/connections", state="open")["data"]
        assert (now["in"]["frames"], now["out"]["frames"], now["closed_at"]) == (3, 3, None)
        assert 0 < now["age_s"] < 60
        assert rest.get(f"{session}/connections")["data"] == []
        assert rest.get("agents/probe")["open_connections"] == 1
    while rest.get("agents/probe")["open_connections"]:
        pass
    usage = rest.get(session, include="usage")["usage"]
    assert usage["open_connections"] == 0
    # Close frames are frames.
    assert usage["in"]["frames"] == usage["out"]["frames"] == 4
    assert rest.get(f"{session}/connections", state="open")["data"] == []
    assert "usage" not in rest.get(session)


async def test_processor_and_memory_are_measured_against_their_limits(
    rest: Rest, platform: Platform, token: str
) -> None:
    session = "agents/probe/endpoint/sessions/u2"
    async with platform.connect("probe", "u2", token=token) as socket:
        await socket.send("print 1")
        assert json.loads(await socket.recv()) == "printed"
        usage = rest.get(session, include="usage")["usage"]
        await socket.send("print 3000000")
        await socket.recv()
        after = rest.get(session, include="usage")["usage"]
    if usage["cpu"] is None or usage["memory"] is None:
        # As on a machine whose control groups aren't the platform's to use: it says so.
        assert "isn't bounded" in platform.log()
        return
    assert 0 < usage["cpu"]["used_s"] < after["cpu"]["used_s"]
    assert usage["cpu"]["limit"] > 0
    assert 1024**2 < usage["memory"]["used_bytes"] < usage["memory"]["limit_bytes"]


async def test_what_doesnt_run_uses_nothing(rest: Rest, platform: Platform, token: str) -> None:
    async with platform.connect("probe", "u3", token=token):
        pass
    done = platform.run("sessions", "stop", "probe", "u3")
    assert done.code == 0, done.stderr
    assert rest.get("agents/probe/endpoint/sessions/u3", include="usage")["usage"] is None


async def fail_once(rest: Rest, platform: Platform, token: str) -> int:
    """Have the agent fail, and return how often it had failed before."""
    before: int = rest.get("agents/probe")["errors_today"]
    async with platform.connect("probe", "u4", token=token) as socket:
        await socket.send("raise oh dear")
        with contextlib.suppress(ConnectionClosed):
            await socket.recv()
    while rest.get("agents/probe")["errors_today"] == before:
        pass
    return before


async def test_failures_are_counted_by_agent(rest: Rest, platform: Platform, token: str) -> None:
    before = await fail_once(rest, platform, token)
    async with platform.connect("probe", "u4", token=token) as socket:
        await socket.send("fine")
        await socket.recv()
    assert rest.get("agents/probe")["errors_today"] == before + 1
    (agent,) = rest.get("agents")["data"]
    assert agent["errors_today"] == before + 1


@pytest.mark.parametrize(
    ("path", "query"),
    [
        ("agents/probe/endpoint/sessions", {"include": "everything"}),
        ("agents/probe/endpoint/sessions/u5/connections", {"state": "both"}),
    ],
)
async def test_what_isnt_there_to_be_told_is_refused(
    rest: Rest, platform: Platform, token: str, path: str, query: dict[str, str]
) -> None:
    async with platform.connect("probe", "u5", token=token):
        pass
    assert rest.status(path, **query) == 400


async def test_errors_of_today_outlive_a_restart(
    rest: Rest, platform: Platform, token: str
) -> None:
    before = await fail_once(rest, platform, token)
    platform.stop()
    platform.start()
    again = Rest(platform, token)
    assert again.get("agents/probe")["errors_today"] == before + 1
    again.close()
