"""Two platforms on one PostgreSQL and one state directory are one platform to their callers."""

import asyncio
import contextlib
import json
import os
import re
import shutil
import signal
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from tests.e2e.conftest import AGENTS
from tests.support.platform import Platform, ask, is_alive
from tests.support.postgres import PostgresServer

AGENT = "witness"
INVOCATIONS = f"{AGENT}/endpoint/protocols/invocations"
SESSIONS = f"{AGENT}/endpoint/sessions"
PATIENCE_S = 40


@dataclass
class Pair:
    """Two platforms, and a token for both."""

    one: Platform
    two: Platform
    token: str

    @property
    def both(self) -> tuple[Platform, Platform]:
        return self.one, self.two

    def http(self, platform: Platform) -> httpx2.Client:
        return httpx2.Client(
            base_url=f"{platform.endpoint}/agents/",
            headers={"Authorization": f"Bearer {self.token}"},
            params={"api-version": "v1"},
            timeout=60,
            trust_env=False,
        )

    async def ask(self, platform: Platform, session: str, command: str = "facts") -> Any:
        async with platform.connect(AGENT, session, token=self.token) as websocket:
            return await ask(websocket, command)

    async def ask_patiently(self, platform: Platform, session: str) -> Any:
        """Ask again while the answer is to try again."""
        deadline = time.monotonic() + PATIENCE_S
        while (answer := await self._ask_or_refusal(platform, session)) is None:
            assert time.monotonic() < deadline
            await asyncio.sleep(0.1)
        return answer

    async def _ask_or_refusal(self, platform: Platform, session: str) -> Any:
        try:
            return await self.ask(platform, session)
        except InvalidStatus as error:
            if error.response.status_code != 503:
                raise
            return None


#: One that is killed is to be missed soon, and one that is only slow is not.
MORTALS = {
    "TRUNKLINE_SESSIONS_UPKEEP_INTERVAL_S": "0.3",
    "TRUNKLINE_SESSIONS_NODE_TIMEOUT_S": "4",
}


@contextlib.contextmanager
def running_pair(database: str, **settings: str) -> Iterator[Pair]:
    folder = Path(tempfile.mkdtemp(prefix="trunkline-test-"))
    settings["TRUNKLINE_STORE_URL"] = database
    one, two = (Platform(folder / "state", **settings) for _ in range(2))
    one.log_path, two.log_path = folder / "one.log", folder / "two.log"
    try:
        one.start()
        two.start()
        one.deploy(AGENTS / "witness")
        yield Pair(one, two, one.token())
        codes = [platform.stop() for platform in (one, two)]
        logs = [platform.log() for platform in (one, two)]
    finally:
        one.stop()
        two.stop()
        shutil.rmtree(folder)
    assert codes == [0, 0], logs
    for log in logs:
        assert "Traceback" not in log, log


@pytest.fixture(scope="module")
def pair(postgres: PostgresServer) -> Iterator[Pair]:
    """Two platforms that stay."""
    with postgres.database() as database, running_pair(database) as pair:
        yield pair


@pytest.fixture
def mortal(postgres: PostgresServer) -> Iterator[Pair]:
    """Two platforms of which a test may kill one."""
    with postgres.database() as database, running_pair(database, **MORTALS) as pair:
        yield pair


async def test_a_session_asked_for_at_both_is_started_once(pair: Pair) -> None:
    async def one(platform: Platform, session: str) -> dict[str, Any]:
        return await pair.ask(platform, session)

    names = [f"crowd-{number}" for number in range(20)]
    answers = await asyncio.gather(
        *(one(platform, name) for name in names for platform in pair.both)
    )
    for name, (first, second) in zip(
        names, zip(answers[::2], answers[1::2], strict=True), strict=True
    ):
        assert first["pid"] == second["pid"], name
        assert first["starts"] == second["starts"] == [first["pid"]], name
    with pair.http(pair.one) as http:
        for name in names:
            assert http.post(f"{SESSIONS}/{name}:stop").status_code == 204


