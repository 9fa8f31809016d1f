"""What every runtime does with agents."""

import asyncio
import contextlib
import hashlib
import json
import os
import resource
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from tests.conformance.runtimes.support import (
    NODE,
    RecordingSink,
    Starter,
    ask,
    can_bind,
    find_process,
    is_running,
    wait_gone,
)
from trunkline.protocol.errors import SessionNotReadyError, UnavailableError
from trunkline.protocol.ids import NodeId
from trunkline.runtimes.interface import ExitStatus, LogStream, ResourceUse

FLOOD_BYTES = 100 * 1024 * 1024


def about(home: Path) -> dict[str, object]:
    found: dict[str, object] = json.loads((home / "about.json").read_text())
    return found


def process_of(home: Path, name: str = "pid") -> int | None:
    """Return our number for an agent's process, or for its child; None if it doesn't run."""
    found = about(home)
    number = int(str(found["pid"])) if name == "pid" else int((home / name).read_text())
    return find_process(number, str(found["namespace"]))


def is_agent_running(home: Path) -> bool:
    pid = process_of(home)
    return pid is not None and is_running(pid)


@pytest.mark.parametrize(
    ("listen", "is_socket"), [("socket", True), ("port", False), ("any-port", False)]
)
async def test_agent_is_ready_where_it_listens(
    starter: Starter, sandbox: str, listen: str, is_socket: bool
) -> None:
    instance, sink = await starter.start("--listen", listen)
    if sandbox != "off":
        # Its port is in a network of its own; a Unix socket leads there.
        assert instance.address.path is not None
        assert sink.events[-1][1].endswith("on its Unix socket" if is_socket else "on port 8088")
        is_socket = True
    assert (instance.address.path is not None) is is_socket
    assert (instance.address.port is None) is is_socket
    assert (await ask(instance.address, "/x")).endswith(b"hello")
    assert sink.reasons == ["Starting", "Started", "Ready"]
    await instance.stop()


async def test_exit_is_seen_with_its_code(starter: Starter) -> None:
    instance, sink = await starter.start()
    await ask(instance.address, "/exit/3")
    assert await instance.wait_exited() == ExitStatus(code=3)
    assert sink.events[-1][0] == "Exited"
    assert sink.events[-1][1].startswith("exit code 3, after ")


async def test_crash_is_seen_with_its_signal(starter: Starter) -> None:
    instance, sink = await starter.start()
    os.kill(instance.pid, signal.SIGSEGV)
    assert await instance.wait_exited() == ExitStatus(signal=11)
    assert sink.events[-1][1].startswith("signal 11, after ")


async def test_exit_is_told_to_all_who_wait(starter: Starter) -> None:
    instance, _ = await starter.start()
    waits = [asyncio.create_task(instance.wait_exited()) for _ in range(20)]
    waits[0].cancel()
    await ask(instance.address, "/exit/0")
    assert await asyncio.gather(*waits[1:]) == [ExitStatus(code=0)] * 19
    assert waits[0].cancelled()
    assert await instance.wait_exited() == ExitStatus(code=0)


async def test_output_from_before_it_was_ready_is_kept(starter: Starter) -> None:
    instance, sink = await starter.start("--say", "first\nunfinished", "--complain", "oh")
    await instance.stop()
    assert sink.stdout == "first\nunfinished"
    assert sink.data[LogStream.STDERR] == b"oh"
    assert sorted(sink.closed) == [LogStream.STDERR, LogStream.STDOUT]
    assert sink.after_close == 0


async def test_last_words_are_kept(starter: Starter) -> None:
    instance, sink = await starter.start("--farewell", "bye")
    assert await instance.stop() == ExitStatus(code=0)
    assert sink.stdout == "bye\n"


