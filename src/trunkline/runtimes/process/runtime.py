"""The runtime that runs each session's agent as a process of this machine."""

import asyncio
import dataclasses
import os
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Self

from trunkline.aio.tasks import TaskOwner
from trunkline.aio.threads import in_thread
from trunkline.protocol.errors import SessionNotReadyError, UnavailableError
from trunkline.protocol.ids import AgentName, NodeId, ProjectName, VersionId
from trunkline.runtimes.interface import (
    BuildFailedError,
    BuildLog,
    InstanceSpec,
    Launch,
    LogSink,
    LogStream,
    Passed,
    StartMode,
    StartStatus,
    VersionSource,
)
from trunkline.runtimes.process import leftovers
from trunkline.runtimes.process.appearing import Appearances
from trunkline.runtimes.process.around import Around, TakenOver
from trunkline.runtimes.process.child import spawn_here
from trunkline.runtimes.process.environment import EnvironmentBuilder
from trunkline.runtimes.process.instance import ProcessInstance
from trunkline.runtimes.process.kept import KeeperLine
from trunkline.runtimes.process.listening import prepare_run_dir, remove_run_dir
from trunkline.runtimes.process.sandbox.addresses import parse_networks
from trunkline.runtimes.process.sandbox.box import Box
from trunkline.runtimes.process.sandbox.cgroups import find_cgroups
from trunkline.runtimes.process.sandbox.direct import Stacks, why_impossible
from trunkline.runtimes.process.sandbox.door import Doors
from trunkline.runtimes.process.sandbox.egress import Resolver
from trunkline.runtimes.process.sandbox.ground import Ground
from trunkline.runtimes.process.sandbox.levels import Level, find_level, make_ground
from trunkline.runtimes.process.sandbox.nurseries import Nurseries
from trunkline.runtimes.process.sandbox.policy import (
    NetworkPolicy,
    SessionNetwork,
    network_variables,
    session_network,
)
from trunkline.runtimes.process.sandbox.spare import Spares
from trunkline.runtimes.process.settings import ProcessSettings
from trunkline.runtimes.process.turns import Turn, Turns
from trunkline.runtimes.process.variables import agent_environment

_LONGEST_TURN_S = 1.0


class _NoLog:
    """Takes nothing down."""

    def write(self, stream: LogStream, data: bytes) -> None:
        """Take bytes."""

    def close_stream(self, stream: LogStream) -> None:
        """Take an end."""

    def event(self, reason: str, message: str) -> None:
        """Take an event."""


