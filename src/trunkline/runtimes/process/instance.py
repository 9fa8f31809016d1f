"""One agent process, from before it is spawned until its last byte of output is logged.

One task lives its whole life; everyone else waits for that task or sends signals. Getting
something to run in is ``environment``'s work.
"""

import asyncio
import contextlib
import os
import signal
from collections.abc import Mapping
from functools import partial
from pathlib import Path

from trunkline.aio.tasks import TaskOwner
from trunkline.protocol.environment import HOME, NODE
from trunkline.protocol.errors import SessionNotReadyError
from trunkline.runtimes.interface import Address, ExitStatus, InstanceSpec, LogSink, LogStream
from trunkline.runtimes.process.child import Child, Spawn
from trunkline.runtimes.process.listening import Endpoint
from trunkline.runtimes.process.output import OutputPipe
from trunkline.runtimes.process.readiness import find_ready, next_delay_s
from trunkline.runtimes.process.settings import ProcessSettings

_INHERITED = ("LANG", "TZ")
#: What a shell ends with when it can't run a command.
_NOT_RUN = ExitStatus(code=127)
_ENDED_WELL = ExitStatus(code=0)


def exit_status(returncode: int) -> ExitStatus:
    """Return what a return code in Python's form says."""
    return ExitStatus(signal=-returncode) if returncode < 0 else ExitStatus(code=returncode)


def _reason(error: OSError) -> str:
    return error.strerror or str(error)


def agent_environment(
    spec: InstanceSpec, endpoint: Mapping[str, str], platform: Mapping[str, str]
) -> dict[str, str]:
    """Return the whole environment of an agent: nothing of the platform's gets in by itself."""
    env = {name: platform[name] for name in _INHERITED if name in platform}
    env |= spec.launch.environment
    env |= spec.environment
    path = spec.environment.get("PATH") or platform.get("PATH") or os.defpath
    first = spec.launch.environment.get("PATH")
    env["PATH"] = f"{first}{os.pathsep}{path}" if first else path
    env |= endpoint
    env |= {HOME: str(spec.home), NODE: spec.node, "PYTHONUNBUFFERED": "1"}
    return env