async def test_end_before_ready_says_how(starter: Starter) -> None:
    sink = RecordingSink()
    spec = starter.spec("--exit", "1", "--complain", "Traceback\nValueError: no key\n\n")
    with pytest.raises(SessionNotReadyError) as caught:
        await starter.runtime.start(spec, sink)
    assert str(caught.value) == (
        "the agent ended with exit code 1 before it was ready; "
        "its last line was: ValueError: no key"
    )
    assert sink.reasons == ["Starting", "Started", "Exited"]
    assert b"Traceback" in sink.data[LogStream.STDERR]


async def test_end_before_ready_by_signal_without_words(starter: Starter) -> None:
    spec = starter.spec("--kill", "9")
    with pytest.raises(SessionNotReadyError) as caught:
        await starter.runtime.start(spec, RecordingSink())
    assert str(caught.value) == "the agent ended with signal 9 before it was ready"


async def test_last_line_is_cut(starter: Starter) -> None:
    spec = starter.spec("--exit", "0", "--say", "x" * 5000)
    with pytest.raises(SessionNotReadyError) as caught:
        await starter.runtime.start(spec, RecordingSink())
    assert str(caught.value).endswith(": " + "x" * 200)


@pytest.mark.parametrize("status", ["503 Busy", "404 Not Found"])
async def test_not_ready_in_time_is_stopped(starter: Starter, status: str) -> None:
    sink = RecordingSink()
    spec = starter.spec("--status", status, "--say", "loading", ready_timeout_s=2)
    with pytest.raises(SessionNotReadyError) as caught:
        await starter.runtime.start(spec, sink)
    assert str(caught.value) == (
        "the agent wasn't ready within 2 s (ready_timeout_s); its last line was: loading"
    )
    assert sink.reasons == ["Starting", "Started", "NotReady", "Stopping", "Exited"]
    assert not is_agent_running(spec.home)


async def test_not_ready_in_time_and_deaf_is_killed(starter: Starter) -> None:
    sink = RecordingSink()
    spec = starter.spec(
        "--listen", "nowhere", "--ignore-term", ready_timeout_s=2, stop_timeout_s=0.1
    )
    with pytest.raises(SessionNotReadyError):
        await starter.runtime.start(spec, sink)
    assert sink.events[-1][1].startswith("signal 9")


async def test_missing_program_is_told(starter: Starter) -> None:
    spec = starter.spec()
    spec = replace(spec, launch=replace(spec.launch, command=("/nowhere/python",)))
    with pytest.raises(SessionNotReadyError):
        await starter.runtime.start(spec, RecordingSink())


async def test_missing_working_dir_is_told(starter: Starter) -> None:
    spec = starter.spec()
    spec = replace(spec, launch=replace(spec.launch, working_dir="/nowhere"))
    sink = RecordingSink()
    with pytest.raises(SessionNotReadyError, match=r"couldn't be started: No such file"):
        await starter.runtime.start(spec, sink)
    assert sink.reasons == ["Starting", "NotReady"]
    assert len(sink.closed) == 2


