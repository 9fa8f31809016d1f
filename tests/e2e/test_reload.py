"""The platform's process is replaced, and nobody who talks or listens notices."""

import asyncio
import json
import os
import re
import shutil
import signal
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import httpx2
import pytest

from tests.e2e.conftest import AGENTS
from tests.support.counting import Conversation, OwnLateness, conversations
from tests.support.platform import Platform, ask, until_ended, until_gone

INVOCATIONS = "/agents/counter/endpoint/protocols/invocations"


@pytest.fixture(scope="module")
def settings() -> Iterator[dict[str, str]]:
    with tempfile.TemporaryDirectory(prefix="trunkline-test-") as folder:
        # A setting that can be changed while the platform runs.
        place = Path(folder) / "url"
        place.write_text(f"sqlite:///{folder}/store.db")
        yield {"TRUNKLINE_STORE_URL_FILE": str(place)}


def slowest_ms(talking: Sequence[Conversation]) -> float:
    """Return what the slowest answer of all took so far, and begin anew."""
    slowest = max(each.slowest_answer_s for each in talking)
    for each in talking:
        each.slowest_answer_s = 0.0
    return slowest * 1000


async def reload(platform: Platform) -> dict[str, Any]:
    """Have the platform's process replaced; return what it reports."""
    done = await asyncio.to_thread(platform.run, "gateway", "reload", "-o", "json")
    assert done.code == 0, done.stderr
    report: dict[str, Any] = json.loads(done.stdout)
    return report


async def test_fifty_conversations_across_three_reloads(
    platform: Platform, counter: str, token: str
) -> None:
    sessions = [f"c{number % 5}" for number in range(50)]
    pids = {platform.serving_pid}
    async with conversations(platform, token, sessions, pace_s=0.05) as talking:
        for _ in range(3):
            await asyncio.sleep(0.3)
            report = await reload(platform)
            assert report["connections_moved"] == 50
            assert report["left_behind"] == 0
            pids.add(report["pid"])
        await asyncio.sleep(0.3)
    assert len(pids) == 4
    assert all(each.received == each.sent > 10 for each in talking)
    # The processes that were replaced have nothing more to do.
    for pid in pids - {platform.serving_pid}:
        await until_ended(pid)
    for session in set(sessions):
        events = platform.events(counter, session)
        assert events.count("Started") == 1
        assert events.count("ConnectionClosed: by=client code=1000") == 10


@pytest.mark.long
@pytest.mark.timeout(1100)
async def test_a_thousand_conversations_across_twenty_reloads(
    platform: Platform, counter: str, token: str
) -> None:
    sessions = [f"many{number % 10}" for number in range(1000)]
    pauses_ms = []
    late = OwnLateness()
    async with conversations(platform, token, sessions, pace_s=1.0, large_every=20) as talking:
        watching = asyncio.create_task(late.watch())
        await asyncio.sleep(3)
        quiet_ms, quiet_late_ms = slowest_ms(talking), late.take_ms()
        for _ in range(20):
            await asyncio.sleep(0.5)
            report = await reload(platform)
            assert report["connections_moved"] == 1000
            assert report["left_behind"] == 0
            pauses_ms.append(report["longest_pause_ms"])
        reloading_ms, late_ms = slowest_ms(talking), late.take_ms()
        watching.cancel()
    assert all(each.received == each.sent > 20 for each in talking)
    print(f"\nlongest pause of any connection, by reload, in ms: {pauses_ms}")
    print(
        f"slowest answer of any: {reloading_ms:.0f} ms, before the first reload {quiet_ms:.0f} ms\n"
        f"the clients themselves were late by up to {late_ms:.0f} ms, before {quiet_late_ms:.0f} ms"
    )
    print(f"messages: {sum(each.received for each in talking)}, lost, doubled, out of order: 0")


async def test_output_is_in_the_log_once(platform: Platform, counter: str, token: str) -> None:
    async with platform.connect(counter, "prints", token=token) as websocket:
        await websocket.send("print 3000")
        for _ in range(2):
            await reload(platform)
        assert await websocket.recv() == "printed"
    console = b"".join(
        path.read_bytes() for path in platform.state_dir.glob("sessions/*/logs/console-*.log")
    )
    lines = [int(number) for number in re.findall(rb" stdout F line (\d+)\n", console)]
    assert lines == list(range(3000))


async def test_what_is_under_way_is_finished(
    platform: Platform, counter: str, http: httpx2.AsyncClient
) -> None:
    query = {"agent_session_id": "busy"}
    async with http.stream("POST", INVOCATIONS, params=query) as answer:
        parts = answer.aiter_text()
        first = await anext(parts)
        old = platform.serving_pid
        await reload(platform)
        assert Path(f"/proc/{old}/stat").exists()
        # Others talk to the same session meanwhile, through the new process.
        assert platform.serving_pid != old
        short = await http.post(INVOCATIONS, params=query | {"seconds": "0.1", "finish": ""})
        assert short.text == "0\n"
        rest = [part async for part in parts]
    lines = "".join([first, *rest]).splitlines()
    assert lines == [str(tenth) for tenth in range(len(lines))]
    assert len(lines) > 5
    await until_ended(old)
    assert (await http.get("/agents")).status_code == 200


