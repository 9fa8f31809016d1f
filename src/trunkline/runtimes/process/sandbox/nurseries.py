"""Which versions have a zygote, which can't, and why.

A version's first session is started as a program. When it is ready the version's zygote is made,
for those that come after: not earlier, because two interpreters that import the same beside each
other take twice as long, and a caller waits for one of them. For the same reason who comes while it
is made waits for it, if it isn't long in coming. It is nobody else's, and is ended when no session
was forked from it for a while.
"""

import asyncio
import contextlib
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import PurePath

from trunkline.aio.tasks import TaskOwner
from trunkline.protocol.ids import AgentName, ProjectName, VersionId
from trunkline.runtimes.interface import InstanceSpec, StartMode, StartStatus
from trunkline.runtimes.process.child import Child, Spawn, Started
from trunkline.runtimes.process.entry_point import file_at
from trunkline.runtimes.process.sandbox.box import Box
from trunkline.runtimes.process.sandbox.forked import Fork
from trunkline.runtimes.process.sandbox.ground import Ground
from trunkline.runtimes.process.sandbox.nursery import (
    LeftOutError,
    Nursery,
    NurseryFailedError,
    Seed,
)
from trunkline.runtimes.process.sandbox.policy import NETWORK_VARIABLE, NetworkPolicy
from trunkline.runtimes.process.sandbox.shape import Shape
from trunkline.runtimes.process.settings import ProcessSettings

#: A variable of a definition that asks for one or the other.
START_VARIABLE = "TRUNKLINE_START"
_OPEN_TIMEOUT_S = 120.0
_MAX_LEFT_OUT = 8
#: A zygote is waited for this many times as long as its version takes to start as a program, since
#: its making began: with all it rehearses it takes one to three times as long, as does a program
#: beside it. Never for more than this share of the time that an agent may take to be ready.
_WAIT_STARTS, _WAIT_SHARE = 3.0, 0.25
#: How long the zygote of an agent's other version may go unused once a newer one has one: who
#: deploys all the time, as `trunkline run` does, would have one for each.
_REPLACED_IDLE_S = 60.0
_PYTHON = re.compile(r"python(?:3(?:\.\d+)?)?")
#: What interpreters and libraries read before or beside ``os.environ``; in no session is it
#: other than in the zygote.
_READ_EARLY = re.compile(
    r"PYTHON.*|LC_.*|LANG|LANGUAGE|LD_.*|MALLOC_.*|GLIBC_TUNABLES|LOCPATH|PATH|OPENSSL_.*|SSL_CERT_.*"
    r"|(?:OMP|OPENBLAS|MKL|BLIS|NUMEXPR|GOTO|VECLIB)_.*"
)
Key = tuple[ProjectName, AgentName, VersionId]


@dataclass(slots=True)
class _Version:
    """One version, as far as its zygote goes."""

    agent: tuple[ProjectName, AgentName]
    program: tuple[str, ...]
    """What is run, without the arguments it is given, and where."""
    environment: dict[str, str]
    left_out: dict[str, str] = field(default_factory=dict)
    nursery: Nursery | None = None
    making: asyncio.Task[None] | None = None
    tried: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when making it has come to something, or to nothing at the first attempt."""
    took_s: float = 0.0
    """How long its last session took that was started as a program."""
    shape: Shape | None = None
    """What its last session's sandbox was like."""
    reason: str = ""
    """Why there can't be one."""
    note: str = ""
    """Why the last session wasn't forked although there is one."""
    made_at: float = 0.0
    used_at: float = 0.0