async def test_flood_is_kept_whole_without_growing_or_starving(starter: Starter) -> None:
    sent = hashlib.sha256()
    block = bytes(range(256)) * 1024
    for _ in range(FLOOD_BYTES // len(block)):
        sent.update(block)

    class CountingSink(RecordingSink):
        turns = 0
        chunks = 0
        largest = 0
        starved = 0
        turns_seen = 0
        received = hashlib.sha256()
        bytes_received = 0

        def write(self, stream: LogStream, data: bytes) -> None:
            self.chunks += 1
            self.largest = max(self.largest, len(data))
            self.starved += self.turns == self.turns_seen
            self.turns_seen = self.turns
            self.bytes_received += len(data)
            self.received.update(data)

    sink = CountingSink()
    instance = await starter.runtime.start(starter.spec("--flood", str(FLOOD_BYTES)), sink)

    async def take_turns() -> None:
        while True:
            sink.turns += 1
            await asyncio.sleep(0)

    resident_before = resident_bytes()
    turns = asyncio.create_task(take_turns())
    await ask(instance.address, "/flood")
    assert await instance.wait_exited() == ExitStatus(code=0)
    turns.cancel()
    assert sink.bytes_received == FLOOD_BYTES
    assert sink.received.digest() == sent.digest()
    assert sink.largest <= 64 * 1024
    # Another task had its turn between any two chunks, but for a few at the edges.
    assert sink.starved < sink.chunks / 100 + 5
    assert resident_bytes() - resident_before < 16 * 1024 * 1024


def resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


async def test_stop_ends_it_and_may_be_called_again(starter: Starter) -> None:
    instance, sink = await starter.start()
    statuses = await asyncio.gather(*(instance.stop() for _ in range(5)))
    assert statuses == [ExitStatus(signal=15)] * 5
    assert await instance.stop() == ExitStatus(signal=15)
    assert sink.reasons.count("Stopping") == 1
    assert not is_running(instance.pid)


async def test_stop_after_the_end_only_waits(starter: Starter) -> None:
    instance, sink = await starter.start()
    await ask(instance.address, "/exit/0")
    await instance.wait_exited()
    assert await instance.stop() == ExitStatus(code=0)
    assert "Stopping" not in sink.reasons


async def test_cancelled_stop_goes_on(starter: Starter) -> None:
    instance, sink = await starter.start("--farewell", "bye")
    stop = asyncio.create_task(instance.stop())
    await sink.wait_until(lambda: "Stopping" in sink.reasons)
    stop.cancel()
    assert await instance.wait_exited() == ExitStatus(code=0)


async def test_deaf_agent_is_killed(starter: Starter) -> None:
    instance, sink = await starter.start("--ignore-term", stop_timeout_s=0.1)
    assert await instance.stop() == ExitStatus(signal=9)
    assert any("stop_timeout_s" in message for _, message in sink.events)


@pytest.mark.parametrize("end", ["stop", "exit"])
async def test_children_end_with_it(starter: Starter, end: str) -> None:
    sink = RecordingSink()
    spec = starter.spec("--child")
    instance = await starter.runtime.start(spec, sink)
    child = process_of(spec.home, "child")
    assert child is not None
    assert is_running(child)
    if end == "stop":
        await instance.stop()
    else:
        await ask(instance.address, "/exit/0")
        await instance.wait_exited()
    await wait_gone(child)
    assert "OutputCut" not in sink.reasons


async def test_escaped_child_does_not_hold_the_end_up(starter: Starter, sandbox: str) -> None:
    sink = RecordingSink()
    spec = starter.spec("--escape", "--say", "hello")
    instance = await starter.runtime.start(spec, sink)
    child = process_of(spec.home, "child")
    assert child is not None
    try:
        await instance.stop()
        assert sink.stdout == "hello"
        assert len(sink.closed) == 2
        if sandbox == "off":
            assert sink.reasons[-2:] == ["OutputCut", "Exited"]
        else:
            # It ends with the sandbox.
            assert sink.reasons[-2:] == ["Stopping", "Exited"]
            assert not is_running(child)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.kill(child, signal.SIGKILL)


@pytest.mark.parametrize("arguments", [[], ["--ignore-term"]])
async def test_cancelled_start_ends_the_process(starter: Starter, arguments: list[str]) -> None:
    sink = RecordingSink()
    spec = starter.spec("--listen", "nowhere", "--say", "up", *arguments, stop_timeout_s=0.2)
    start = asyncio.create_task(starter.runtime.start(spec, sink))
    await sink.wait_until(lambda: sink.stdout == "up")
    start.cancel()
    with pytest.raises(asyncio.CancelledError):
        await start
    assert sink.reasons[-1] == "Exited"
    assert not is_agent_running(spec.home)


async def test_start_cancelled_at_once_leaves_nothing(starter: Starter) -> None:
    # What is found out at the first start only is known by then.
    await (await starter.start())[0].stop()
    sink = RecordingSink()
    start = asyncio.create_task(starter.runtime.start(starter.spec(), sink))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    start.cancel()
    with pytest.raises(asyncio.CancelledError):
        await start
    assert sink.reasons[-1] == "Exited"


async def test_sessions_are_apart(starter: Starter, sandbox: str) -> None:
    specs = [starter.spec("--listen", "port") for _ in range(3)]
    instances = await asyncio.gather(
        *(starter.runtime.start(spec, RecordingSink()) for spec in specs)
    )
    found = [about(spec.home) for spec in specs]
    environments = [one["environment"] for one in found]
    if sandbox == "off":
        for name in ("PORT", "HOME", "TRUNKLINE_AGENT_SOCKET"):
            assert len({one[name] for one in environments}) == 3  # type: ignore[index]
        homes = [one["HOME"] for one in environments]  # type: ignore[index]
        assert homes == [str(spec.home) for spec in specs]
        assert all(one["sid"] == one["pid"] for one in found)
    assert len({str(instance.address) for instance in instances}) == 3
    assert len({find_process(int(str(one["pid"])), str(one["namespace"])) for one in found}) == 3


async def test_environment_is_ours_and_nothing_else(
    starter: Starter, sandbox: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TRUNKLINE_SECRET", "hunter2")
    spec = starter.spec(environment={"BOTH": "spec", "FOUNDRY_AGENT_NAME": "echo", "PORT": "1"})
    await starter.runtime.start(spec, RecordingSink())
    environment = about(spec.home)["environment"]
    assert isinstance(environment, dict)
    environment.pop("LC_CTYPE", None)  # set by Python itself in the C locale
    assert environment.pop("PORT") != "1"
    assert environment.pop("TRUNKLINE_AGENT_SOCKET").endswith(".sock")
    home = str(spec.home)
    if sandbox != "off":
        home = "/home/session"
        for name in ("HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy"):
            assert environment.pop(name) == "http://127.0.0.1:3128"
        for name in ("NO_PROXY", "no_proxy"):
            assert environment.pop(name) == "localhost,127.0.0.1,::1"
    assert environment == {
        "PATH": f"/env/bin:{os.defpath}",
        "TZ": "Europe/Vienna",
        "FROM_LAUNCH": "launch",
        "BOTH": "spec",
        "FOUNDRY_AGENT_NAME": "echo",
        "HOME": home,
        "TRUNKLINE_NODE": NODE,
        "PYTHONUNBUFFERED": "1",
    }


async def test_leftovers_of_a_dead_platform_are_ended_and_others_are_not(starter: Starter) -> None:
    """A process that left its group and session is found; one of another platform stays."""

    def start(node: str) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            [sys.executable, "-I", "-c", "print(flush=True); import time; time.sleep(600)"],
            env={"TRUNKLINE_NODE": node},
            stdout=subprocess.PIPE,
            start_new_session=True,
        )

    with start("node-dead") as ours, start("node-dea") as others:
        try:
            for process in (ours, others):
                assert process.stdout is not None
                await asyncio.to_thread(process.stdout.readline)
            assert await starter.runtime.end_leftovers(NodeId("node-dead")) == 1
            assert await asyncio.to_thread(ours.wait) == -signal.SIGKILL
            assert await starter.runtime.end_leftovers(NodeId("node-dead")) == 0
            assert others.poll() is None
        finally:
            for process in (ours, others):
                process.kill()


async def test_leftovers_are_ended_by_a_platform_with_many_descriptors(starter: Starter) -> None:
    """A busy platform's descriptors have numbers that select() doesn't take."""
    command = [sys.executable, "-I", "-c", "print(flush=True); import time; time.sleep(600)"]
    with contextlib.ExitStack() as stack:
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        stack.callback(resource.setrlimit, resource.RLIMIT_NOFILE, (soft, hard))
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, 2048), hard))
        process = stack.enter_context(
            subprocess.Popen(command, env={"TRUNKLINE_NODE": "node-x"}, stdout=subprocess.PIPE)
        )
        stack.callback(process.kill)
        assert process.stdout is not None
        await asyncio.to_thread(process.stdout.readline)
        for _ in range(1100):
            stack.callback(os.close, os.open(os.devnull, os.O_RDONLY))
        assert await starter.runtime.end_leftovers(NodeId("node-x")) == 1
        assert await asyncio.to_thread(process.wait) == -signal.SIGKILL


