"""The runtime that runs each session's agent as a process of this machine."""

import asyncio
import tempfile
from pathlib import Path

from trunkline.aio.tasks import TaskOwner
from trunkline.protocol.errors import UnavailableError
from trunkline.protocol.ids import NodeId
from trunkline.runtimes.interface import (
    BuildLog,
    InstanceSpec,
    Launch,
    LogSink,
    Passed,
    VersionSource,
)
from trunkline.runtimes.process import leftovers
from trunkline.runtimes.process.child import spawn_here
from trunkline.runtimes.process.environment import EnvironmentBuilder
from trunkline.runtimes.process.instance import ProcessInstance, TakenOver
from trunkline.runtimes.process.kept import KeeperLine
from trunkline.runtimes.process.listening import prepare_run_dir, remove_run_dir
from trunkline.runtimes.process.settings import ProcessSettings


class ProcessRuntime:
    """Runs agents as processes, without a sandbox."""

    name = "process"

    def __init__(
        self,
        settings: ProcessSettings,
        *,
        keeper: KeeperLine | None = None,
        run_dir: Path | None = None,
    ) -> None:
        """Prepare.

        Args:
            settings: What an operator may choose.
            keeper: Starts agents' processes; without one they are children of this process.
            run_dir: Where agents' sockets are, if another process has made the directory already.
        """
        self._settings = settings
        self._keeper = keeper
        self._tasks = TaskOwner()
        self._builder = EnvironmentBuilder(settings)
        self._instances: set[ProcessInstance] = set()
        self._is_closed = False
        self._has_successor = False
        self._run_dir = run_dir or settings.run_dir or Path(tempfile.mkdtemp(prefix="trunkline-"))
        prepare_run_dir(self._run_dir)

    async def build(self, source: VersionSource, log: BuildLog) -> Launch:
        return await self._builder.build(source, log)

    async def start(self, spec: InstanceSpec, logs: LogSink) -> ProcessInstance:
        if self._is_closed:
            msg = "the platform is shutting down: it starts no agents"
            raise UnavailableError(msg)
        instance = ProcessInstance(
            spec,
            logs,
            run_dir=self._run_dir,
            settings=self._settings,
            tasks=self._tasks,
            origin=spawn_here if self._keeper is None else self._keeper.spawn,
        )
        self._remember(instance)
        try:
            await instance.wait_ready()
        except BaseException:
            # Nobody else knows this process. If this wait is cancelled too, the stop goes on.
            await instance.stop()
            raise
        return instance

    def take_over(self, spec: InstanceSpec, logs: LogSink, passed: Passed) -> ProcessInstance:
        assert self._keeper is not None, "only a keeper's agents outlive a platform process"
        instance = ProcessInstance(
            spec,
            logs,
            run_dir=self._run_dir,
            settings=self._settings,
            tasks=self._tasks,
            origin=TakenOver(self._keeper.adopt(passed.data["pid"]), passed),
        )
        self._remember(instance)
        return instance

    @property
    def run_dir(self) -> Path:
        """Where agents' sockets are."""
        return self._run_dir

    def let_go(self) -> None:
        """Leave the directory of agents' sockets: another process uses it."""
        self._has_successor = True

    def _remember(self, instance: ProcessInstance) -> None:
        self._instances.add(instance)
        self._tasks.spawn(self._forget_ended(instance), name=f"runtime:{instance.spec.key}:forget")

    async def end_leftovers(self, node: NodeId) -> int:
        return await asyncio.to_thread(leftovers.end_leftovers, node)

    async def aclose(self) -> None:
        self._is_closed = True
        ours = [instance for instance in self._instances if instance.is_ours]
        await asyncio.gather(*(instance.stop() for instance in ours))
        await self._tasks.aclose()
        if self._settings.run_dir is None and not self._has_successor:
            remove_run_dir(self._run_dir)

    async def _forget_ended(self, instance: ProcessInstance) -> None:
        try:
            await instance.wait_exited()
        finally:
            self._instances.discard(instance)