class ProcessInstance:
    """A process of this machine.

    Call `wait_ready` once after making it; before that has returned, `address` isn't known.
    """

    def __init__(
        self,
        spec: InstanceSpec,
        logs: LogSink,
        *,
        run_dir: Path,
        settings: ProcessSettings,
        tasks: TaskOwner,
        spawn: Spawn,
    ) -> None:
        self._spec = spec
        self._logs = logs
        self._run_dir = run_dir
        self._settings = settings
        self._tasks = tasks
        self._spawn_process = spawn
        self._child: Child | None = None
        self._address: Address | None = None
        self._endpoint: Endpoint | None = None
        self._spawn_failure: OSError | None = None
        self._last_line = ""
        self._spawned = asyncio.Event()
        self._exited = asyncio.Event()
        self._stopping: asyncio.Task[None] | None = None
        self._loop = asyncio.get_running_loop()
        self._started_at = self._loop.time()
        self._life = tasks.spawn(self._live(), name=f"runtime:{spec.key}")

    @property
    def address(self) -> Address:
        assert self._address is not None, "not ready yet"
        return self._address

    @property
    def pid(self) -> int:
        assert self._child is not None, "not spawned yet"
        return self._child.pid

    async def wait_exited(self) -> ExitStatus:
        return await asyncio.shield(self._life)

    async def stop(self) -> ExitStatus:
        if self._stopping is None and not self._life.done():
            self._stopping = self._tasks.spawn(self._stop(), name=f"runtime:{self._spec.key}:stop")
        if self._stopping is not None:
            await asyncio.shield(self._stopping)
        return await self.wait_exited()

    async def wait_ready(self) -> None:
        """Wait until the agent says it is ready.

        Cancelling leaves the process as it is; `stop` it.

        Raises:
            SessionNotReadyError: If it ended, or wasn't ready in time and was stopped.
        """
        limit_s = self._spec.ready_timeout_s
        try:
            async with asyncio.timeout(limit_s):
                address = await self._poll_until_ready()
        except TimeoutError:
            message = f"the agent wasn't ready within {limit_s:g} s (ready_timeout_s)"
            self._logs.event("NotReady", message)
            await self.stop()
            raise SessionNotReadyError(message + self._hint()) from None
        if address is None:
            await self.wait_exited()
            raise SessionNotReadyError(self._early_end())
        if address.path is not None and self._endpoint is not None:
            self._endpoint.release_port()
        self._address = address
        where = "its Unix socket" if address.path is not None else f"port {address.port}"
        self._logs.event("Ready", f"after {self._age_s() * 1000:.0f} ms, on {where}")

    async def _poll_until_ready(self) -> Address | None:
        """Return where the agent is ready, or None if it ended or is being stopped."""
        await self._spawned.wait()
        while not self._exited.is_set() and self._stopping is None and self._endpoint is not None:
            address = await find_ready(
                self._endpoint.socket_path,
                self._endpoint.port,
                timeout_s=self._settings.probe_timeout_s,
            )
            if address is not None and not self._exited.is_set() and self._stopping is None:
                return address
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(next_delay_s(self._age_s())):
                    await self._exited.wait()
        return None

    def _early_end(self) -> str:
        if self._spawn_failure is not None:
            return f"the agent couldn't be started: {_reason(self._spawn_failure)}"
        if self._stopping is not None:
            return "the agent was stopped before it was ready"
        return f"the agent ended with {self._life.result()} before it was ready{self._hint()}"

    def _hint(self) -> str:
        if self._last_line:
            return f"; its last line was: {self._last_line}"
        if self._life.result() == _ENDED_WELL:
            return ": it ran to its end without serving; does it end with app.run()?"
        return ""

    def _age_s(self) -> float:
        return self._loop.time() - self._started_at

    async def _live(self) -> ExitStatus:
        self._logs.event("Starting", f"version {self._spec.version}")
        try:
            with contextlib.ExitStack() as resources:
                try:
                    child, pipes = self._spawn(resources)
                except OSError as error:
                    self._spawn_failure = error
                    self._logs.event("NotReady", f"it couldn't be started: {_reason(error)}")
                    return _NOT_RUN
                return await self._watch(child, pipes)
        finally:
            self._exited.set()
            self._spawned.set()

    def _spawn(self, resources: contextlib.ExitStack) -> tuple[Child, list[OutputPipe]]:
        endpoint = self._endpoint = Endpoint(self._run_dir)
        resources.callback(endpoint.remove)
        pipes: list[OutputPipe] = []
        for stream in LogStream:
            pipe = OutputPipe(
                partial(self._logs.write, stream),
                partial(self._logs.close_stream, stream),
                chunk_bytes=self._settings.output_chunk_bytes,
            )
            resources.callback(pipe.close)
            pipes.append(pipe)
        stdout, stderr = pipes
        child = self._child = Child(
            self._spec.launch.command,
            cwd=self._spec.launch.working_dir,
            env=agent_environment(
                self._spec, endpoint.environment, self._settings.platform_environment
            ),
            stdout=stdout.write_fd,
            stderr=stderr.write_fd,
            spawn=self._spawn_process,
        )
        resources.callback(child.signal_group, signal.SIGKILL)
        stdout.close_write_end()
        stderr.close_write_end()
        return child, pipes

    async def _watch(self, child: Child, pipes: list[OutputPipe]) -> ExitStatus:
        self._logs.event("Started", f"process {child.pid}")
        self._spawned.set()
        # It ends together with what it left in its group: children that outlive it would keep
        # its ports, files and pipes.
        status = exit_status(await child.wait())
        self._exited.set()
        await self._drain(pipes)
        stdout, stderr = pipes
        self._last_line = stderr.last_line() or stdout.last_line()
        self._logs.event("Exited", f"{status}, after {self._age_s():.1f} s")
        return status

    async def _drain(self, pipes: list[OutputPipe]) -> None:
        try:
            async with asyncio.timeout(self._settings.drain_timeout_s):
                for pipe in pipes:
                    await pipe.ended.wait()
        except TimeoutError:
            self._logs.event(
                "OutputCut",
                "processes that left the agent's process group still hold its output open "
                f"{self._settings.drain_timeout_s:g} s after its end (drain_timeout_s)",
            )
            for pipe in pipes:
                pipe.close()

    async def _stop(self) -> None:
        await self._spawned.wait()
        child = self._child
        if child is None or self._exited.is_set():
            return
        self._logs.event("Stopping", "SIGTERM")
        child.signal_group(signal.SIGTERM)
        try:
            async with asyncio.timeout(self._spec.stop_timeout_s):
                await self._exited.wait()
        except TimeoutError:
            limit = f"{self._spec.stop_timeout_s:g} s (stop_timeout_s)"
            self._logs.event("Stopping", f"SIGKILL: it still ran after {limit}")
            child.signal_group(signal.SIGKILL)
            await self._exited.wait()