async def test_leftovers_that_cannot_be_seen_are_not_taken_for_ended(starter: Starter) -> None:
    command = [sys.executable, "-I", "-c", "print(flush=True); import time; time.sleep(600)"]
    with contextlib.ExitStack() as stack:
        process = stack.enter_context(
            subprocess.Popen(command, env={"TRUNKLINE_NODE": "node-y"}, stdout=subprocess.PIPE)
        )
        stack.callback(process.kill)
        assert process.stdout is not None
        await asyncio.to_thread(process.stdout.readline)
        # What the event loop and its threads need is there by then.
        assert await starter.runtime.end_leftovers(NodeId("nobody")) == 0
        limits = resource.getrlimit(resource.RLIMIT_NOFILE)
        lowest_free = os.open(os.devnull, os.O_RDONLY)
        stack.callback(os.close, lowest_free)
        resource.setrlimit(resource.RLIMIT_NOFILE, (lowest_free, limits[1]))
        stack.callback(resource.setrlimit, resource.RLIMIT_NOFILE, limits)
        with pytest.raises(UnavailableError, match="can't be seen"):
            await starter.runtime.end_leftovers(NodeId("node-y"))
        assert process.poll() is None


async def test_process_starts_clean(starter: Starter) -> None:
    spec = starter.spec()
    await starter.runtime.start(spec, RecordingSink())
    found = about(spec.home)
    assert found["cwd"] == spec.launch.working_dir
    assert found["stdin"] == "/dev/null"
    # The three standard ones, and the one that lists them.
    assert found["fds"] == 4


