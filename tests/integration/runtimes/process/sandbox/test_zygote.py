"""Zygotes: what they import, when they are made and end, and what isn't forked from them."""

import asyncio
import logging
import math
import os
import signal
import sys
import textwrap
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.conformance.runtimes.support import RecordingSink, ask, wait_gone
from tests.integration.runtimes.process.sandbox.conftest import Agents
from trunkline.protocol.ids import VersionId
from trunkline.runtimes.interface import ExitStatus, InstanceSpec, StartMode
from trunkline.runtimes.process.sandbox import nurseries


@pytest.mark.parametrize(
    ("module", "reason"),
    [
        ("import threading\nthreading.Thread(target=threading.Event().wait, daemon=True).start()",
         "it starts threads when it is imported"),
        ("import socket\nsock = socket.socket()", "it leaves socket open when it is imported"),
        ("file = open('/etc/hostname')", "it leaves /etc/hostname open when it is imported"),
        ("import os\nloop = os.eventfd(0)", "it leaves anon_inode open when it is imported"),
        ("import subprocess\nchild = subprocess.Popen(['/bin/sleep', '60'])",
         "it starts processes when it is imported"),
        ("import os\nopen(os.path.expanduser('~/cache'), 'w').close()",
         "it writes files when it is imported"),
        ("import os\nname = os.environ.get('KEY', 'none')", "it reads KEY when it is imported"),
        ("import os\nall = dict(os.environ)",
         "it reads the whole environment when it is imported"),
        ("raise ValueError('no')", "importing it fails: ValueError"),
        ("import os\nos._exit(3)", None),
    ],
)  # fmt: skip
async def test_what_a_fork_would_not_have_is_left_out(
    agents: Agents, module: str, reason: str | None
) -> None:
    spec = agents.spec(
        """
        import colorsys, sys
        found = {"was_there": "bad" in sys.modules, "preloaded": "colorsys" in sys.modules}
        try:
            import bad
        except ValueError:
            pass
        serve(found)
        """,
        modules={"bad": module},
        environment={"KEY": "secret"},
    )
    status = await agents.warm_up(spec)
    if reason is None:
        assert status.mode == StartMode.SPAWN
        assert status.reason == "its zygote couldn't be made: the zygote ended"
        return
    if "KEY" in reason:
        # That it isn't the same is seen when there is a session.
        assert status.mode == StartMode.ZYGOTE
        await agents.find(agents.again(spec))
        status = await agents.warm_up(spec)
    assert status.left_out == {"bad": reason}
    assert status.mode == StartMode.ZYGOTE, status.reason
    assert "bad" not in status.preloaded
    assert "colorsys" in status.preloaded
    assert await agents.find(spec) == {"was_there": False, "preloaded": True}


async def test_a_thread_that_is_about_to_end_is_no_reason(agents: Agents) -> None:
    """One that an import has waited for has ended for Python before it has for the kernel."""
    spec = agents.spec(
        "import busy; serve(None)",
        modules={"busy": "import threading, time\n"
                 "threading.Thread(target=time.sleep, args=(0.1,)).start()"},
    )  # fmt: skip
    status = await agents.warm_up(spec)
    assert not status.left_out
    assert "busy" in status.preloaded


async def test_what_a_zygote_cannot_keep_is_in_the_log(
    agents: Agents, caplog: pytest.LogCaptureFixture
) -> None:
    spec = agents.spec("import importlib.metadata; serve(None)")
    broken = Path(spec.launch.environment["PYTHONPATH"]) / "broken.dist-info"
    broken.mkdir()
    (broken / "METADATA").write_bytes(b"\xff")
    with caplog.at_level(logging.DEBUG, "trunkline.runtimes"):
        status = await agents.warm_up(spec)
    assert status.mode == StartMode.ZYGOTE
    assert "importlib.metadata" in status.preloaded
    (said,) = [one.getMessage() for one in caplog.records if "installed" in one.getMessage()]
    assert said.startswith("a zygote couldn't keep all that is installed: [")
    assert "importlib.metadata: UnicodeDecodeError(" in said


