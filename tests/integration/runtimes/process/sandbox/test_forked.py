"""Sessions that are forked: that they are as good as programs just started."""

import asyncio
import json
import os
import signal
import textwrap
from dataclasses import replace
from pathlib import Path

import pytest

from tests.conformance.runtimes.support import RecordingSink, ask
from tests.integration.runtimes.process.sandbox.conftest import Agents
from trunkline.protocol.errors import SessionNotReadyError
from trunkline.protocol.ids import VersionId
from trunkline.runtimes.interface import ExitStatus, InstanceSpec, LogStream, StartMode
from trunkline.runtimes.process.sandbox.bridge import PortBridge
from trunkline.runtimes.process.sandbox.control import Control


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


@pytest.mark.timeout(240)
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
        # It is never ready, and takes seconds of a processor to its end.
        spec = replace(spec, version=VersionId(start), ready_timeout_s=100)
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


@pytest.mark.parametrize("start", ["spawn", "zygote"])
async def test_one_that_has_ended_before_the_platform_looks_has_ended_all_the_same(
    agents: Agents, start: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = agents.spec("raise SystemExit(7)", environment={"TRUNKLINE_START": start})
    assert (await agents.warm_up(spec)).mode == start
    is_gone, give_up, open_bridge = asyncio.Event(), Control._give_up, PortBridge.open

    def give_up_and_say(control: Control, why: str) -> None:
        give_up(control, why)
        is_gone.set()

    async def open_late(bridge: PortBridge, path: str) -> None:
        await open_bridge(bridge, path)
        await is_gone.wait()

    monkeypatch.setattr(Control, "_give_up", give_up_and_say)
    monkeypatch.setattr(PortBridge, "open", open_late)
    with pytest.raises(SessionNotReadyError, match="ended with exit code 7"):
        await agents.runtime.start(spec, RecordingSink())
    assert agents.status(spec).mode == start


async def test_a_session_ends_with_its_agent_and_others_go_on(agents: Agents) -> None:
    spec = agents.spec("serve(None)")
    await agents.warm_up(spec)
    first = await agents.runtime.start(agents.again(spec), RecordingSink())
    second = await agents.runtime.start(agents.again(spec), RecordingSink())
    os.kill(first.pid, signal.SIGKILL)
    assert await first.wait_exited() == ExitStatus(signal=signal.SIGKILL)
    assert b"200" in await ask(second.address, "/")
    assert await second.stop() == ExitStatus(signal=signal.SIGTERM)


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