async def test_a_ticket_of_one_is_good_at_the_other_once(pair: Pair) -> None:
    async with pair.one.connect(AGENT, "ticketed", token=pair.token) as here:
        pid = (await ask(here, "facts"))["pid"]
        with pair.http(pair.one) as http:
            body = {"agent_session_id": "ticketed", "origin": pair.two.url}
            ticket = http.post(f"{AGENT}/endpoint/tickets", json=body).json()["ticket"]
        # The session runs at the first, and the second passes the connection on to it.
        url = pair.two.websocket_url(AGENT)
        offered: Any = [f"trunkline.ticket.{ticket}", "trunkline.ticket"]
        async with connect(
            url,
            proxy=None,
            origin=pair.two.url,
            subprotocols=offered,  # type: ignore[arg-type]
        ) as there:
            assert there.subprotocol == "trunkline.ticket"
            assert (await ask(there, "facts"))["pid"] == pid
        for platform in pair.both:
            with pytest.raises(InvalidStatus) as caught:
                await connect(platform.websocket_url(AGENT), proxy=None, subprotocols=offered)
            assert caught.value.response.status_code == 401


async def test_frames_of_every_kind_cross_two_platforms(pair: Pair) -> None:
    async with pair.one.connect(AGENT, "frames", token=pair.token) as here:
        await ask(here, "facts")
        async with pair.two.connect(AGENT, "frames", token=pair.token) as there:
            assert there.response is not None
            assert there.response.headers["x-agent-session-id"] == "frames"
            long = "ä" * 100_000
            assert (await ask(there, f"remember {long}"))["memory"] == long
            assert (await ask(here, "facts"))["memory"] == long
            await there.ping()
            await there.close(4321, "my own")
            assert there.close_code == 4321
        assert (await ask(here, "facts"))["starts"] == [(await ask(here, "facts"))["pid"]]
    # The one that has the session knows its version; the other only passed the frames on.
    assert closes_of(pair.one, "frames", code=4321) == ["1"]
    assert closes_of(pair.two, "frames", code=4321) == ["-"]


def closes_of(platform: Platform, session: str, *, code: int) -> list[str]:
    """Return the versions that a platform's log names for connections that ended so."""
    line = rf"connection closed: session=default/{AGENT}/{session} by=client code={code} .* version"
    return re.findall(rf"{line}=(\S*) ", platform.log())


@contextlib.asynccontextmanager
async def running_at_one(pair: Pair, session: str) -> AsyncIterator[dict[str, Any]]:
    """Have the first platform run a session."""
    async with pair.one.connect(AGENT, session, token=pair.token) as websocket:
        yield await ask(websocket, "facts")


async def test_http_calls_reach_the_session_where_it_runs(pair: Pair) -> None:
    async with running_at_one(pair, "http") as facts:
        with pair.http(pair.two) as http:
            body = "x" * 300_000
            answer = await asyncio.to_thread(
                http.post, INVOCATIONS, params={"agent_session_id": "http"}, content=body,
                headers={"x-request-id": "mine-1"},
            )  # fmt: skip
        assert answer.status_code == 200
        told = answer.json()
        assert (told["pid"], told["starts"], told["body"]) == (facts["pid"], facts["starts"], body)
        assert answer.headers["x-agent-session-id"] == "http"
        assert answer.headers.get_list("x-request-id") == ["mine-1"]


async def test_files_and_logs_of_a_session_that_runs_elsewhere(pair: Pair) -> None:
    session = f"{SESSIONS}/files"
    async with pair.one.connect(AGENT, "files", token=pair.token) as websocket:
        await ask(websocket, "say something to remember")
        with pair.http(pair.two) as http:
            content = os.urandom(100_000)
            path = {"path": "memory"}
            answer = await asyncio.to_thread(
                http.put, f"{session}/files/content", params=path, content=b"by file"
            )
            assert answer.status_code == 201, answer.text
            assert (await ask(websocket, "facts"))["memory"] == "by file"
            path = {"path": "a/b"}
            await asyncio.to_thread(
                http.put, f"{session}/files/content", params=path, content=content
            )
            answer = await asyncio.to_thread(http.get, f"{session}/files/content", params=path)
            assert answer.content == content
            log = await asyncio.to_thread(
                http.get, f"{AGENT}/sessions/files:logstream", params={"follow": "false"}
            )
            assert '"session_state": "Running"' in log.text
            assert "something to remember" in log.text


async def test_a_log_is_followed_from_one_platform_to_the_other(pair: Pair) -> None:
    await pair.ask(pair.one, "followed", "say first")
    with pair.http(pair.one) as http:
        assert http.post(f"{SESSIONS}/followed:stop").status_code == 204
    async with httpx2.AsyncClient(trust_env=False, timeout=60) as http:
        url = f"{pair.one.endpoint}/agents/{AGENT}/sessions/followed:logstream?api-version=v1"
        headers = {"Authorization": f"Bearer {pair.token}"}
        async with http.stream("GET", url, headers=headers) as stream:
            lines = stream.aiter_lines()
            await until_line(lines, "first")
            # It is followed where it doesn't run any more, and goes on where it does.
            await pair.ask(pair.two, "followed", "say second")
            await until_line(lines, "second")


