"""The runtime that runs each session's agent as a process of this machine."""

import asyncio
import tempfile
from pathlib import Path

from trunkline.aio.tasks import TaskOwner
from trunkline.protocol.errors import UnavailableError
from trunkline.protocol.ids import NodeId
from trunkline.runtimes.interface import BuildLog, InstanceSpec, Launch, LogSink, VersionSource
from trunkline.runtimes.process import leftovers
from trunkline.runtimes.process.child import Spawn, spawn_here
from trunkline.runtimes.process.environment import EnvironmentBuilder
from trunkline.runtimes.process.instance import ProcessInstance
from trunkline.runtimes.process.listening import prepare_run_dir, remove_run_dir
from trunkline.runtimes.process.settings import ProcessSettings


class ProcessRuntime:
    """Runs agents as processes, without a sandbox."""

    name = "process"

    def __init__(self, settings: ProcessSettings, *, spawn: Spawn = spawn_here) -> None:
        """Prepare.

        Args:
            settings: What an operator may choose.
            spawn: Starts agents' processes.
        """
        self._settings = settings
        self._spawn = spawn
        self._tasks = TaskOwner()
        self._builder = EnvironmentBuilder(settings)
        self._instances: set[ProcessInstance] = set()
        self._is_closed = False
        self._run_dir = settings.run_dir or Path(tempfile.mkdtemp(prefix="trunkline-"))
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
            spawn=self._spawn,
        )
        self._instances.add(instance)
        self._tasks.spawn(self._forget_ended(instance), name=f"runtime:{spec.key}:forget")
        try:
            await instance.wait_ready()
        except BaseException:
            # Nobody else knows this process. If this wait is cancelled too, the stop goes on.
            await instance.stop()
            raise
        return instance

    async def end_leftovers(self, node: NodeId) -> int:
        return await asyncio.to_thread(leftovers.end_leftovers, node)

    async def aclose(self) -> None:
        self._is_closed = True
        await asyncio.gather(*(instance.stop() for instance in self._instances))
        await self._tasks.aclose()
        if self._settings.run_dir is None:
            remove_run_dir(self._run_dir)

    async def _forget_ended(self, instance: ProcessInstance) -> None:
        try:
            await instance.wait_exited()
        finally:
            self._instances.discard(instance)
