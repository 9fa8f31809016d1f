"""Sessions that are forked: that they are as good as programs just started, and what can't be."""

import asyncio
import json
import os
import signal
import sys
import textwrap
from collections.abc import AsyncIterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.conformance.runtimes.support import RecordingSink, Starter, ask, wait_gone
from trunkline.protocol.errors import SessionNotReadyError
from trunkline.protocol.ids import VersionId
from trunkline.runtimes.interface import (
    ExitStatus,
    InstanceSpec,
    Launch,
    LogStream,
    StartMode,
    StartStatus,
)
from trunkline.runtimes.process.runtime import ProcessRuntime
from trunkline.runtimes.process.settings import ProcessSettings

SERVE = """
import json as _json, os as _os, socket as _socket
def serve(found):
    with open(_os.path.join(_os.environ["HOME"], "found.json"), "w") as file:
        _json.dump(found, file)
    server = _socket.socket(_socket.AF_UNIX)
    server.bind(_os.environ["TRUNKLINE_AGENT_SOCKET"])
    server.listen()
    while True:
        connection, _ = server.accept()
        with connection:
            connection.recv(4096)
            connection.sendall(b"HTTP/1.1 200 OK\\r\\nContent-Length: 0\\r\\n\\r\\n")
"""


class Agents:
    """Starts programs of a few lines, with modules of somebody else's beside them."""

    def __init__(self, root: Path, start: str = "zygote", **settings: Any) -> None:
        self.runtime = ProcessRuntime(
            ProcessSettings(
                state_dir=root / "state",
                run_dir=root / "run",
                platform_environment={"PATH": os.defpath},
                start=start,
                **settings,
            )
        )
        self._starter = Starter(self.runtime, root / "homes")
        self._code = root / "code"
        self._modules = self._code / ".python_packages" / "lib" / "site-packages"
        self._modules.mkdir(parents=True)

    def spec(
        self,
        program: str,
        *arguments: str,
        modules: Mapping[str, str] | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> InstanceSpec:
        (self._code / "main.py").write_text(SERVE + textwrap.dedent(program))
        for name, text in (modules or {}).items():
            (self._modules / f"{name}.py").write_text(textwrap.dedent(text))
        return replace(
            self._starter.spec(environment=environment),
            launch=Launch(
                command=(sys.executable, "main.py", *arguments),
                working_dir=str(self._code),
                environment={"PYTHONPATH": str(self._modules), "PYTHONHASHSEED": "random"},
            ),
        )

    def again(self, spec: InstanceSpec) -> InstanceSpec:
        """Return the same for another session."""
        home = self._starter.spec().home
        return replace(spec, home=home)

    async def find(self, spec: InstanceSpec) -> Any:
        """Start a session, and return what its program has found out."""
        instance = await self.runtime.start(spec, RecordingSink())
        await instance.stop()
        return json.loads((spec.home / "found.json").read_text())

    def status(self, spec: InstanceSpec) -> StartStatus:
        return self.runtime.start_status(spec.key.project, spec.key.agent, spec.version)

    async def warm_up(self, spec: InstanceSpec) -> StartStatus:
        async with asyncio.timeout(60):
            return await self.runtime.warm_up(spec)


@pytest.fixture
async def agents(tmp_path: Path) -> AsyncIterator[Agents]:
    made = Agents(tmp_path)
    yield made
    await made.runtime.aclose()


async def test_a_program_finds_itself_as_if_it_was_just_started(tmp_path: Path) -> None:
    """The same program is asked both ways, and the answers are compared."""
    program = """
    import atexit, asyncio, gc, importlib.metadata, pickle, signal, sys, threading, types
    class Mine: pass
    try:
        asyncio.get_running_loop()
        loop = "one"
    except RuntimeError:
        loop = "none"
    serve({
        "argv": sys.argv,
        "orig_argv": sys.orig_argv[1:],
        "path": sys.path,
        "flags": repr(sys.flags),
        "name": __name__, "file": __file__, "spec": repr(__spec__),
        "loader": type(__loader__).__name__,
        "main": sys.modules["__main__"].__dict__ is globals(),
        "pickled": isinstance(pickle.loads(pickle.dumps(Mine())), Mine),
        "builtins": isinstance(__builtins__, types.ModuleType),
        "signals": {str(n): str(signal.getsignal(n)) for n in signal.valid_signals()
                    if n not in (signal.SIGKILL, signal.SIGSTOP)},
        "mask": sorted(signal.pthread_sigmask(signal.SIG_BLOCK, [])),
        "threads": threading.active_count(),
        "main_thread": threading.current_thread() is threading.main_thread(),
        "loop": loop,
        "gc": [gc.isenabled(), gc.get_threshold()],
        "cwd": _os.getcwd(),
        "umask": oct(_os.umask(0o022)),
        "fds": sorted(_os.listdir("/proc/self/fd"))[:-1],
        "ids": [_os.getuid() == _os.geteuid(), _os.getgroups()],
        "limits": open("/proc/self/limits").read(),
        "environment": dict(_os.environ),
        "own": [name for name in sys.modules if name.startswith("trunkline")],
        "buffering": [sys.stdout.line_buffering, sys.stdout.write_through, sys.stdout.encoding],
        "installed": sorted(
            repr([one.metadata.json, one.requires, sorted(map(repr, one.entry_points))])
            for one in importlib.metadata.distributions()
        ),
        "own_environ_readable": bool(open("/proc/self/environ").read()),
    })
    """
    answers = {}
    agents = Agents(tmp_path)
    for start in ("spawn", "zygote"):
        environment = {"KEY": "value", "TZ": "Asia/Tokyo", "TRUNKLINE_START": start}
        spec = agents.spec(program, "--one", "two", environment=environment)
        spec = replace(spec, version=VersionId(start))
        status = await agents.warm_up(spec)
        assert status.mode == start, status
        answers[start] = await agents.find(spec)
        assert answers[start]["environment"].pop("TRUNKLINE_START") == start
    await agents.runtime.aclose()
    for name, answer in answers["spawn"].items():
        assert answers["zygote"][name] == answer, name


async def test_a_program_has_children_threads_and_an_end_as_anywhere(tmp_path: Path) -> None:
    program = """
    import asyncio, atexit, concurrent.futures, locale, multiprocessing, subprocess, sys, threading
    import time
    import other

    def double(number):
        return number * 2

    def work(found):
        for method in ("fork", "spawn", "forkserver"):
            context = multiprocessing.get_context(method)
            with concurrent.futures.ProcessPoolExecutor(2, mp_context=context) as pool:
                found[method] = list(pool.map(double, range(3)))
        with multiprocessing.get_context("spawn").Manager() as manager:
            found["manager"] = list(manager.list([1, 2]))
        with concurrent.futures.ThreadPoolExecutor(2) as pool:
            found["threads"] = list(pool.map(double, range(3)))
        found["subprocess"] = subprocess.run(
            [sys.executable, "-c", "import os; print(os.environ['KEY'])"],
            capture_output=True, text=True, check=True,
        ).stdout
        async def ran():
            process = await asyncio.create_subprocess_exec(
                "/bin/sh", "-c", "echo $KEY", stdout=subprocess.PIPE
            )
            out, _ = await process.communicate()
            return out.decode(), await asyncio.to_thread(double, 4)
        found["asyncio"] = asyncio.run(ran())
        found["main"] = threading.current_thread() is threading.main_thread()
        found["locale"] = [locale.setlocale(locale.LC_ALL), locale.getpreferredencoding()]
        found["filesystem"] = sys.getfilesystemencoding()
        found["time"] = [time.tzname, time.strftime("%z")]
        return found

    if __name__ == "__main__":
        atexit.register(print, "the program's end")
        found = work({})
        with open(_os.path.join(_os.environ["HOME"], "found.json"), "w") as file:
            _json.dump(found, file)
    """
    # In one write: two children that print at the same moment mix lines and their ends.
    modules = {
        "other": "import atexit, os\natexit.register(os.write, 1, b'the module\\'s end\\n')\n"
    }
    answers, outputs = [], []
    agents = Agents(tmp_path)
    for start in ("spawn", "zygote"):
        environment = {
            "KEY": "value", "TZ": "Asia/Tokyo", "LC_ALL": "C.UTF-8", "TRUNKLINE_START": start,
        }  # fmt: skip
        spec = agents.spec(program, modules=modules, environment=environment)
        spec = replace(spec, version=VersionId(start))
        status = await agents.warm_up(spec)
        assert status.mode == start, status
        assert start == "spawn" or {"multiprocessing", "other"} <= set(status.preloaded)
        sink = RecordingSink()
        with pytest.raises(SessionNotReadyError, match="ended with exit code 0"):
            await agents.runtime.start(spec, sink)
        answers.append(json.loads((spec.home / "found.json").read_text()))
        outputs.append({stream: bytes(data) for stream, data in sink.data.items()})
    await agents.runtime.aclose()
    assert answers[0]["forkserver"] == [0, 2, 4]
    assert answers[0] == answers[1]
    assert outputs[0] == outputs[1]
    assert b"the program's end" in outputs[1][LogStream.STDOUT]
    assert b"the module's end" in outputs[1][LogStream.STDOUT]


async def test_sessions_draw_their_own_chance(agents: Agents) -> None:
    spec = agents.spec(
        """
        import random, secrets, ssl, tempfile, uuid
        import other
        serve({
            "random": random.random(),
            "other": other.generator.random(),
            "secrets": secrets.token_hex(8),
            "ssl": ssl.RAND_bytes(16).hex(),
            "uuid1": str(uuid.uuid1())[-17:],
            "uuid4": str(uuid.uuid4()),
            "temporary": tempfile.mktemp(),
            "pid": _os.getpid(),
        })
        """,
        modules={
            "other": """
                import random, ssl, tempfile, uuid
                generator = random
                ssl.RAND_bytes(16), uuid.uuid1(), tempfile.mktemp(), random.random()
            """
        },
    )
    status = await agents.warm_up(spec)
    assert {"other", "ssl", "uuid"} <= set(status.preloaded), status
    found = [await agents.find(agents.again(spec)) for _ in range(3)]
    # Their numbers agree, by which libraries tell that they were forked.
    assert len({one.pop("pid") for one in found}) == 1
    for name in found[0]:
        assert len({one[name] for one in found}) == 3, name


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


async def test_the_authors_own_files_run_in_the_session_alone(agents: Agents) -> None:
    spec = agents.spec(
        """
        import sys
        was_there = "mine" in sys.modules, "colorsys" in sys.modules
        import mine
        serve([*was_there, mine.key])
        """,
        environment={"KEY": "of this session"},
    )
    (Path(spec.launch.working_dir) / "mine.py").write_text(
        "import colorsys, os\nkey = os.environ['KEY']\n"
    )
    status = await agents.warm_up(spec)
    assert "colorsys" in status.preloaded
    assert await agents.find(spec) == [False, True, "of this session"]


async def test_variables_that_the_interpreter_reads_early_are_the_zygotes_or_it_is_not_used(
    agents: Agents,
) -> None:
    spec = agents.spec("serve(None)", environment={"PYTHONHASHSEED": "1", "LANG": "C.UTF-8"})
    assert (await agents.warm_up(spec)).mode == StartMode.ZYGOTE
    await agents.find(agents.again(spec))
    assert (await agents.warm_up(spec)).reason == ""
    other = replace(agents.again(spec), environment={"PYTHONHASHSEED": "2", "LANG": "C.UTF-8"})
    await agents.find(other)
    assert (await agents.warm_up(spec)).reason == (
        "PYTHONHASHSEED isn't what it was when the zygote was started"
    )


@pytest.mark.parametrize(
    ("program", "status", "said"),
    [
        ("raise SystemExit(7)", ExitStatus(code=7), ""),
        ("import sys; sys.exit('no key')", ExitStatus(code=1), "no key\n"),
        ("def f():\n    1 / 0\nf()", ExitStatus(code=1), None),
        ("raise KeyboardInterrupt", ExitStatus(signal=signal.SIGINT), None),
        ("import atexit; atexit.register(print, 'bye', flush=True)", ExitStatus(code=0), "bye\n"),
        ("import os; os.abort()", ExitStatus(signal=signal.SIGABRT), ""),
        ("import os; f = open(os.dup(1), 'w'); f.write('kept')", ExitStatus(code=0), "kept"),
        (
            "import threading, time\n"
            "threading.Thread(target=lambda: (time.sleep(0.1), print('late'))).start()",
            ExitStatus(code=0),
            "late\n",
        ),
        ("raise SystemExit(-2)", ExitStatus(code=254), ""),
        ("this is no Python", ExitStatus(code=1), None),
    ],
)
async def test_a_program_ends_as_it_does_anywhere(
    tmp_path: Path, program: str, status: ExitStatus, said: str | None
) -> None:
    outputs = []
    agents = Agents(tmp_path)
    for start in ("spawn", "zygote"):
        spec = agents.spec(program, environment={"TRUNKLINE_START": start})
        spec = replace(spec, version=VersionId(start))
        assert (await agents.warm_up(spec)).mode == start
        sink = RecordingSink()
        with pytest.raises(SessionNotReadyError, match=str(status)):
            await agents.runtime.start(spec, sink)
        outputs.append({stream: bytes(data) for stream, data in sink.data.items()})
    await agents.runtime.aclose()
    assert outputs[0] == outputs[1]
    if said is not None:
        assert b"".join(outputs[1].values()).decode() == said


#: The numbers that the system gives a program and a fork in a sandbox; a zygote's is higher.
_PROGRAM, _FORK = 2, 3


async def test_who_comes_while_the_zygote_is_made_is_forked_from_it(agents: Agents) -> None:
    """A program beside it would take as long, and have it take longer."""
    slow = "import time; time.sleep(0.5)"
    spec = agents.spec("import os, slow; serve(os.getpid())", modules={"slow": slow})
    assert await agents.find(spec) == _PROGRAM
    assert agents.status(spec).reason == "its zygote is being made"
    others = [agents.find(agents.again(spec)) for _ in range(3)]
    assert await asyncio.gather(*others) == [_FORK] * 3


async def test_a_zygote_that_is_long_in_coming_is_not_waited_for(agents: Agents) -> None:
    slow = "import os, time\nif os.getpid() > 10: time.sleep(60)"
    spec = agents.spec("import os, slow; serve(os.getpid())", modules={"slow": slow})
    for _ in range(2):
        assert await agents.find(agents.again(spec)) == _PROGRAM
    assert agents.status(spec).reason == "its zygote is being made"


async def test_a_zygote_that_is_made_anew_without_a_module_is_not_waited_for(
    agents: Agents,
) -> None:
    spec = agents.spec(
        "import bad, os, slow; serve(os.getpid())",
        modules={"bad": "file = open('/etc/hostname')", "slow": "import time; time.sleep(0.5)"},
    )
    found = [await agents.find(agents.again(spec)) for _ in range(2)]
    assert found == [_PROGRAM] * 2
    assert "bad" in agents.status(spec).left_out


async def test_starts_take_turns_and_one_that_hangs_holds_nobody_up(tmp_path: Path) -> None:
    agents = Agents(tmp_path, starts_at_once=1)
    spec = agents.spec(
        "import os, time; serve(None) if 'HANG' not in os.environ else time.sleep(60)"
    )
    hanging = replace(agents.again(spec), environment={"HANG": "1"})
    try:
        stuck = asyncio.create_task(agents.runtime.start(hanging, RecordingSink()))
        ready: list[int] = []

        async def come(number: int) -> None:
            await agents.find(agents.again(spec))
            ready.append(number)

        async with asyncio.timeout(30):
            async with asyncio.TaskGroup() as group:
                for number in range(3):
                    group.create_task(come(number))
                for _ in range(500):
                    if agents.runtime.starts_waiting == 3:
                        break
                    await asyncio.sleep(0.01)
                else:
                    pytest.fail("they don't wait for their turns")
        assert ready == [0, 1, 2]
        assert agents.runtime.starts_waiting == 0
        assert not stuck.done()
        stuck.cancel()
        with pytest.raises(asyncio.CancelledError):
            await stuck
    finally:
        await agents.runtime.aclose()


async def test_a_session_ends_with_its_agent_and_others_go_on(agents: Agents) -> None:
    spec = agents.spec("serve(None)")
    await agents.warm_up(spec)
    first = await agents.runtime.start(agents.again(spec), RecordingSink())
    second = await agents.runtime.start(agents.again(spec), RecordingSink())
    os.kill(first.pid, signal.SIGKILL)
    assert await first.wait_exited() == ExitStatus(signal=signal.SIGKILL)
    assert b"200" in await ask(second.address, "/")
    assert await second.stop() == ExitStatus(signal=signal.SIGTERM)


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
    # Whatever the next one is, it works.
    other = await agents.runtime.start(agents.again(spec), RecordingSink())
    await other.stop()
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
    agents = Agents(tmp_path, zygote_idle_s=0.2)
    spec = agents.spec("serve(None)")
    assert (await agents.warm_up(spec)).mode == StartMode.ZYGOTE
    session = await agents.runtime.start(agents.again(spec), RecordingSink())
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


def groups_of(spec: InstanceSpec) -> list[str]:
    """Return the control groups there are of a platform's."""
    prefix = f"trunkline-{spec.node}-"
    return [name for _, names, _ in os.walk("/sys/fs/cgroup") for name in names if prefix in name]


async def test_a_fork_made_ahead_is_one_new_sessions(agents: Agents, tmp_path: Path) -> None:
    spec = agents.spec("serve(_os.getuid())")
    await agents.warm_up(spec)
    assert agents.runtime.forks_ahead == 1
    first = await agents.runtime.start(spec, RecordingSink())
    assert agents.runtime.forks_ahead == 0, "it wasn't the one made ahead"
    await first.stop()
    user = json.loads((spec.home / "found.json").read_text())
    assert spec.home.stat().st_uid == user
    # Its home has a user, which the one that is ready by now isn't.
    await agents.warm_up(spec)
    again = await agents.runtime.start(spec, RecordingSink())
    assert agents.runtime.forks_ahead == (1 if os.geteuid() == 0 else 0)
    await again.stop()
    assert json.loads((spec.home / "found.json").read_text()) == user
    assert len(groups_of(spec)) > 0
    await agents.runtime.aclose()
    assert agents.runtime.forks_ahead == 0
    assert groups_of(spec) == []
    assert list((tmp_path / "run").iterdir()) == []


async def test_a_fork_made_ahead_that_ended_is_nobodys(agents: Agents) -> None:
    spec = agents.spec("serve(1)")
    await agents.warm_up(spec)
    # They have no other sign of whose they are than the platform's, which this process is.
    (nursery,) = agents.runtime._nurseries._nurseries
    assert nursery._ahead is not None
    (fork,) = nursery._ahead._made
    os.kill(fork.child.pid, signal.SIGKILL)
    await fork.ending
    assert await agents.find(spec) == 1
    assert not fork.directory.exists()


def own_mib(pid: int) -> float:
    """Return how much memory a process shares with no other."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return sum(int(line.split()[1]) for line in lines if line.startswith("Private_")) / 1024


#: Stands for a host whose sessions write to much memory that they share, until they answer.
HOST = """
    import os, socket
    MEMORY = bytearray(b"x") * (8 << 20)
    def serve_two():
        server = socket.create_server(("127.0.0.1", int(os.environ["PORT"])))
        for answer in ANSWERS:
            connection, _ = server.accept()
            with connection:
                connection.recv(4096)
                connection.sendall(answer)
                if b" 101 " in answer:
                    connection.sendall(b"\\x89\\0" + b"\\x81\\2" + connection.recv(4096)[6:])
                    os.read(os.pipe()[0], 1)
    class InvocationAgentServerHost:
        def ws_handler(self, handler):
            self.handler = handler
        def run(self):
            MEMORY[::4096] = b"y" * len(MEMORY[::4096])
            serve_two()
"""


@pytest.mark.parametrize(
    ("answers", "own"),
    [
        ([b"HTTP/1.1 200 OK\r\n\r\n", b"HTTP/1.1 101 Switching Protocols\r\n\r\n"], 8.0),
        ([b"HTTP/1.1 500 Internal Server Error\r\n\r\n"], 0.0),
        ([b""], 0.0),
        ([], 0.0),
    ],
)
async def test_a_fork_made_ahead_has_the_memory_its_session_writes_to(
    agents: Agents, answers: list[bytes], own: float
) -> None:
    """A session of nobody's was tried in the zygote's sandbox, if it could be."""
    spec = agents.spec(
        """
        import trunkline.agentserver as host
        private = sum(
            int(line.split()[1]) for line in open("/proc/self/smaps_rollup")
            if line.startswith("Private_")
        )
        serve([private / 1024, host.MEMORY.count(b"x") == len(host.MEMORY)])
        """,
    )
    package = Path(spec.launch.environment["PYTHONPATH"]) / "trunkline" / "agentserver"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text(f"ANSWERS = {answers!r}\n" + textwrap.dedent(HOST))
    status = await agents.warm_up(spec)
    assert "trunkline.agentserver" in status.preloaded
    private, is_untouched = await agents.find(spec)
    assert own <= private < own + 7
    assert is_untouched
