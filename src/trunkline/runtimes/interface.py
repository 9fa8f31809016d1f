"""What ``sessions`` asks of a runtime: build a version once, start it often, stop it surely."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any, Protocol

from trunkline.protocol.errors import TrunklineError
from trunkline.protocol.ids import AgentName, NodeId, ProjectName, SessionKey, VersionId


class LogStream(StrEnum):
    """Where a line of a session's log came from."""

    STDOUT = "stdout"
    STDERR = "stderr"


class LogSink(Protocol):
    """Takes what an agent prints, from its first byte to its last."""

    def write(self, stream: LogStream, data: bytes) -> None:
        """Take bytes as read from one of the agent's pipes; they end anywhere."""

    def close_stream(self, stream: LogStream) -> None:
        """Say that the pipe is at its end, so that an unfinished last line is kept."""

    def event(self, reason: str, message: str) -> None:
        """Take one event of the agent's life, such as ``Started`` or ``Exited``."""


class BuildLog(Protocol):
    """Takes the words a version's build prints."""

    def write(self, text: str) -> None:
        """Take text; it ends anywhere."""


class BuildFailedError(TrunklineError):
    """The version's environment couldn't be built. ``str`` is one sentence for its owner."""

    code = "build_failed"


@dataclass(frozen=True, slots=True, kw_only=True)
class VersionSource:
    """What a runtime is given to build one version from."""

    agent: str
    version: VersionId
    code_dir: Path
    """The version's own copy of the agent's folder."""
    runtime: str | None
    """What the author asked for, such as ``python_3_13``."""
    entry_point: tuple[str, ...]
    """``("main.py",)`` or ``("python", "main.py")``."""
    dependency_resolution: str
    """``remote_build`` (install what is required) or ``bundled`` (it is all in the folder)."""
    environment: Mapping[str, str] = field(default_factory=dict)
    """Those of the definition's variables that the platform reads itself, as far as they are
    known before a session starts. Never a secret."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Launch:
    """How to start one version: the result of a build, kept with the version as JSON."""

    command: tuple[str, ...]
    """Program (absolute path) and arguments."""
    working_dir: str
    environment: Mapping[str, str]
    """Variables the build wants set, such as ``VIRTUAL_ENV``. Never a secret."""
    notes: tuple[str, ...] = ()
    """What the author should know, such as a fallback to another Python."""


class StartMode(StrEnum):
    """How a version's sessions are started."""

    ZYGOTE = "zygote"
    """Forked from an interpreter that has imported what the version imports."""
    SPAWN = "spawn"
    """As a program."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StartStatus:
    """How a version's next session is started, as far as a runtime knows."""

    mode: StartMode
    reason: str = ""
    """Why it isn't forked, or the last one wasn't."""
    preloaded: tuple[str, ...] = ()
    """Modules that are imported once for all sessions."""
    left_out: Mapping[str, str] = field(default_factory=dict)
    """Modules that can't be, and why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class InstanceSpec:
    """One agent process to be."""

    key: SessionKey
    version: VersionId
    launch: Launch
    home: Path
    """The session's own ``$HOME``. It exists, and outlives the process."""
    environment: Mapping[str, str]
    """The contract's and the definition's variables. ``PORT``, ``HOME``, ``PATH`` and the agent
    socket are the runtime's to add."""
    node: NodeId
    """Which platform process starts it; see :meth:`Runtime.end_leftovers`."""
    ready_timeout_s: float
    """How long to wait for ``GET /readiness`` to answer 200."""
    stop_timeout_s: float
    """How long the process has from SIGTERM to SIGKILL."""
    cpu: float = 1.0
    """How many processors it may use, where the runtime can bound that."""
    memory_bytes: int = 2 * 1024**3
    """How much memory it may use, where the runtime can bound that."""
    may_freeze: bool = False
    """Whether it may be frozen while it has nothing to do, where the runtime can do that."""
    gives_way: bool = False
    """Whether, from when it is ready, it gets a processor only when nobody else wants it, where
    the runtime can do that, until it has shown that it doesn't always want one."""


@dataclass(frozen=True, slots=True)
class Address:
    """Where an agent listens: a Unix socket's path, or a port on loopback."""

    path: str | None = None
    port: int | None = None

    def __str__(self) -> str:
        return f"unix:{self.path}" if self.path else f"127.0.0.1:{self.port}"


