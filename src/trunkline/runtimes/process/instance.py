"""One agent process, from before it is spawned until its last byte of output is logged.

One task lives its whole life; everyone else waits for that task or sends signals. Getting
something to run in is ``environment``'s work.
"""

import asyncio
import contextlib
import signal
import socket
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from trunkline.protocol.errors import SessionNotReadyError
from trunkline.runtimes.interface import (
    Address,
    ExitStatus,
    Freezer,
    InstanceSpec,
    LogSink,
    LogStream,
    Passed,
    ResourceUse,
)
from trunkline.runtimes.process.around import Around, TakenOver
from trunkline.runtimes.process.child import Child, Spawn, exit_status, start_child
from trunkline.runtimes.process.freezing import BoxFreezer
from trunkline.runtimes.process.listening import Endpoint
from trunkline.runtimes.process.output import OutputPipe, drained
from trunkline.runtimes.process.readiness import wait_ready
from trunkline.runtimes.process.sandbox.box import Box
from trunkline.runtimes.process.sandbox.control import SandboxFailedError, reason_of
from trunkline.runtimes.process.sandbox.forked import ForkedChild
from trunkline.runtimes.process.sandbox.policy import network_variables
from trunkline.runtimes.process.sandbox.watch import LimitWatch
from trunkline.runtimes.process.variables import agent_environment

#: What a shell ends with when it can't run a command.
_NOT_RUN = ExitStatus(code=127)
#: How long a sandbox may take to be made; it takes a few milliseconds.
_ENTER_TIMEOUT_S = 20.0
_ENDED_WELL = ExitStatus(code=0)