async def test_socket_is_private_and_removed(starter: Starter) -> None:
    instance, _ = await starter.start()
    path = Path(instance.address.path or "")
    assert path.parent.stat().st_mode & 0o777 == 0o700
    assert path.parent.parent.stat().st_mode & 0o777 == 0o700
    await instance.stop()
    assert not path.parent.exists()


async def test_port_is_kept_while_the_agent_uses_it(starter: Starter, sandbox: str) -> None:
    if sandbox != "off":
        # It has all the ports of a network of its own.
        return
    instance, _ = await starter.start("--listen", "port")
    port = instance.address.port or 0
    assert not can_bind(port)
    await instance.stop()


async def test_probe_that_hangs_is_repeated(starter: Starter) -> None:
    instance, sink = await starter.start("--hang-first")
    assert sink.reasons[-1] == "Ready"
    await instance.stop()


async def test_aclose_stops_all_and_starts_no_more(starter: Starter) -> None:
    running, _ = await starter.start()
    sink = RecordingSink()
    spec = starter.spec("--listen", "nowhere", "--say", "up")
    starting = asyncio.create_task(starter.runtime.start(spec, sink))
    await sink.wait_until(lambda: sink.stdout == "up")
    await starter.runtime.aclose()
    with pytest.raises(SessionNotReadyError, match="was stopped before it was ready"):
        await starting
    assert not is_running(running.pid)
    with pytest.raises(UnavailableError):
        await starter.start()
    await starter.runtime.aclose()


async def test_what_an_agent_uses_is_measured_against_its_limits(
    starter: Starter, sandbox: str
) -> None:
    instance, _ = await starter.start("--say", "hello")
    use = instance.resource_use()
    if sandbox == "required":
        assert use.cpu is not None
        assert use.memory is not None
        # Python has started: it took some time, and far from all that it may have.
        assert 0.001 < use.cpu.used < 20
        assert use.cpu.limit == 1
        assert 1024**2 < use.memory.used < use.memory.limit == 2 * 1024**3
    await instance.stop()
    # Nobody counts any more, and nothing breaks.
    assert instance.resource_use() == ResourceUse()