class ProcessRuntime:
    """Runs agents as processes, in sandboxes as far as this machine has them."""

    name = "process"

    def __init__(
        self,
        settings: ProcessSettings,
        *,
        keeper: KeeperLine | None = None,
        run_dir: Path | None = None,
        on_limit: Callable[[str], None] = lambda _: None,
    ) -> None:
        """Prepare.

        Args:
            settings: What an operator may choose.
            keeper: Starts agents' processes; without one they are children of this process.
            run_dir: Where agents' sockets are, if another process has made the directory already.
            on_limit: Told the name of each limit that an agent runs into.
        """
        self._on_limit = on_limit
        self._resolver = Resolver()
        self._level: Level | None = None
        self._doors: Doors | None = None
        self._finding = asyncio.Lock()
        self._measuring = asyncio.Lock()
        self._appearances = Appearances()
        # One more than there are processors, as a start waits for disks and others now and then.
        at_once = settings.starts_at_once or (os.cpu_count() or 1) + 1
        self._turns = Turns(at_once, _LONGEST_TURN_S)
        self._settings = settings
        self._keeper = keeper
        self._tasks = TaskOwner()
        self._builder = EnvironmentBuilder(settings)
        self._instances: set[ProcessInstance] = set()
        self._is_closed = False
        self._has_successor = False
        self._run_dir = run_dir or settings.run_dir or Path(tempfile.mkdtemp(prefix="trunkline-"))
        prepare_run_dir(self._run_dir)
        spawn = spawn_here if keeper is None else keeper.spawn
        self._spares = Spares(self._run_dir, spawn, self._tasks)
        self._stacks = Stacks(spawn, self._tasks)
        self._nurseries = Nurseries(spawn, self._tasks, settings)

    async def opened(self) -> Self:
        """Find out what this machine protects before anything is started; return the runtime.

        Raises:
            SandboxUnavailableError: If more is required. The runtime is closed then.
        """
        try:
            level = await self.find_level()
        except BaseException:
            await self.aclose()
            raise
        if level.ground is not None:
            await in_thread(level.ground.cgroups.remove_forgotten)
        return self

    def use_doors(self, doors: Doors) -> None:
        """Have sandboxes show their agents what of the platform is behind these doors."""
        self._doors = doors

    @property
    def level(self) -> Level:
        """What this machine protects, once that was found out."""
        assert self._level is not None
        return self._level

    async def find_level(self) -> Level:
        """Return what this machine protects; the first time, it is tried out.

        Raises:
            SandboxUnavailableError: If more is required.
        """
        async with self._finding:
            if self._level is None:
                self._level = await find_level(self._settings, self._run_dir, self._resolver)
            return self._level

    async def build(self, source: VersionSource, log: BuildLog) -> Launch:
        if network_variables(source.environment) and (await self.find_level()).ground is not None:
            self._check_network(source.environment)
        return await self._builder.build(source, log)

    async def start(self, spec: InstanceSpec, logs: LogSink) -> ProcessInstance:
        self._refuse_if_closed()
        ground = (await self.find_level()).ground
        box = None if ground is None else self._box(ground, spec, logs)
        with await self._turn(spec):
            self._refuse_if_closed()
            return await self._start(spec, logs, box)

    async def _turn(self, spec: InstanceSpec) -> Turn:
        """Wait until it is a session's turn to start, and until there is what it is forked from."""
        while True:
            await self._nurseries.coming(spec)
            turn = await self._turns.take()
            # It may be in the making by now, and isn't waited for at others' cost.
            if not self._nurseries.is_coming(spec):
                return turn
            turn.end()

    async def _start(self, spec: InstanceSpec, logs: LogSink, box: Box | None) -> ProcessInstance:
        while True:
            instance = ProcessInstance(
                spec,
                logs,
                self._around(),
                box=box,
                origin=spawn_here if self._keeper is None else self._keeper.spawn,
            )
            self._remember(instance)
            try:
                await instance.wait_ready()
            except SessionNotReadyError:
                await instance.stop()
                if not instance.fork_failure or self._is_closed:
                    raise
                # As a program it may well start, and if not, what that says helps its author.
                self._nurseries.give_up(spec, instance.fork_failure)
                assert box is not None, "only what has a sandbox is forked"
                box = self._box(box.ground, spec, logs)
            except BaseException:
                # Nobody else knows this process. If this wait is cancelled too, the stop goes on.
                await instance.stop()
                raise
            else:
                if box is not None:
                    took_s = None if instance.is_forked else instance.age_s()
                    self._nurseries.prepare(box, spec, self._environment_in(box), took_s=took_s)
                return instance

    def _refuse_if_closed(self) -> None:
        if self._is_closed:
            msg = "the platform is shutting down: it starts no agents"
            raise UnavailableError(msg)

    async def warm_up(self, spec: InstanceSpec) -> StartStatus:
        """Make what sessions of a version are forked from, if they can be; return how it went."""
        ground = (await self.find_level()).ground
        if ground is None:
            return StartStatus(mode=StartMode.SPAWN, reason="there is no sandbox")
        box = self._box(ground, spec, _NoLog())
        return await self._nurseries.settle(box, spec, self._environment_in(box))

    def start_status(
        self, project: ProjectName, agent: AgentName, version: VersionId
    ) -> StartStatus:
        if self._level is not None and self._level.ground is None:
            return StartStatus(mode=StartMode.SPAWN, reason="there is no sandbox")
        return self._nurseries.status((project, agent, version))

    def _environment_in(self, box: Box) -> Callable[[InstanceSpec], Mapping[str, str]]:
        def environment_of(spec: InstanceSpec) -> Mapping[str, str]:
            return agent_environment(
                spec, box.places, self._settings.platform_environment, box.environment
            )

        return environment_of

    def take_over(self, spec: InstanceSpec, logs: LogSink, passed: Passed) -> ProcessInstance:
        assert self._keeper is not None, "only a keeper's agents outlive a platform process"
        spec = dataclasses.replace(spec, environment=passed.data["environment"])
        box = None
        if "box" in passed.data:
            # What its sandbox is made of is there; only its way out is ours.
            ground = make_ground(self._settings, self._run_dir, self._resolver)
            box = self._box(ground, spec, logs)
        instance = ProcessInstance(
            spec,
            logs,
            self._around(),
            box=box,
            origin=TakenOver(
                # The nursery, which outlives us too, has forked ones.
                None if passed.data.get("is_forked") else self._keeper.adopt(passed.data["pid"]),
                passed,
            ),
        )
        self._remember(instance)
        if box is not None and box.nursery_pid is not None:
            self._nurseries.adopt(self._keeper.adopt(box.nursery_pid))
        if box is not None and box.interface_pid is not None:
            box.adopt_interface(self._keeper.adopt(box.interface_pid))
        return instance

    @property
    def starts_waiting(self) -> int:
        """How many agents wait for their turn to be started."""
        return self._turns.waiting

    @property
    def forks_ahead(self) -> int:
        """How many sandboxes are made, with a fork in each, and nobody's."""
        return self._nurseries.ahead

    @property
    def run_dir(self) -> Path:
        """Where agents' sockets are."""
        return self._run_dir

    def let_go(self) -> None:
        """Leave the directory of agents' sockets: another process uses it."""
        self._has_successor = True
        self._nurseries.let_go()

    def _remember(self, instance: ProcessInstance) -> None:
        self._instances.add(instance)
        self._tasks.spawn(self._forget_ended(instance), name=f"runtime:{instance.spec.key}:forget")

    def _around(self) -> Around:
        return Around(
            run_dir=self._run_dir,
            settings=self._settings,
            tasks=self._tasks,
            on_limit=self._on_limit,
            spares=self._spares,
            nurseries=self._nurseries,
            measuring=self._measuring,
            appearances=self._appearances,
        )

    def _box(self, ground: Ground, spec: InstanceSpec, logs: LogSink) -> Box:
        try:
            network = self._network(spec.environment)
        except ValueError as error:
            logs.event("NotReady", str(error))
            raise SessionNotReadyError(str(error)) from error
        ground = dataclasses.replace(ground, doors=self._doors, stacks=self._stacks)
        return Box(ground, spec, network, tasks=self._tasks, tell=logs.event)

    def _check_network(self, environment: Mapping[str, str]) -> None:
        """Tell an author while deploying what would stop every session of the version."""
        try:
            policy = self._network(environment).policy
        except ValueError as error:
            raise BuildFailedError(str(error)) from error
        if policy is NetworkPolicy.DIRECT and (why := why_impossible()):
            raise BuildFailedError(f"its network is direct, and {why}")

    def _network(self, environment: Mapping[str, str]) -> SessionNetwork:
        return session_network(
            NetworkPolicy(self._settings.network),
            environment,
            allow=self._settings.egress_allow,
            private=parse_networks(self._settings.egress_private),
        )

    async def end_leftovers(self, node: NodeId) -> int:
        cgroups, prefix = find_cgroups(), f"trunkline-{node}-"
        # Of version 1, what is frozen can't be killed.
        await asyncio.to_thread(cgroups.thaw_stale, prefix)
        ended = await asyncio.to_thread(leftovers.end_leftovers, node)
        await asyncio.to_thread(cgroups.remove_stale, prefix)
        return ended

    async def aclose(self) -> None:
        self._is_closed = True
        ours = [instance for instance in self._instances if instance.is_ours]
        await asyncio.gather(*(instance.stop() for instance in ours))
        await self._spares.aclose()
        await self._stacks.aclose()
        await self._nurseries.aclose()
        await self._tasks.aclose()
        self._appearances.close()
        self._resolver.close()
        if self._settings.run_dir is None and not self._has_successor:
            remove_run_dir(self._run_dir)

    async def _forget_ended(self, instance: ProcessInstance) -> None:
        try:
            await instance.wait_exited()
        finally:
            self._instances.discard(instance)