@dataclass(frozen=True, slots=True)
class ExitStatus:
    """How a process ended: by its own code, or by a signal."""

    code: int | None = None
    signal: int | None = None
    why: str = field(default="", compare=False)
    """Why it was ended, if that was for a limit."""

    def __str__(self) -> str:
        how = f"signal {self.signal}" if self.signal is not None else f"exit code {self.code}"
        return f"{how} ({self.why})" if self.why else how


@dataclass(frozen=True, slots=True)
class Passed:
    """What one process of the platform gives to the next to look after an agent."""

    data: Mapping[str, Any]
    """Plain data, for whoever passed it on to understand."""
    files: tuple[int, ...]
    """Open files that go with it."""


@dataclass(frozen=True, slots=True)
class Doing:
    """What an agent does of its own accord."""

    cpu_s: float | None
    """Seconds that it has used a processor, all told. None: it isn't known."""
    connections_out: int
    """Connections that it has open to elsewhere, as far as that is known."""
    connections_made: int
    """All that it ever opened, likewise."""


class FreezerFailedError(Exception):
    """An agent couldn't be frozen; ``str`` is one sentence."""


class Freezer(Protocol):
    """Stops an agent where it is, and lets it go on. It keeps its memory and its connections."""

    def freeze(self) -> None:
        """Begin to freeze it; `is_frozen` says when nothing of it runs any more.

        Raises:
            FreezerFailedError: If that can't be done.
        """

    def thaw(self) -> None:
        """Let it go on, if it is frozen."""

    @property
    def is_frozen(self) -> bool:
        """Whether nothing of it runs."""

    def doing(self) -> Doing:
        """Return what it does of its own accord."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """How much of one thing an agent uses, as the kernel counts it towards a limit.

    Processor time in seconds since its start, with a limit in processors; memory in bytes, what
    files keep in it included, with a limit in bytes.
    """

    used: float
    limit: float


@dataclass(frozen=True, slots=True, kw_only=True)
class ResourceUse:
    """What an agent uses. What isn't measured is None."""

    cpu: Measured | None = None
    memory: Measured | None = None


class Instance(Protocol):
    """One running agent process, ready to take connections."""

    @property
    def address(self) -> Address:
        """Where it listens."""

    @property
    def pid(self) -> int:
        """Its process id on this machine."""

    @property
    def freezer(self) -> Freezer | str:
        """What freezes it, or why nothing does. It is thawed for its end by itself."""

    async def wait_exited(self) -> ExitStatus:
        """Wait for the process to end and its last output to be written to the log.

        Any number of callers may wait; cancelling one touches nothing else.
        """

    async def stop(self) -> ExitStatus:
        """SIGTERM, then after ``stop_timeout_s`` SIGKILL, to the whole process group.

        Calling it again, or after the process has ended, only waits.
        """

    def resource_use(self) -> ResourceUse:
        """Return what it uses, as far as that is measured. It reads files of the kernel's."""

    @property
    def is_settled(self) -> bool:
        """Whether it is ready and neither stopping nor ending."""

    def pass_on(self) -> Passed:
        """Return what another process of the platform needs to take a settled one over.

        It is left alone until `take_back` or `let_go`. The files stay this process's to close.
        """

    def take_back(self) -> None:
        """Go on as if `pass_on` had not been called."""

    def let_go(self) -> None:
        """Touch nothing of it any more: another process has taken it over."""


class Runtime(Protocol):
    """One way to run agents."""

    @property
    def name(self) -> str:
        """``process``, ``container`` or ``kubernetes``."""

    async def build(self, source: VersionSource, log: BuildLog) -> Launch:
        """Make ready to start a version, at most once per set of requirements.

        Raises:
            BuildFailedError: If it can't be done; ``log`` has the details.
        """

    async def start(self, spec: InstanceSpec, logs: LogSink) -> Instance:
        """Start a process and wait until it is ready.

        Cancelling the call ends the process.

        Raises:
            SessionNotReadyError: If the process ended first, or wasn't ready in time. By
                then the process is gone and all it printed is in ``logs``.
        """

    def start_status(
        self, project: ProjectName, agent: AgentName, version: VersionId
    ) -> StartStatus:
        """Return how a version's next session is started."""

    def take_over(self, spec: InstanceSpec, logs: LogSink, passed: Passed) -> Instance:
        """Look after a ready agent that another process of the platform has passed on.

        The files are this process's from here on. Of the specification, what is about starting
        isn't used.
        """

    async def end_leftovers(self, node: NodeId) -> int:
        """End what still runs of agents that a platform process started and left when it died.

        Returns how many processes were ended; they are gone by then.
        """

    async def aclose(self) -> None:
        """Stop everything that still runs. Twice is fine."""