async def until_line(lines: AsyncIterator[str], word: str) -> None:
    async for line in lines:
        if f'"{word}"' in line:
            return
    raise AssertionError(f"the stream ended without {word}")


async def test_stopping_and_deleting_at_the_other_platform(pair: Pair) -> None:
    async with running_at_one(pair, "stopped") as facts:
        with pair.http(pair.two) as http:
            answer = await asyncio.to_thread(http.post, f"{SESSIONS}/stopped:stop")
            assert answer.status_code == 204
            assert not is_alive(facts["pid"])
            assert (await asyncio.to_thread(http.get, f"{SESSIONS}/stopped")).json()[
                "status"
            ] == "idle"
    again = await pair.ask(pair.two, "stopped")
    assert again["starts"] == [facts["pid"], again["pid"]]
    with pair.http(pair.one) as http:
        assert (await asyncio.to_thread(http.delete, f"{SESSIONS}/stopped")).status_code == 204
        assert (await asyncio.to_thread(http.get, f"{SESSIONS}/stopped")).status_code == 404
    assert not is_alive(again["pid"])
    fresh = await pair.ask(pair.one, "stopped")
    assert fresh["starts"] == [fresh["pid"]]


async def test_refusals_come_through_as_they_are(pair: Pair) -> None:
    stranger = pair.one.token("--user", "stranger")
    async with running_at_one(pair, "private"):
        with pytest.raises(InvalidStatus) as caught:
            async with pair.two.connect(AGENT, "private", token=stranger):
                pass
        assert caught.value.response.status_code == 403
        # What has gone round too often is not sent round again.
        url = pair.two.endpoint.replace("http", "ws", 1)
        with pair.http(pair.two) as http:
            answer = await asyncio.to_thread(
                http.post, INVOCATIONS, params={"agent_session_id": "private"},
                headers={"x-trunkline-hops": "3"}, content=b"",
            )  # fmt: skip
        assert answer.status_code == 503, url
        assert answer.json()["error"]["code"] == "unavailable"


async def test_an_agent_is_deleted_with_sessions_on_both(pair: Pair, tmp_path: Path) -> None:
    folder = tmp_path / "agent"
    shutil.copytree(AGENTS / "witness", folder)
    manifest = folder / "agent.yaml"
    manifest.write_text(manifest.read_text().replace(AGENT, "doomed"))
    assert pair.two.deploy(folder)[:2] == ["doomed", "1"]
    async with (
        pair.one.connect("doomed", "a", token=pair.token) as first,
        pair.two.connect("doomed", "b", token=pair.token) as second,
    ):
        pids = [(await ask(each, "facts"))["pid"] for each in (first, second)]
        with pair.http(pair.two) as http:
            answer = await asyncio.to_thread(http.delete, "doomed", params={"force": "true"})
            assert answer.status_code == 200, answer.text
            assert http.get("doomed").status_code == 404
        assert not any(is_alive(pid) for pid in pids)
    assert pair.one.deploy(folder)[:2] == ["doomed", "1"]
    fresh = await asyncio.wait_for(first_of(pair, "doomed"), PATIENCE_S)
    assert fresh["starts"] == [fresh["pid"]]


async def first_of(pair: Pair, agent: str) -> Any:
    async with pair.two.connect(agent, "a", token=pair.token) as websocket:
        return await ask(websocket, "facts")


# Endings


