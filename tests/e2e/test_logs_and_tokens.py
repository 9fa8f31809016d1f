"""Logs that are followed across an agent's death, and tokens that are refused."""

import asyncio
import json
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import httpx2
import pytest
from websockets.exceptions import InvalidStatus

from tests.support.platform import Platform, ask, kill, number_of


def logstream(platform: Platform, session_id: str, **query: str) -> str:
    extra = "".join(f"&{name}={value}" for name, value in query.items())
    return f"{platform.endpoint}/agents/probe/sessions/{session_id}:logstream?api-version=v1{extra}"


async def entries(response: httpx2.Response) -> AsyncIterator[dict]:
    async for line in response.aiter_lines():
        if line.startswith("data: "):
            yield json.loads(line[6:])


async def until(stream: AsyncIterator[dict], message: str) -> dict:
    async for entry in stream:
        if entry.get("message") == message:
            return entry
    raise AssertionError(f"the stream ended before {message!r}")


async def test_a_follower_stays_through_the_agents_death_and_resumes(
    platform: Platform, probe: str, token: str
) -> None:
    async with platform.connect(probe, "log", token=token) as websocket:
        await ask(websocket, "say first")
        pid = (await ask(websocket, "facts"))["pid"]
    async with httpx2.AsyncClient(
        headers={"authorization": f"Bearer {token}"}, timeout=30, trust_env=False
    ) as http:
        async with http.stream("GET", logstream(platform, "log")) as response:
            assert response.headers["content-type"].startswith("text/event-stream")
            stream = entries(response)
            first = await anext(stream)
            assert first["session_state"] == "Running"
            assert (await until(stream, "probe says hello"))["stream"] == "stdout"
            resume_at = (await until(stream, "first"))["offset"]
            kill(pid)
            entry = await anext(stream)
            while not entry["message"].startswith("Exited: signal 9"):
                entry = await anext(stream)
            assert entry["stream"] == "status"
            async with platform.connect(probe, "log", token=token) as websocket:
                await ask(websocket, "say second")
            await until(stream, "second")
        url = logstream(platform, "log", after=str(resume_at), follow="false")
        text = (await http.get(url)).text
    assert '"first"' not in text
    assert text.index("Exited: signal 9") < text.index('"second"')


async def test_the_other_path_spelling_and_tail(platform: Platform, probe: str, token: str) -> None:
    async with platform.connect(probe, "tail", token=token) as websocket:
        for n in range(5):
            await ask(websocket, f"say line {n}")
    url = logstream(platform, "tail", follow="false", tail="3")
    url = url.replace("/agents/probe/sessions/", "/agents/probe/versions/1/sessions/")
    async with httpx2.AsyncClient(
        headers={"authorization": f"Bearer {token}"}, timeout=30, trust_env=False
    ) as http:
        text = (await http.get(url)).text
    assert "line 0" not in text
    assert "line 4" in text


@pytest.mark.parametrize("bad", [("--expires-in", "-1"), None])
async def test_a_token_that_does_not_hold_is_refused_everywhere(
    platform: Platform, probe: str, bad: tuple[str, ...] | None
) -> None:
    token = platform.token(*bad) if bad else "garbage"
    with pytest.raises(InvalidStatus) as caught:
        await platform.connect(probe, "s", token=token)
    assert caught.value.response.status_code == 401
    assert caught.value.response.headers["www-authenticate"].startswith("Bearer")
    async with httpx2.AsyncClient(
        headers={"authorization": f"Bearer {token}"}, timeout=30, trust_env=False
    ) as http:
        for path in ("/agents", "/agents/probe/versions", "/agents/probe/endpoint/sessions"):
            answer = await http.get(f"{platform.endpoint}{path}?api-version=v1")
            assert answer.status_code == 401
            assert token not in answer.text
        url = f"{platform.endpoint}/agents/probe/endpoint/protocols/invocations?api-version=v1"
        assert (await http.post(url, content=b"x")).status_code == 401


async def test_another_users_session_is_out_of_reach(
    platform: Platform, probe: str, token: str
) -> None:
    async with platform.connect(probe, "mine", token=token) as websocket:
        await ask(websocket, "hello")
    other = platform.token("--user", "mallory")
    with pytest.raises(InvalidStatus) as caught:
        await platform.connect(probe, "mine", token=other)
    assert caught.value.response.status_code == 403
    async with httpx2.AsyncClient(
        headers={"authorization": f"Bearer {other}"}, timeout=30, trust_env=False
    ) as http:
        assert (await http.get(logstream(platform, "mine"))).status_code == 403
        listed = await http.get(
            f"{platform.endpoint}/agents/probe/endpoint/sessions?api-version=v1"
        )
        assert listed.json()["data"] == []


async def test_no_secret_reaches_a_log_or_a_process_list(
    platform: Platform, probe: str, token: str
) -> None:
    async with platform.connect(probe, "secret", token=token) as websocket:
        facts = await ask(websocket, "facts")
        listing = await asyncio.to_thread(
            lambda: b"".join(
                Path(f"/proc/{pid}/cmdline").read_bytes()
                for pid in (platform.pid, platform.serving_pid, number_of(facts["pid"]))
            )
        )
    assert token not in json.dumps(facts["environment"])
    assert token.encode() not in listing
    assert token not in platform.log()
    assert token not in platform.events(probe, "secret")


async def test_a_log_follower_does_not_hold_up_the_stop(
    platform: Platform, probe: str, token: str
) -> None:
    async with platform.connect(probe, "held", token=token) as websocket:
        await ask(websocket, "hello")
    async with httpx2.AsyncClient(
        headers={"authorization": f"Bearer {token}"}, timeout=30, trust_env=False
    ) as http:
        async with http.stream("GET", logstream(platform, "held")) as response:
            stream = entries(response)
            await anext(stream)
            platform.signal(signal.SIGTERM)
            # The stream ends in good order, not in the middle.
            async for entry in stream:
                assert entry["stream"]
    assert await asyncio.to_thread(platform.wait) == 0
    platform.start()