#: The numbers that the system gives a program and a fork in a sandbox; a zygote's is higher.
_PROGRAM, _FORK = 2, 3
#: A module whose import takes a zygote until there is a file.
UNTIL = """
    import os, time
    while os.getpid() > 10 and not os.path.exists(__file__ + ".go"):
        time.sleep(0.01)
"""


def worth_the_wait(spec: InstanceSpec, monkeypatch: pytest.MonkeyPatch) -> InstanceSpec:
    """Return the same, whose zygote is waited for however long it takes to be made."""
    monkeypatch.setattr(nurseries, "_WAIT_STARTS", math.inf)
    return replace(spec, ready_timeout_s=1000)


async def test_who_comes_while_the_zygote_is_made_is_forked_from_it(
    agents: Agents, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A program beside it would take as long, and have it take longer."""
    spec = agents.spec("import os, slow; serve(os.getpid())", modules={"slow": UNTIL})
    spec = worth_the_wait(spec, monkeypatch)
    assert await agents.find(spec) == _PROGRAM
    assert agents.status(spec).reason == "its zygote is being made"
    others = [asyncio.create_task(agents.find(agents.again(spec))) for _ in range(3)]
    await asyncio.sleep(0)
    Path(spec.launch.environment["PYTHONPATH"], "slow.py.go").touch()
    assert await asyncio.gather(*others) == [_FORK] * 3


async def test_a_zygote_that_is_long_in_coming_is_not_waited_for(agents: Agents) -> None:
    spec = agents.spec("import os, slow; serve(os.getpid())", modules={"slow": UNTIL})
    for _ in range(2):
        assert await agents.find(agents.again(spec)) == _PROGRAM
    assert agents.status(spec).reason == "its zygote is being made"


async def test_a_zygote_that_is_made_anew_without_a_module_is_not_waited_for(
    agents: Agents, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = agents.spec(
        "import bad, os, slow; serve(os.getpid())",
        modules={"bad": "file = open('/etc/hostname')", "slow": UNTIL},
    )
    spec = worth_the_wait(spec, monkeypatch)
    found = [await agents.find(agents.again(spec)) for _ in range(2)]
    assert found == [_PROGRAM] * 2
    assert "bad" in agents.status(spec).left_out


async def test_starts_take_turns_and_one_that_hangs_holds_nobody_up(tmp_path: Path) -> None:
    agents = Agents(tmp_path, starts_at_once=1)
    spec = agents.spec(
        "import os, time; serve(None) if 'HANG' not in os.environ else time.sleep(1000)"
    )
    hanging = replace(agents.again(spec), environment={"HANG": "1"}, ready_timeout_s=1000)
    try:
        stuck = asyncio.create_task(agents.runtime.start(hanging, RecordingSink()))
        ready: list[int] = []

        async def come(number: int) -> None:
            instance = await agents.runtime.start(agents.again(spec), RecordingSink())
            ready.append(number)
            await instance.stop()

        async with asyncio.TaskGroup() as group:
            for number in range(3):
                group.create_task(come(number))
            while agents.runtime.starts_waiting < 3:
                assert not ready, "they don't wait for their turns"
                await asyncio.sleep(0.01)
        assert ready == [0, 1, 2]
        assert agents.runtime.starts_waiting == 0
        assert not stuck.done()
        stuck.cancel()
        with pytest.raises(asyncio.CancelledError):
            await stuck
    finally:
        await agents.runtime.aclose()


async def test_sessions_outlive_their_zygote_and_another_one_is_made(agents: Agents) -> None:
    spec = agents.spec("import os; serve(os.getppid())")
    await agents.warm_up(spec)
    session = await agents.runtime.start(agents.again(spec), RecordingSink())
    zygote = next(
        int(folder.name)
        for folder in Path("/proc").glob("[0-9]*")
        if b"/run/zygote/start.py" in _command(folder)
        and str(agents._code).encode() in _environment(folder)
        and int(folder.name) != session.pid
    )
    os.kill(zygote, signal.SIGKILL)
    await wait_gone(zygote)
    assert b"200" in await ask(session.address, "/")
    # That is told by its nursery.
    (nursery,) = agents.runtime._nurseries._nurseries
    while not nursery.lost:  # noqa: ASYNC110 - it has nobody to tell
        await asyncio.sleep(0.01)
    assert (await agents.warm_up(spec)).mode == StartMode.ZYGOTE
    assert await session.stop() == ExitStatus(signal=signal.SIGTERM)
    assert await agents.find(agents.again(spec)) == 0


def _command(folder: Path) -> bytes:
    try:
        return (folder / "cmdline").read_bytes()
    except OSError:
        return b""


def _environment(folder: Path) -> bytes:
    try:
        return (folder / "environ").read_bytes()
    except OSError:
        return b""


@pytest.mark.parametrize(
    "harm",
    [
        "zygote['give_up_powers'] = lambda *_: None",
        "zygote['close_all_but'] = lambda *_: None",
        "zygote['os'].setsid = lambda: zygote['os'].fork()",
        "enter = zygote['kernel'].enter\n"
        "zygote['kernel'].enter = lambda space, kind: kind == 0x20000 or enter(space, kind)",
        "write = zygote['os'].write\n"
        "zygote['os'].write = lambda file, data: None if data == b'0' else write(file, data)",
        "zygote['kernel'].enter = lambda space, kind: None",
    ],
)
async def test_a_zygote_that_its_imports_have_turned_gets_no_session(
    agents: Agents, harm: str
) -> None:
    """Who imports what is hostile has a hostile zygote; what comes of it is looked at."""
    spec = agents.spec(
        "import hostile; serve(None)",
        modules={
            "hostile": "import sys\nframe = sys._getframe()\n"
            "while frame is not None and 'give_up_powers' not in frame.f_globals:\n"
            "    frame = frame.f_back\n"
            "if frame is not None:\n    zygote = frame.f_globals\n" + textwrap.indent(harm, "    ")
        },
        environment={"SECRET": "of the session"},
    )
    status = await agents.warm_up(spec)
    assert "hostile" in status.preloaded
    sink = RecordingSink()
    instance = await agents.runtime.start(spec, sink)
    # Nothing has run in it that knew the session; then it is started as a program.
    assert sink.reasons == ["Starting", "NotReady", "Starting", "Started", "Ready"]
    assert "zygote's child" in dict(sink.events)["NotReady"]
    status = agents.status(spec)
    assert status.mode == StartMode.SPAWN
    assert status.reason.startswith("a session couldn't be forked: the zygote's child")
    await instance.stop()


async def test_a_zygote_may_do_nothing_but_enter(agents: Agents) -> None:
    """Importing runs code of others; what it could do is written down by a module."""
    probe = """
        import ctypes, os, socket
        libc = ctypes.CDLL(None, use_errno=True)
        found = {}
        def tried(name, work):
            try:
                found[name] = repr(work())
            except OSError as error:
                found[name] = None
        def call(name, *arguments):
            if getattr(libc, name)(*arguments) < 0:
                raise OSError(ctypes.get_errno(), name)
        tried("unshare", lambda: call("unshare", 0x20000))
        tried("mount", lambda: call("mount", b"none", b"/tmp", b"tmpfs", 0, None))
        tried("chroot", lambda: os.chroot("/"))
        tried("become root", lambda: os.setuid(0))
        tried("become another", lambda: os.setuid(2000000001))
        tried("raw socket", lambda: socket.socket(socket.AF_INET, socket.SOCK_RAW, 1).close())
        tried("reach out", lambda: socket.create_connection(("1.1.1.1", 53), 0.5))
        tried("hostname", lambda: socket.sethostname("x"))
        tried("write here", lambda: open(__file__, "a").close())
        tried("write usr", lambda: open("/usr/x", "w").close())
        tried("signal first", lambda: os.kill(1, 9))
        tried("network", lambda: open("/proc/sys/net/ipv4/ip_forward", "w").write("1"))
        status = dict(line.split(":", 1) for line in open("/proc/self/status") if ":" in line)
        found["processes"] = [n for n in os.listdir("/proc") if n.isdecimal()] != [str(os.getpid())]
        found["user"] = int(status["Uid"].split()[1])
        found["new privileges"] = status["NoNewPrivs"].strip()
        found["powers"] = status["CapEff"].strip()
        found["environment"] = "SECRET" in open("/proc/self/environ").read()
    """
    spec = agents.spec(
        "import probe; serve(probe.found)",
        modules={"probe": probe},
        environment={"SECRET": "of the session"},
    )
    status = await agents.warm_up(spec)
    assert "probe" in status.preloaded, status
    found = await agents.find(spec)
    assert found.pop("user") >= 2_000_000_000
    assert found.pop("new privileges") == "1"
    # To enter namespaces: CAP_SYS_ADMIN and CAP_SYS_CHROOT, where it owns nothing.
    assert int(found.pop("powers"), 16) == 1 << 21 | 1 << 18
    assert not found.pop("processes")
    assert not found.pop("environment")
    assert {name: got for name, got in found.items() if got is not None} == {}


async def test_a_zygote_that_is_not_needed_ends(tmp_path: Path) -> None:
    agents = Agents(tmp_path, zygote_idle_s=1000)
    spec = agents.spec("serve(None)")
    assert (await agents.warm_up(spec)).mode == StartMode.ZYGOTE
    session = await agents.runtime.start(agents.again(spec), RecordingSink())
    # How long all that takes is nobody's affair.
    agents.runtime._nurseries._idle_s = 0.2
    agents.runtime._nurseries._end_idle()
    status = agents.status(spec)
    while status.mode == StartMode.ZYGOTE:
        await asyncio.sleep(0.05)
        status = agents.status(spec)
    assert status.reason == "its zygote wasn't needed for a while, and ended"
    assert b"200" in await ask(session.address, "/")
    await session.stop()
    await agents.runtime.aclose()


async def test_there_are_no_more_zygotes_than_allowed(tmp_path: Path) -> None:
    agents = Agents(tmp_path, zygotes_max=1)
    first = agents.spec("serve(None)")
    second = replace(first, version=VersionId("2"))
    assert (await agents.warm_up(first)).mode == StartMode.ZYGOTE
    assert (await agents.warm_up(second)).mode == StartMode.ZYGOTE
    assert agents.status(first).mode == StartMode.SPAWN
    await agents.runtime.aclose()


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"environment": {"TRUNKLINE_START": "spawn"}}, "start is spawn"),
        ({"environment": {"TRUNKLINE_NETWORK": "host"}}, "its network is the machine's"),
        ({"network": "host"}, "its network is the machine's"),
        ({"environment": {"TRUNKLINE_START": "fork"}},
         "TRUNKLINE_START is 'fork'; give zygote or spawn"),
        ({"command": (sys.executable, "-m", "http.server")},
         "its command doesn't run a Python file"),
        ({"command": ("/bin/sh", "main.py")}, "its command doesn't run a Python file"),
        ({"command": ("/nowhere/bin/python", "main.py")}, None),
    ],
)  # fmt: skip
async def test_what_cannot_be_forked_says_why(
    tmp_path: Path, change: dict[str, Any], reason: str | None
) -> None:
    agents = Agents(tmp_path, network="host" if "host" in str(change) else "outbound")
    spec = agents.spec("serve(None)", environment=change.get("environment"))
    if "command" in change:
        spec = replace(spec, launch=replace(spec.launch, command=change["command"]))
    status = await agents.warm_up(spec)
    assert status.mode == StartMode.SPAWN
    if reason is None:
        assert status.reason.startswith("its zygote couldn't be made: ")
    else:
        assert status.reason == reason
    await agents.runtime.aclose()


async def test_nothing_is_left_of_a_zygote(tmp_path: Path) -> None:
    agents = Agents(tmp_path)
    spec = agents.spec("serve(None)")
    await agents.warm_up(spec)
    session = await agents.runtime.start(spec, RecordingSink())
    await agents.runtime.aclose()
    await wait_gone(session.pid)
    assert [
        folder for folder in Path("/proc").glob("[0-9]*")
        if str(tmp_path).encode() in _environment(folder)
    ] == []  # fmt: skip
    assert list((tmp_path / "run").iterdir()) == []