class Nurseries:
    """All of a runtime's zygotes."""

    def __init__(self, spawn: Spawn, tasks: TaskOwner, settings: ProcessSettings) -> None:
        """Prepare.

        Args:
            spawn: Starts their processes.
            tasks: Owns what makes them.
            settings: How many there may be, for how long, and how sessions are started and what
                network they have unless their definition says otherwise.
        """
        self._spawn = spawn
        self._tasks = tasks
        self._mode = StartMode(settings.start)
        self._network = NetworkPolicy(settings.network)
        self._idle_s = settings.zygote_idle_s
        self._most = settings.zygotes_max
        self._ahead = settings.forks_ahead
        self._versions: dict[Key, _Version] = {}
        #: All that haven't ended, those that only wait for their sessions' end, too.
        self._nurseries: set[Nursery] = set()
        #: Those that another process of the platform has made, and what waits for their end.
        self._adopted: dict[int, tuple[Child, asyncio.Task[int]]] = {}
        self._loop = asyncio.get_running_loop()
        self._is_closed = False

    async def coming(self, spec: InstanceSpec) -> None:
        """Wait for a version's zygote, if it is being made and that is the sooner way to start."""
        version = self._versions.get(_key(spec))
        if version is not None and (until := self._comes_until(version, spec)):
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout_at(until):
                    await version.tried.wait()

    def is_coming(self, spec: InstanceSpec) -> bool:
        """Return whether there is something to wait for in `coming`."""
        version = self._versions.get(_key(spec))
        return version is not None and self._comes_until(version, spec) is not None

    def _comes_until(self, version: _Version, spec: InstanceSpec) -> float | None:
        """Return how long to wait for a version's zygote at most; None: not at all."""
        if version.making is None or version.tried.is_set():
            return None
        wait_s = min(version.took_s * _WAIT_STARTS, spec.ready_timeout_s * _WAIT_SHARE)
        until = version.made_at + wait_s
        return until if self._loop.time() < until else None

    def take(
        self,
        spec: InstanceSpec,
        environment_of: Callable[[InstanceSpec], Mapping[str, str]],
        box: Box,
    ) -> Fork | None:
        """Return what a session is forked by; None: start it as a program.

        Args:
            spec: The agent.
            environment_of: Returns the whole environment of an agent.
            box: Its sandbox.
        """
        version = self._version(spec, environment_of)
        if version is None or (nursery := self._nursery_of(version)) is None:
            return None
        version.used_at = self._loop.time()
        if (other := self._difference(version, environment_of(spec))) is not None:
            name, module = other
            if module is None:
                version.note = f"{name} isn't what it was when the zygote was started"
                return None
            version.left_out[module] = f"it reads {name} when it is imported"
            self._retire(nursery)
            version.nursery = None
            return None
        version.note = ""
        return nursery.fork(box.shape, is_new=box.is_new)

    def prepare(
        self,
        box: Box,
        spec: InstanceSpec,
        environment_of: Callable[[InstanceSpec], Mapping[str, str]],
        *,
        took_s: float | None = None,
    ) -> None:
        """Begin to make what the next session of a version is forked by: one is ready.

        Args:
            box: That one's sandbox.
            spec: The agent.
            environment_of: Returns the whole environment of an agent.
            took_s: How long it took, if it was started as a program.
        """
        version = self._version(spec, environment_of)
        if version is None:
            return
        if took_s is not None:
            version.took_s = took_s
        version.shape = box.shape
        if (nursery := self._nursery_of(version)) is not None:
            nursery.keep_ahead(version.shape, self._ahead)
        elif version.making is None:
            self._make(box.ground, spec, version)

    def give_up(self, spec: InstanceSpec, why: str) -> None:
        """Fork no more sessions of a version: one couldn't be."""
        version = self._versions.get(_key(spec))
        if version is not None:
            version.reason = f"a session couldn't be forked: {why}"
            if version.nursery is not None:
                self._retire(version.nursery)
                version.nursery = None

    async def settle(
        self,
        box: Box,
        spec: InstanceSpec,
        environment_of: Callable[[InstanceSpec], Mapping[str, str]],
    ) -> StartStatus:
        """Make a version's zygote if there can be one; return how its sessions are started."""
        self.prepare(box, spec, environment_of)
        version = self._versions[_key(spec)]
        if version.making is not None:
            await asyncio.shield(version.making)
        if version.nursery is not None:
            await version.nursery.kept_ahead()
        return self.status(_key(spec))

    def status(self, key: Key) -> StartStatus:
        """Return how a version's sessions are started, as far as that is known."""
        version = self._versions.get(key)
        if version is None:
            mode = f"start is {self._mode}"
            reason = mode if self._mode == StartMode.SPAWN else "no session was started yet"
            return StartStatus(mode=StartMode.SPAWN, reason=reason)
        if version.nursery is None:
            reason = version.reason or version.note or "no session was ready yet"
            if version.making is not None:
                reason = version.note or "its zygote is being made"
            return StartStatus(mode=StartMode.SPAWN, reason=reason, left_out=dict(version.left_out))
        return StartStatus(
            mode=StartMode.ZYGOTE,
            reason=version.note,
            preloaded=version.nursery.modules,
            left_out=dict(version.left_out),
        )

    def _version(
        self, spec: InstanceSpec, environment_of: Callable[[InstanceSpec], Mapping[str, str]]
    ) -> _Version | None:
        key = _key(spec)
        version = self._versions.get(key)
        if version is None:
            version = _Version(
                (spec.key.project, spec.key.agent), _program(spec), _fixed(spec, environment_of)
            )
            self._versions[key] = version
            version.reason = self._refusal(spec) or ""
        if version.reason or self._is_closed or _program(spec) != version.program:
            return None
        return version

    def _refusal(self, spec: InstanceSpec) -> str | None:
        wanted = spec.environment.get(START_VARIABLE) or self._mode
        if wanted not in set(StartMode):
            return f"{START_VARIABLE} is {wanted!r}; give zygote or spawn"
        if wanted == StartMode.SPAWN:
            return "start is spawn"
        if (spec.environment.get(NETWORK_VARIABLE) or self._network) == NetworkPolicy.HOST:
            return "its network is the machine's"
        if _script_at(spec) is None:
            return "its command doesn't run a Python file"
        return None

    def _difference(
        self, version: _Version, environment: Mapping[str, str]
    ) -> tuple[str, str | None] | None:
        """Return a variable that isn't what it was, and the module whose import has read it."""
        ours = version.environment
        names = environment.keys() | ours.keys()
        for name in sorted(names):
            if environment.get(name) == ours.get(name):
                continue
            if _READ_EARLY.fullmatch(name):
                return name, None
            if version.nursery is not None and name in version.nursery.reads:
                return name, version.nursery.reads[name]
        return None

    def _make(self, ground: Ground, spec: InstanceSpec, version: _Version) -> None:
        at = _script_at(spec)
        assert at is not None
        version.used_at = version.made_at = self._loop.time()
        version.tried.clear()
        seed = Seed(
            launch=spec.launch,
            script_at=at,
            environment=version.environment,
            node=spec.node,
            memory_bytes=spec.memory_bytes,
            cpu=spec.cpu,
        )
        version.making = self._tasks.spawn(
            self._make_one(ground, seed, version), name=f"zygote:{spec.key.agent}"
        )

    async def _make_one(self, ground: Ground, seed: Seed, version: _Version) -> None:
        try:
            while not self._is_closed:
                nursery = Nursery(
                    ground, replace(seed, left_out=dict(version.left_out)), self._spawn, self._tasks
                )
                self._nurseries = {each for each in self._nurseries if not each.is_over}
                self._nurseries.add(nursery)
                try:
                    await nursery.open(_OPEN_TIMEOUT_S)
                except NurseryFailedError as error:
                    await nursery.aclose()
                    version.reason = f"its zygote couldn't be made: {error}"
                    return
                except LeftOutError as error:
                    await nursery.aclose()
                    version.left_out[error.module] = error.reason
                    version.tried.set()
                    if len(version.left_out) > _MAX_LEFT_OUT:
                        version.reason = f"more than {_MAX_LEFT_OUT} modules can't be preloaded"
                        return
                except BaseException:
                    await nursery.aclose()
                    raise
                else:
                    version.nursery = nursery
                    if version.shape is not None:
                        nursery.keep_ahead(version.shape, self._ahead)
                    self._make_room()
                    self._loop.call_later(self._idle_s, self._end_idle)
                    self._loop.call_later(_REPLACED_IDLE_S, self._end_replaced, version)
                    return
        finally:
            version.making = None
            version.tried.set()

    @property
    def ahead(self) -> int:
        """How many sandboxes are made and nobody's."""
        return sum(nursery.ahead for nursery in self._nurseries)

    # Ends

    def _make_room(self) -> None:
        alive = [each for each in self._versions.values() if each.nursery is not None]
        alive.sort(key=lambda each: each.used_at)
        for version in alive[: max(len(alive) - self._most, 0)]:
            self._end(version)

    def _end_idle(self) -> None:
        now = self._loop.time()
        for version in self._versions.values():
            if version.nursery is None:
                continue
            left = version.used_at + self._idle_s - now
            if left <= 0:
                self._end(version)
            else:
                self._loop.call_later(left, self._end_idle)

    def _end_replaced(self, newer: _Version) -> None:
        """End those of an agent's other versions that were used last before it had a newer one."""
        if newer.nursery is None:
            return
        for version in self._versions.values():
            if version.agent == newer.agent and version.used_at < newer.made_at:
                self._end(version)

    def _end(self, version: _Version) -> None:
        if version.nursery is not None:
            self._retire(version.nursery)
            version.nursery = None
            version.note = "its zygote wasn't needed for a while, and ended"

    def _nursery_of(self, version: _Version) -> Nursery | None:
        """Return what a version's sessions are forked by, unless it was lost."""
        if version.nursery is not None and version.nursery.lost:
            version.note = f"its zygote was lost: {version.nursery.lost}"
            self._retire(version.nursery)
            version.nursery = None
        return version.nursery

    def _retire(self, nursery: Nursery) -> None:
        # It ends when its sessions have.
        nursery.close()

    def adopt(self, started: Started) -> None:
        """See to the end of a nursery that another process of the platform has made.

        It ends when its sessions have, which are this one's.
        """
        if started.pid not in self._adopted:
            child = Child(started)
            ending = self._tasks.spawn(child.wait(), name="nursery:adopted")
            self._adopted[started.pid] = (child, ending)

    def let_go(self) -> None:
        """Touch nothing of them any more: another process has their sessions."""
        self._is_closed = True
        for nursery in self._nurseries:
            nursery.let_go()
        for child, ending in self._adopted.values():
            child.let_go()
            ending.cancel()

    async def aclose(self) -> None:
        """End them. Twice is fine."""
        self._is_closed = True
        for version in self._versions.values():
            if version.making is not None:
                version.making.cancel()
                await asyncio.wait([version.making])
        for nursery in list(self._nurseries):
            await nursery.aclose()


def _key(spec: InstanceSpec) -> Key:
    return spec.key.project, spec.key.agent, spec.version


def _script_at(spec: InstanceSpec) -> int | None:
    command = spec.launch.command
    if not _PYTHON.fullmatch(PurePath(command[0]).name):
        return None
    at = file_at(command[1:])
    return None if at is None else at + 1


def _program(spec: InstanceSpec) -> tuple[str, ...]:
    at = _script_at(spec)
    command = spec.launch.command if at is None else spec.launch.command[: at + 1]
    return (spec.launch.working_dir, *command)


def _fixed(
    spec: InstanceSpec, environment_of: Callable[[InstanceSpec], Mapping[str, str]]
) -> dict[str, str]:
    """Return what of an agent's environment is the same in all sessions, and no secret."""
    kept = {name: value for name, value in spec.environment.items() if _READ_EARLY.fullmatch(name)}
    return dict(environment_of(replace(spec, environment=kept)))