async def test_a_kept_alive_http_connection_moves_between_its_requests(platform: Platform) -> None:
    host, port = platform.url.removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    moved = 0
    for _ in range(2):
        reloading = asyncio.create_task(reload(platform))
        while not reloading.done():
            writer.write(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
            head = await reader.readuntil(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 200")
            length = re.search(rb"content-length: (\d+)", head)
            assert length is not None
            await reader.readexactly(int(length[1]))
            await asyncio.sleep(0.02)
        moved += (await reloading)["http_connections_moved"]
    assert moved == 2
    writer.close()
    await writer.wait_closed()


async def test_calls_that_begin_during_a_reload(
    platform: Platform, counter: str, token: str, http: httpx2.AsyncClient
) -> None:
    is_over = False

    async def call(number: int) -> int:
        calls = 0
        while not is_over:
            session = f"new-{number}-{calls % 2}"
            async with platform.connect(counter, session, token=token) as websocket:
                await websocket.send("0 hello")
                assert await websocket.recv() == "0 hello"
            answer = await http.get(f"/agents/counter/endpoint/sessions/{session}")
            assert answer.json()["status"] == "active"
            calls += 1
        return calls

    async with asyncio.TaskGroup() as group:
        callers = [group.create_task(call(number)) for number in range(3)]
        for _ in range(2):
            await asyncio.sleep(0.5)
            await reload(platform)
        is_over = True
    assert all(caller.result() for caller in callers)
    assert platform.log().count("Traceback") == 0


async def test_a_signal_does_it_too(platform: Platform, probe: str, token: str) -> None:
    async with platform.connect(probe, "signalled", token=token) as websocket:
        serving = platform.serving_pid
        platform.signal(signal.SIGUSR2)
        await until_ended(serving, 60)
        assert await ask(websocket, "still here") == "still here"
    assert platform.serving_pid != serving


def test_a_reload_of_nothing(platform: Platform, tmp_path: Path) -> None:
    done = platform.run("gateway", "reload", "--state-dir", str(tmp_path))
    assert done.code == 1
    assert "no platform runs on" in done.stderr


async def test_everything_ends_with_the_new_process(
    platform: Platform, probe: str, token: str
) -> None:
    async with platform.connect(probe, "ends", token=token) as websocket:
        agent = (await ask(websocket, "facts"))["pid"]
        await reload(platform)
        assert await ask(websocket, "still here") == "still here"
        serving = platform.serving_pid
        platform.signal(signal.SIGKILL)
        platform.wait()
        await until_ended(serving)
        await until_gone(agent)
    platform.start()
    async with platform.connect(probe, "ends", token=token) as websocket:
        agent = (await ask(websocket, "facts"))["pid"]
        await reload(platform)
        os.kill(platform.serving_pid, signal.SIGKILL)
        assert platform.wait() == -signal.SIGKILL
        await until_gone(agent)
    platform.start()


async def test_a_process_that_cannot_start_changes_nothing(
    platform: Platform, probe: str, token: str
) -> None:
    async with platform.connect(probe, "stays", token=token) as websocket:
        before = await ask(websocket, "facts")
        serving = platform.serving_pid
        place = Path(platform.settings["TRUNKLINE_STORE_URL_FILE"])
        url = place.read_text()
        for text, words in (("", "is empty"), (f"{url}.other", "sessions can.t move from")):
            place.write_text(text)
            with pytest.raises(AssertionError, match=words):
                await reload(platform)
        place.write_text(url)
        assert (await ask(websocket, "facts"))["pid"] == before["pid"]
        assert platform.serving_pid == serving
        report = await reload(platform)
        assert report["connections_moved"] == 1
        assert (await ask(websocket, "facts"))["pid"] == before["pid"]


async def test_a_process_that_breaks_halfway_changes_nothing() -> None:
    folder = Path(tempfile.mkdtemp(prefix="trunkline-test-"))
    own = Platform(
        folder / "state",
        TRUNKLINE_SESSIONS_UPKEEP_INTERVAL_S="0.2",
        TRUNKLINE_SESSIONS_NODE_TIMEOUT_S="1",
    ).start()
    try:
        own.deploy(AGENTS / "probe")
        async with own.connect("probe", "stays", token=own.token()) as websocket:
            before = await ask(websocket, "facts")
            key = own.state_dir / "issuer.pem"
            content = key.read_bytes()
            # By then it has the store and the node's name, and would give them up at its end.
            key.write_bytes(b"this is no key")
            with pytest.raises(AssertionError, match="wasn't replaced and goes on as it is"):
                await reload(own)
            key.write_bytes(content)
            await asyncio.sleep(1)
            assert (await ask(websocket, "facts"))["pid"] == before["pid"]
            assert (await reload(own))["connections_moved"] == 1
            await asyncio.sleep(1)
            assert (await ask(websocket, "facts"))["pid"] == before["pid"]
        assert "taken for dead" not in own.log()
        assert own.stop() == 0
    finally:
        own.stop()
        shutil.rmtree(folder)
