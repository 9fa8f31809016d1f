"""The platform's end of one version's nursery, which is :mod:`.inside.nursery`."""

import asyncio
import contextlib
import json
import logging
import os
import secrets
import signal
import socket
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import trunkline
from trunkline.aio.tasks import TaskOwner
from trunkline.aio.threads import in_thread
from trunkline.protocol.environment import NODE
from trunkline.protocol.ids import NodeId
from trunkline.runtimes.interface import Launch
from trunkline.runtimes.process.child import Child, Spawn, start_child
from trunkline.runtimes.process.sandbox import view as views
from trunkline.runtimes.process.sandbox.ahead import Ahead
from trunkline.runtimes.process.sandbox.cgroups import Group, Limits
from trunkline.runtimes.process.sandbox.forked import Fork
from trunkline.runtimes.process.sandbox.ground import Ground
from trunkline.runtimes.process.sandbox.inside.messages import receive, send
from trunkline.runtimes.process.sandbox.inside.plan import Plan, file_of
from trunkline.runtimes.process.sandbox.seccomp import program
from trunkline.runtimes.process.sandbox.shape import Shape
from trunkline.runtimes.process.sandbox.spare import NAME_BYTES, VIEW_ROOT, remove_directory

_log = logging.getLogger("trunkline.runtimes")

_NURSE = (
    "import sys; sys.path.insert(0, sys.argv.pop(1)); "
    "from trunkline.runtimes.process.sandbox.inside.nursery import main; main()"
)
#: Where the zygote finds its own program.
_LIBRARY = "/run/zygote"
_PACKAGE = "trunkline/runtimes/process/sandbox/inside"
_MODULES = (
    "kernel",
    "confine",
    "density",
    "descriptors",
    "installed",
    "pages",
    "preload",
    "trial",
    "zygote",
)
_START = f"""import sys
if {_LIBRARY!r} not in sys.path:
    sys.path.insert(0, {_LIBRARY!r})
from {_PACKAGE.replace("/", ".")}.zygote import main
main({_LIBRARY!r})
"""
_MIN_CPU = 1.0


class NurseryFailedError(Exception):
    """There is no zygote; the text says why."""


class LeftOutError(Exception):
    """A module mustn't be preloaded; another zygote may do without it."""

    def __init__(self, module: str, reason: str) -> None:
        super().__init__(f"{module}: {reason}")
        self.module = module
        self.reason = reason


@dataclass(frozen=True, slots=True, kw_only=True)
class Seed:
    """What a zygote is made of."""

    launch: Launch
    script_at: int
    """Where in the launch's command the program's file is named."""
    environment: Mapping[str, str]
    """What the interpreter starts with: nothing of a session, no secret."""
    node: NodeId
    memory_bytes: int
    cpu: float
    left_out: Mapping[str, str] = field(default_factory=dict)
    """Modules that aren't to be preloaded, and why."""