class ProcessInstance:
    """A process of this machine.

    Call `wait_ready` once after making it; before that has returned, `address` isn't known.
    """

    def __init__(
        self,
        spec: InstanceSpec,
        logs: LogSink,
        around: Around,
        *,
        origin: Spawn | TakenOver,
        box: Box | None,
    ) -> None:
        """Start it, or take it over.

        Args:
            spec: The agent.
            logs: Takes what it prints, and what becomes of it.
            around: What all of a runtime's agents have in common.
            origin: What starts its process, or who has done so.
            box: Its sandbox; None: it has none.
        """
        self.spec = spec
        self._logs = logs
        self._run_dir = around.run_dir
        self._settings = around.settings
        self._tasks = around.tasks
        self._on_limit = around.on_limit
        self._spares = around.spares
        self._nurseries = around.nurseries
        self._measuring = around.measuring
        self._appearances = around.appearances
        self._box = box
        self._limits: LimitWatch | None = None
        self._freezer = None if box is None else BoxFreezer(box, lambda: self._limits)
        self._child: Child | ForkedChild | None = None
        self._address: Address | None = None
        self._endpoint: Endpoint | None = None
        self._spawn_failure = self._last_line = ""
        self.fork_failure = ""
        """Why it couldn't be forked, if that was tried; nothing of its author's has run then."""
        self._spawned = asyncio.Event()
        self._exited = asyncio.Event()
        #: Set when whoever waits for it to be ready is to look again.
        self._news = asyncio.Event()
        self._stopping: asyncio.Task[None] | None = None
        self.is_ours = True
        self._loop = asyncio.get_running_loop()
        self._started_at = self._loop.time()
        self._pipes: list[OutputPipe] = []
        if isinstance(origin, TakenOver):
            self._take_over(origin)
        else:
            self._spawn_process = origin
        self._life = self._tasks.spawn(self._live(), name=f"runtime:{spec.key}")

    @property
    def address(self) -> Address:
        assert self._address is not None, "not ready yet"
        return self._address

    @property
    def pid(self) -> int:
        assert self._child is not None, "not spawned yet"
        return self._child.pid

    @property
    def freezer(self) -> Freezer | str:
        if self._freezer is None or self._box is None:
            return "it has no sandbox"
        return self._box.why_not_frozen or self._freezer

    async def wait_exited(self) -> ExitStatus:
        return await asyncio.shield(self._life)

    async def stop(self) -> ExitStatus:
        if self._stopping is None and not self._life.done():
            self._stopping = self._tasks.spawn(self._stop(), name=f"runtime:{self.spec.key}:stop")
        if self._stopping is not None:
            await asyncio.shield(self._stopping)
        return await self.wait_exited()

    def resource_use(self) -> ResourceUse:
        return ResourceUse() if self._box is None else self._box.resource_use()

    @property
    def is_forked(self) -> bool:
        """Whether it was forked, and not started as a program."""
        return isinstance(self._child, ForkedChild)

    # Changing the process of the platform that looks after it

    @property
    def is_settled(self) -> bool:
        """Whether it is ready and neither stopping nor ending."""
        return self._address is not None and not self.is_over

    def pass_on(self) -> Passed:
        """Return what another process of the platform needs to take it over.

        Until `take_back` or `let_go` nothing it prints is read, and its end isn't acted upon.
        """
        assert self._child is not None
        assert self._address is not None
        self._child.hold()
        for pipe in self._pipes:
            pipe.hold()
        files = [file for pipe in self._pipes if (file := pipe.read_fd) is not None]
        data = {
            "pid": self._child.pid,
            "age_s": self.age_s(),
            "stop_timeout_s": self.spec.stop_timeout_s,
            "pipes": [pipe.read_fd is not None for pipe in self._pipes],
            "environment": network_variables(self.spec.environment),
            "is_forked": self.is_forked,
        }
        if self._box is not None:
            boxed = self._box.pass_on(self._address)
            return Passed({**data, "box": boxed.data}, (*files, *boxed.files))
        assert self._endpoint is not None
        if self._endpoint.reservation is not None:
            files.append(self._endpoint.reservation)
        data |= {
            "directory": str(self._endpoint.directory),
            "port": self._endpoint.port,
            "listens_on_port": self._address.port is not None,
            "holds_port": self._endpoint.reservation is not None,
        }
        return Passed(data, tuple(files))

    def take_back(self) -> None:
        """Go on as if `pass_on` had not been called."""
        assert self._child is not None
        for pipe in self._pipes:
            pipe.go_on()
        if self._box is not None:
            self._box.take_back()
        self._child.go_on()

    def let_go(self) -> None:
        """Touch nothing of it any more: another process has taken it over."""
        assert self._child is not None
        self.is_ours = False
        self._child.let_go()
        if self._endpoint is not None:
            self._endpoint.let_go()
        if self._box is not None:
            self._box.let_go()
        for pipe in self._pipes:
            pipe.let_go()

    def _take_over(self, given: TakenOver) -> None:
        data, files = given.passed.data, list(given.passed.files)
        if given.started is not None:
            self._child = Child(given.started)
        for stream, is_open in zip(LogStream, data["pipes"], strict=True):
            if is_open:
                self._pipes.append(self._pipe(stream, files.pop(0)))
            else:
                self._pipes.append(OutputPipe.ended_one())
        self._started_at -= data["age_s"]
        if self._box is not None:
            self._address = self._box.take_over(Passed(data["box"], tuple(files)))
            if self._child is None:
                self._child = self._box.forked_child()
            return
        reservation = socket.socket(fileno=files.pop(0)) if data["holds_port"] else None
        self._endpoint = Endpoint(Path(data["directory"]), reservation, data["port"])
        self._address = (
            Address(port=data["port"])
            if data["listens_on_port"]
            else Address(path=self._endpoint.socket_path)
        )

    async def wait_ready(self) -> None:
        """Wait until the agent says it is ready.

        Cancelling leaves the process as it is; `stop` it.

        Raises:
            SessionNotReadyError: If it ended, or wasn't ready in time and was stopped.
        """
        limit_s = self.spec.ready_timeout_s
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
        if self.spec.gives_way and self._limits is not None:
            self._limits.give_way()
        where = "its Unix socket" if address.path is not None else f"port {address.port}"
        if self._box is not None:
            where = self._box.describe(address)
        self._logs.event("Ready", f"after {self.age_s() * 1000:.0f} ms, on {where}")

    async def _poll_until_ready(self) -> Address | None:
        """Return where the agent is ready, or None if it ended or is being stopped."""
        await self._spawned.wait()
        if (place := self._box or self._endpoint) is None:
            return None
        return await wait_ready(
            place,
            self._appearances,
            self._news,
            is_over=lambda: self.is_over,
            waited_s=self.age_s,
            timeout_s=self._settings.probe_timeout_s,
        )

    @property
    def is_over(self) -> bool:
        """Whether it has ended, or is being ended."""
        return self._exited.is_set() or self._stopping is not None

    def _early_end(self) -> str:
        if self._spawn_failure:
            return f"the agent couldn't be started: {self._spawn_failure}"
        if self._stopping is not None:
            return "the agent was stopped before it was ready"
        return f"the agent ended with {self._life.result()} before it was ready{self._hint()}"

    def _hint(self) -> str:
        if self._last_line:
            return f"; its last line was: {self._last_line}"
        if self._life.result() == _ENDED_WELL:
            return ": it ran to its end without serving; does it end with app.run()?"
        return ""

    def age_s(self) -> float:
        """Return for how long it has been there."""
        return self._loop.time() - self._started_at

    async def _live(self) -> ExitStatus:
        try:
            with contextlib.ExitStack() as resources:
                ending = None
                if self._child is None:
                    self._logs.event("Starting", f"version {self.spec.version}")
                    try:
                        if self._box is None:
                            self._spawn_free(resources)
                        else:
                            ending = await self._spawn_boxed(self._box, resources)
                    except (OSError, SandboxFailedError) as error:
                        self._spawn_failure = reason_of(error)
                        if self.is_forked:
                            self.fork_failure = self._spawn_failure
                        self._logs.event(
                            "NotReady", f"it couldn't be started: {self._spawn_failure}"
                        )
                        return _NOT_RUN
                else:
                    self._own(resources)
                assert self._child is not None
                return await self._watch(self._child, self._pipes, ending)
        finally:
            self._has_exited()
            self._spawned.set()
            if self._box is not None:
                await self._box.finish()

    def _has_exited(self) -> None:
        self._exited.set()
        self._news.set()

    def _own(self, resources: contextlib.ExitStack) -> None:
        # What was taken over is given back as what was made here.
        assert self._child is not None
        if self._endpoint is not None:
            resources.callback(self._endpoint.remove)
        for pipe in self._pipes:
            resources.callback(pipe.close)
        resources.callback(self._signal, signal.SIGKILL)

    def _signal(self, number: signal.Signals) -> None:
        if self._freezer is not None:
            self._freezer.let_end()
        if self._child is not None:
            self._child.signal_group(number)

    def _pipe(self, stream: LogStream, read_fd: int | None = None) -> OutputPipe:
        return OutputPipe(
            partial(self._logs.write, stream),
            partial(self._logs.close_stream, stream),
            chunk_bytes=self._settings.output_chunk_bytes,
            read_fd=read_fd,
        )

    def _spawn_free(self, resources: contextlib.ExitStack) -> None:
        """Start the agent, with nothing around it."""
        launch = self.spec.launch
        self._open_pipes(resources)
        endpoint = self._endpoint = Endpoint.make(self._run_dir)
        resources.callback(endpoint.remove)
        environment = agent_environment(
            self.spec, endpoint.environment, self._settings.platform_environment
        )
        child = self._spawn(launch.command, launch.working_dir, environment, resources)
        self._logs.event("Started", f"process {child.pid}")

    async def _spawn_boxed(self, box: Box, resources: contextlib.ExitStack) -> "asyncio.Task[int]":
        """Start the agent in a sandbox; when this returns, its own program runs.

        Returns:
            What waits for its end.
        """
        self._open_pipes(resources)
        forked = self._nurseries.take(self.spec, partial(self._environment, box), box)
        launcher = forked or self._spares.take(self.spec.node)
        child, ending = launcher.child, launcher.ending
        self._child = child
        resources.callback(self._signal, signal.SIGKILL)
        try:
            await box.prepare(launcher, self._environment(box, self.spec))
        except OSError:
            child.signal_group(signal.SIGKILL)
            await ending
            raise
        stdout, stderr = self._pipes
        entering = self._tasks.spawn(
            box.enter(stdout.write_fd, stderr.write_fd),
            name=f"runtime:{self.spec.key}:enter",
            is_awaited=True,
        )
        try:
            await asyncio.wait(
                (entering, ending), timeout=_ENTER_TIMEOUT_S, return_when=asyncio.FIRST_COMPLETED
            )
            if entering.done():
                entering.result()
            elif not ending.done():
                raise SandboxFailedError(f"its sandbox wasn't made in {_ENTER_TIMEOUT_S:g} s")
        except (OSError, SandboxFailedError):
            child.signal_group(signal.SIGKILL)
            await ending
            raise
        finally:
            entering.cancel()
            for pipe in self._pipes:
                pipe.close_write_end()
        # It is known from here on, also when it has ended.
        self._logs.event("Started", f"process {child.pid}")
        return ending

    def _environment(self, box: Box, spec: InstanceSpec) -> Mapping[str, str]:
        return agent_environment(
            spec, box.places, self._settings.platform_environment, box.environment
        )

    def _open_pipes(self, resources: contextlib.ExitStack) -> None:
        for stream in LogStream:
            pipe = self._pipe(stream)
            resources.callback(pipe.close)
            self._pipes.append(pipe)

    def _spawn(
        self,
        command: Sequence[str],
        cwd: str,
        environment: Mapping[str, str],
        resources: contextlib.ExitStack,
    ) -> Child:
        stdout, stderr = self._pipes
        child = self._child = start_child(
            command,
            cwd=cwd,
            env=environment,
            stdout=stdout.write_fd,
            stderr=stderr.write_fd,
            spawn=self._spawn_process,
        )
        resources.callback(child.signal_group, signal.SIGKILL)
        stdout.close_write_end()
        stderr.close_write_end()
        return child

    async def _watch(
        self,
        child: Child | ForkedChild,
        pipes: list[OutputPipe],
        ending: "asyncio.Task[int] | None",
    ) -> ExitStatus:
        self._spawned.set()
        watching = None
        if self._box is not None:
            self._limits = LimitWatch(
                self._box,
                tell=self._tell_limit,
                end=self._signal,
                may_yield=self._settings.busy_agents_yield,
            )
            watching = self._tasks.spawn(
                self._limits.run(self._settings.limits_interval_s, self._measuring),
                name=f"runtime:{self.spec.key}:limits",
            )
        # It ends together with what it left in its group: children that outlive it would keep
        # its ports, files and pipes.
        status = exit_status(await (child.wait() if ending is None else ending))
        self._has_exited()
        if watching is not None:
            watching.cancel()
        await self._drain(pipes)
        stdout, stderr = pipes
        self._last_line = stderr.last_line() or stdout.last_line()
        if self._box is not None and self._limits is not None:
            status = await self._finish_box(self._box, self._limits, status)
        self._logs.event("Exited", f"{status}, after {self.age_s():.1f} s")
        return status

    async def _finish_box(self, box: Box, limits: LimitWatch, status: ExitStatus) -> ExitStatus:
        used = await box.finish()
        is_killed = status.signal == signal.SIGKILL
        if box.failure is not None and status == _NOT_RUN:
            self._spawn_failure = box.failure
        return replace(status, why=limits.note_end(used, is_killed=is_killed))

    def _tell_limit(self, limit: str, reason: str, message: str) -> None:
        self._on_limit(limit)
        self._logs.event(reason, message)

    async def _drain(self, pipes: list[OutputPipe]) -> None:
        if not await drained(pipes, self._settings.drain_timeout_s):
            self._logs.event(
                "OutputCut",
                "processes that left the agent's process group still hold its output open "
                f"{self._settings.drain_timeout_s:g} s after its end (drain_timeout_s)",
            )

    async def _stop(self) -> None:
        await self._spawned.wait()
        child = self._child
        if child is None or self._exited.is_set():
            return
        self._logs.event("Stopping", "SIGTERM")
        self._signal(signal.SIGTERM)
        try:
            async with asyncio.timeout(self.spec.stop_timeout_s):
                await self._exited.wait()
        except TimeoutError:
            limit = f"{self.spec.stop_timeout_s:g} s (stop_timeout_s)"
            self._logs.event("Stopping", f"SIGKILL: it still ran after {limit}")
            self._signal(signal.SIGKILL)
            await self._exited.wait()