async def test_the_sessions_of_one_that_is_killed_go_on_at_the_other(mortal: Pair) -> None:
    names = [f"s{number}" for number in range(4)]
    async with contextlib.AsyncExitStack() as stack:
        before = {}
        relayed = []
        for name in names:
            here = await stack.enter_async_context(
                mortal.one.connect(AGENT, name, token=mortal.token)
            )
            before[name] = await ask(here, f"remember {name}")
            there = await stack.enter_async_context(
                mortal.two.connect(AGENT, name, token=mortal.token)
            )
            assert (await ask(there, "facts"))["pid"] == before[name]["pid"]
            relayed.append(there)
        mortal.one.signal(signal.SIGKILL)
        mortal.one.wait()
        for websocket in relayed:
            with pytest.raises(ConnectionClosed):
                await websocket.recv()
            assert websocket.close_code == 1011
            assert "connect again" in (websocket.close_reason or "")
        after = dict(
            zip(
                names,
                await asyncio.gather(*(mortal.ask_patiently(mortal.two, name) for name in names)),
                strict=True,
            )
        )
    for name in names:
        old, new = before[name], after[name]
        assert new["memory"] == name
        assert new["starts"] == [old["pid"], new["pid"]]
        assert not is_alive(old["pid"])
    mortal.one.start()
    back = await mortal.ask(mortal.one, names[0])
    assert back["pid"] == after[names[0]]["pid"]


@contextlib.asynccontextmanager
async def following(platform: Platform, session: str, token: str) -> AsyncIterator[Any]:
    """Follow a session's log."""
    url = f"{platform.endpoint}/agents/{AGENT}/sessions/{session}:logstream?api-version=v1"
    headers = {"Authorization": f"Bearer {token}"}
    async with (
        httpx2.AsyncClient(trust_env=False, timeout=60) as http,
        http.stream("GET", url, headers=headers) as stream,
    ):
        yield stream


async def read_to_its_end(stream: Any) -> None:
    async for _ in stream.aiter_bytes():
        pass


async def test_one_that_was_taken_for_dead_ends_its_sessions_and_joins_again(
    mortal: Pair,
) -> None:
    async with contextlib.AsyncExitStack() as stack:
        here = await stack.enter_async_context(
            mortal.one.connect(AGENT, "paused", token=mortal.token)
        )
        old = await ask(here, "remember this")
        relayed = await stack.enter_async_context(
            mortal.two.connect(AGENT, "paused", token=mortal.token)
        )
        log = await stack.enter_async_context(following(mortal.two, "paused", mortal.token))
        serving = mortal.one.serving_pid
        os.kill(serving, signal.SIGSTOP)
        try:
            # Those who came to it by the other one are told, though it keeps their connections.
            with pytest.raises(ConnectionClosed):
                await asyncio.wait_for(relayed.recv(), PATIENCE_S)
            assert relayed.close_code == 1011
            with contextlib.suppress(httpx2.TransportError):
                await asyncio.wait_for(read_to_its_end(log), PATIENCE_S)
            new = await mortal.ask_patiently(mortal.two, "paused")
            # By then the old one has ended, whatever its platform does.
            assert not is_alive(old["pid"])
        finally:
            os.kill(serving, signal.SIGCONT)
        with pytest.raises(ConnectionClosed):
            await here.recv()
    assert (new["memory"], new["starts"]) == ("this", [old["pid"], new["pid"]])
    # It may still be joining; then the session is reached where it runs.
    again = await mortal.ask_patiently(mortal.one, "paused")
    assert again["pid"] == new["pid"]
    assert "this process was taken for dead" in mortal.one.log()
    own = await mortal.ask_patiently(mortal.one, "new")
    assert own["starts"] == [own["pid"]]


async def test_one_that_stops_in_good_order_leaves_its_sessions_at_once(mortal: Pair) -> None:
    old = await mortal.ask(mortal.one, "moved", "remember this")
    assert mortal.one.stop() == 0
    assert not is_alive(old["pid"])
    new = await mortal.ask(mortal.two, "moved")
    assert (new["memory"], new["starts"]) == ("this", [old["pid"], new["pid"]])


def test_another_store_may_not_use_the_state_directory(pair: Pair) -> None:
    other = Platform(pair.one.state_dir)
    other.log_path = pair.one.state_dir.parent / "other.log"
    with pytest.raises(AssertionError, match="another trunkline uses the state directory"):
        other.start()
    assert other.wait() == 1


def test_a_state_directory_of_its_own_is_refused(pair: Pair) -> None:
    """Its code, its sessions' files and its keys would be others than the store says."""
    other = Platform(pair.one.state_dir.parent / "other", **pair.one.settings)
    with pytest.raises(AssertionError, match="belongs to another state directory"):
        other.start()
    assert other.wait() == 1
    assert "Traceback" not in other.log()


def test_both_say_that_they_are_ready(pair: Pair) -> None:
    for platform in pair.both:
        with httpx2.Client(trust_env=False) as http:
            assert json.loads(http.get(f"{platform.url}/readyz").text) == {"status": "ready"}