class Nursery:
    """One version's nursery. `open` it once; `close` or `aclose` it."""

    def __init__(self, ground: Ground, seed: Seed, spawn: Spawn, tasks: TaskOwner) -> None:
        self._ground = ground
        self._seed = seed
        self._spawn = spawn
        self._tasks = tasks
        self._loop = asyncio.get_running_loop()
        self._directory = ground.run_dir / secrets.token_hex(NAME_BYTES)
        self._group: Group | None = None
        self._line: socket.socket | None = None
        self._child: Child | None = None
        self._life: asyncio.Task[None] | None = None
        self._is_ours = True
        self._ahead: Ahead | None = None
        self._ready: asyncio.Future[dict[str, Any]] = self._loop.create_future()
        self.modules: tuple[str, ...] = ()
        """What is preloaded."""
        self.reads: dict[str, str] = {}
        """Variables that its imports have read, and whose did."""
        self.lost = ""
        """Why it can't have children any more."""

    async def open(self, timeout_s: float) -> None:
        """Start it and wait until the zygote is ready to be forked.

        If it fails, `aclose` it.

        Raises:
            NurseryFailedError: If it can't be had.
            LeftOutError: If it can be had, without one more module.
        """
        try:
            async with asyncio.timeout(timeout_s):
                await self._start()
                said = await self._ready
        except TimeoutError:
            raise NurseryFailedError(f"it wasn't ready in {timeout_s:g} s") from None
        except OSError as error:
            raise NurseryFailedError(error.strerror or str(error)) from error
        if "left_out" in said:
            module, reason = said["left_out"]
            raise LeftOutError(str(module), str(reason))
        self.modules = tuple(map(str, said["modules"]))
        self.reads = {str(name): str(module) for name, module in said["reads"].items()}
        if said["failures"]:
            _log.debug("a zygote couldn't keep all that is installed: %r", said["failures"])

    async def _start(self) -> None:
        self._directory.mkdir(mode=0o700)
        (self._directory / VIEW_ROOT).mkdir(mode=0o700)
        uid = None if self._ground.accounts is None else await in_thread(self._ground.accounts.next)
        plan = await in_thread(self._plan, uid)
        self._group = self._ground.cgroups.make(
            f"trunkline-{self._seed.node}-{self._directory.name}",
            Limits(
                cpu=max(self._seed.cpu, _MIN_CPU),
                memory_bytes=self._seed.memory_bytes,
                pids=self._ground.pids,
                home_bytes=0,
            ),
        )
        path = self._directory / "line.sock"
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listener:
            listener.setblocking(False)
            listener.bind(str(path))
            listener.listen(1)
            self._life = self._tasks.spawn(self._live(self._start_process(path)), name="nursery")
            self._line, _ = await self._loop.sock_accept(listener)
        self._line.setblocking(False)
        order = {
            "users": None if self._ground.accounts is None else self._ground.accounts.range,
            "zygote": asdict(plan),
            "preload": {
                "command": self._seed.launch.command,
                "script_at": self._seed.script_at,
                "folder": self._seed.launch.working_dir,
                "left_out": dict(self._seed.left_out),
            },
        }
        described = file_of(json.dumps(order).encode())
        cgroups = self._group.open_to_join()
        try:
            send(self._line, {}, described, *cgroups)
        finally:
            for descriptor in (described, *cgroups):
                os.close(descriptor)
        self._loop.add_reader(self._line, self._read)

    def _start_process(self, path: Path) -> Child:
        nowhere = os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC)
        try:
            package = str(Path(trunkline.__file__).parent.parent)
            self._child = start_child(
                (sys.executable, "-I", "-S", "-c", _NURSE, package, str(path)),
                cwd="/",
                # By it, it is found if the platform is killed.
                env={NODE: self._seed.node},
                stdout=nowhere,
                stderr=nowhere,
                spawn=self._spawn,
            )
        finally:
            os.close(nowhere)
        return self._child

    def _plan(self, uid: int | None) -> Plan:
        launch = self._seed.launch
        if uid is not None:
            for folder in views.readable_folders(launch.command[0], launch.working_dir):
                views.make_readable(folder)
        seen = views.view_of(
            launch.command[0],
            launch.working_dir,
            uid=os.geteuid() if uid is None else uid,
            own_network=True,
        )
        at = self._seed.script_at
        return Plan(
            command=(*launch.command[:at], f"{_LIBRARY}/start.py"),
            environment=dict(self._seed.environment),
            working_dir=launch.working_dir,
            root=str(self._directory / VIEW_ROOT),
            binds=tuple(seen.binds),
            # An empty home that doesn't last.
            links=(*seen.links, ("/tmp", views.HOME)),  # noqa: S108 - the sandbox's own
            files=(*seen.files, *_library()),
            own_files=tuple(seen.own_files),
            tmp_bytes=self._ground.tmp_bytes,
            uid=uid,
            own_network=True,
            proxy_port=0,
            filter=program(but_for=("setns",)).hex(),
        )

    async def _live(self, child: Child) -> None:
        """Wait for its process to end, and remove what is left then."""
        try:
            await child.wait()
        finally:
            self._lose("it ended")
            if self._is_ours:
                await self._remove()

    async def _remove(self) -> None:
        group, self._group = self._group, None
        if group is not None:
            await in_thread(group.remove)
        remove_directory(self._directory)

    def _read(self) -> None:
        assert self._line is not None
        try:
            message, descriptor = receive(self._line)
        except BlockingIOError:
            return
        if descriptor is not None:
            os.close(descriptor)
        if message is None:
            self._lose("it ended")
        elif "lost" in message:
            self._lose(str(message["lost"]))
        elif not self._ready.done():
            # What the zygote says is what code of others may have made of it.
            try:
                said = json.loads(message["ready"])
            except (KeyError, ValueError):
                self._lose("its zygote says what isn't understood")
            else:
                self._ready.set_result(said)

    def _lose(self, why: str) -> None:
        self.lost = self.lost or why
        if not self._ready.done():
            self._ready.set_exception(NurseryFailedError(why))
            self._ready.exception()
        self.close()

    # Sessions

    def fork(self, shape: Shape, *, is_new: bool) -> Fork:
        """Prepare another session, in a sandbox that is made already if there is one.

        Args:
            shape: What its sandbox is to be like.
            is_new: Whether its home is nobody's: one that is made has a user of its own.

        Raises:
            OSError: If it has no place.
        """
        made = None if self._ahead is None or not is_new else self._ahead.take(shape)
        return made or self._fork()

    def _fork(self) -> Fork:
        assert self._child is not None
        return Fork(self._ground.run_dir, self._deliver, self._tasks, self._child.pid)

    def keep_ahead(self, shape: Shape, most: int) -> None:
        """Have sandboxes made for sessions to come, soon."""
        if self._line is not None and most:
            if self._ahead is None:
                self._ahead = Ahead(self._ground, self._fork, self._tasks, most)
            self._ahead.fill(shape)

    async def kept_ahead(self) -> None:
        """Wait until what is made ahead is made."""
        if self._ahead is not None:
            await self._ahead.filled()

    @property
    def ahead(self) -> int:
        """How many sandboxes are made and nobody's."""
        return 0 if self._ahead is None else self._ahead.count

    async def _deliver(self, files: Sequence[int]) -> None:
        while True:
            if self._line is None:
                raise OSError(0, f"the zygote is gone: {self.lost}")
            try:
                socket.send_fds(self._line, [b"session"], files)
            except BlockingIOError:
                writable = asyncio.Event()
                self._loop.add_writer(self._line, writable.set)
                try:
                    await writable.wait()
                finally:
                    if self._line is not None:
                        self._loop.remove_writer(self._line)
            else:
                return

    # The end

    def close(self) -> None:
        """Have the zygote end; its sessions go on. Twice is fine."""
        line, self._line = self._line, None
        if self._ahead is not None:
            self._ahead.close()
        if line is not None:
            self.lost = self.lost or "it was closed"
            self._loop.remove_reader(line)
            self._loop.remove_writer(line)
            line.close()

    @property
    def is_over(self) -> bool:
        """Whether nothing of it runs any more."""
        return self._life is not None and self._life.done()

    def let_go(self) -> None:
        """Touch nothing of it any more: its sessions have another platform."""
        self._is_ours = False
        if self._child is not None:
            self._child.let_go()
        if self._life is not None:
            self._life.cancel()

    async def aclose(self) -> None:
        """End it with all that came of it; if that was let go, only the zygote. Twice is fine."""
        self.close()
        if self._ahead is not None:
            await self._ahead.aclose()
        if self._life is None or not self._is_ours:
            # What sessions have of it goes on without.
            await self._remove()
        else:
            assert self._child is not None
            self._child.signal_group(signal.SIGKILL)
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.shield(self._life)


def _library() -> list[tuple[str, str]]:
    """Return the zygote's own program: a copy, for it may run on another interpreter as others."""
    source = Path(trunkline.__file__).parent.parent / _PACKAGE
    files = [(f"{_LIBRARY}/start.py", _START)]
    packages = _PACKAGE.split("/")
    for depth in range(1, len(packages) + 1):
        files.append((f"{_LIBRARY}/{'/'.join(packages[:depth])}/__init__.py", ""))
    for name in _MODULES:
        text = (source / f"{name}.py").read_text(encoding="utf-8")
        files.append((f"{_LIBRARY}/{_PACKAGE}/{name}.py", text))
    return files
