"""A runtime in memory, and a session directory on it."""

import asyncio
import contextlib
import datetime as dt
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trunkline.auth.caller import Caller
from trunkline.auth.identity import Identity
from trunkline.protocol.ids import AgentName, NodeId, ProjectName, SessionId, SessionKey
from trunkline.runtimes.interface import (
    Address,
    BuildLog,
    ExitStatus,
    InstanceSpec,
    Launch,
    LogSink,
    Passed,
    ResourceUse,
    StartMode,
    StartStatus,
    VersionSource,
)
from trunkline.sessions.directory import SessionDirectory
from trunkline.sessions.launches import launch_to_json
from trunkline.sessions.settings import SessionSettings
from trunkline.sessions.slot import Lease
from trunkline.sessions.upkeep import Upkeep
from trunkline.store.interface import Store
from trunkline.store.records import NewVersion, SessionStatus, VersionRecord
from trunkline.store.sqlite.engine import open_sqlite
from trunkline.telemetry.metrics import Metrics

NODE = NodeId("node-1")
PROJECT, AGENT = ProjectName("default"), AgentName("echo")
ANNA = Caller(identity=Identity("urn:test", "anna"))
BERTA = Caller(identity=Identity("urn:test", "berta"))
LAUNCH = Launch(
    command=("/bin/agent",), working_dir="/code", environment={"VIRTUAL_ENV": "/env"}, notes=("n",)
)


class FakeInstance:
    """A process that ends when a test says so, or when it is stopped."""

    def __init__(self, number: int, may_stop: asyncio.Event) -> None:
        self.address = Address(path=f"/agent-{number}.sock")
        self.pid = number
        self.freezer: Any = "it is a fake"
        self.exited: asyncio.Future[ExitStatus] = asyncio.get_running_loop().create_future()
        self.stop_asked = asyncio.Event()
        self._may_stop = may_stop
        self.uses = ResourceUse()

    @property
    def is_settled(self) -> bool:
        return not (self.stop_asked.is_set() or self.exited.done())

    def pass_on(self) -> Passed:
        return Passed({"stop_timeout_s": 1.0}, ())

    def take_back(self) -> None:
        pass

    def crash(self) -> None:
        self.exited.set_result(ExitStatus(code=3))

    async def wait_exited(self) -> ExitStatus:
        return await asyncio.shield(self.exited)

    def resource_use(self) -> ResourceUse:
        return self.uses

    async def stop(self) -> ExitStatus:
        self.stop_asked.set()
        await self._may_stop.wait()
        if not self.exited.done():
            self.exited.set_result(ExitStatus(signal=15))
        return await self.wait_exited()


class FakeRuntime:
    """Starts :class:`FakeInstance`; a test holds the gates."""

    name = "fake"

    def __init__(self) -> None:
        self.specs: list[InstanceSpec] = []
        self.instances: list[FakeInstance] = []
        self.begun = asyncio.Event()
        self.may_start = asyncio.Event()
        self.may_start.set()
        self.may_stop = asyncio.Event()
        self.may_stop.set()
        self.error: Exception | None = None
        self.cancelled_starts = 0
        self.buried: list[NodeId] = []

    async def build(self, source: VersionSource, log: BuildLog) -> Launch:
        raise NotImplementedError

    async def start(self, spec: InstanceSpec, logs: LogSink) -> FakeInstance:
        self.specs.append(spec)
        self.begun.set()
        try:
            await self.may_start.wait()
        except asyncio.CancelledError:
            self.cancelled_starts += 1
            raise
        if self.error is not None:
            raise self.error
        instance = FakeInstance(len(self.specs), self.may_stop)
        self.instances.append(instance)
        return instance

    def start_status(self, *_: Any) -> StartStatus:
        return StartStatus(mode=StartMode.SPAWN)

    async def end_leftovers(self, node: NodeId) -> int:
        self.buried.append(node)
        return 0

    async def aclose(self) -> None:
        for instance in self.instances:
            await instance.stop()


@dataclass
class World:
    """A session directory, and all it stands on."""

    store: Store
    runtime: FakeRuntime
    sessions: SessionDirectory
    sessions_dir: Path
    metrics: Metrics

    async def add_version(self, **definition: Any) -> VersionRecord:
        record, _ = await self.store.add_version(new_version(**definition))
        finished = await self.store.finish_version(record, launch=launch_to_json(LAUNCH))
        assert finished is not None
        return finished

    async def acquire(
        self, session_id: str = "s", caller: Caller = ANNA, protocol: str = "invocations_ws"
    ) -> Lease:
        return await self.sessions.acquire(key(session_id), caller, protocol=protocol)

    async def delete(self, session_id: str = "s") -> None:
        record = await self.store.find_session(key(session_id))
        if record is not None:
            await self.sessions.delete(record)

    async def until_settled(self, session_id: str = "s") -> None:
        """Wait until the directory has done all that follows from a process's end."""
        names = {f"{word}:{key(session_id)}" for word in ("watch", "stop")}
        while tasks := [task for task in asyncio.all_tasks() if task.get_name() in names]:
            await asyncio.wait(tasks)


def key(session_id: str = "s", agent: str = AGENT) -> SessionKey:
    return SessionKey(PROJECT, AgentName(agent), SessionId(session_id))


def new_version(**definition: Any) -> NewVersion:
    whole: Mapping[str, Any] = {
        "protocol_versions": [
            {"protocol": "invocations_ws", "version": "2.0.0"},
            {"protocol": "invocations", "version": "2.0.0"},
        ],
        **definition,
    }
    return NewVersion(
        project=PROJECT,
        agent=AGENT,
        definition=whole,
        description=None,
        metadata={},
        content_hash=repr(whole),
        code_sha256="c",
        builder=NODE,
    )


@contextlib.asynccontextmanager
async def world(folder: Path, **settings: Any) -> AsyncIterator[World]:
    """Run a session directory on a fake runtime and a store in a file."""
    store = await open_sqlite(folder / "trunkline.db")
    runtime, metrics = FakeRuntime(), Metrics()
    sessions = SessionDirectory(
        SessionSettings(**settings),
        store=store,
        runtime=runtime,
        sessions_dir=folder / "sessions",
        metrics=metrics,
        node=NODE,
    )
    await store.add_node(NODE, dt.datetime.now(dt.UTC), "http://127.0.0.1:1")
    sessions.set_endpoint("http://127.0.0.1:1")
    try:
        yield World(store, runtime, sessions, folder / "sessions", metrics)
    finally:
        runtime.may_start.set()
        runtime.may_stop.set()
        await sessions.aclose()
        await store.aclose()


def upkeep_of(w: World, **settings: float) -> Upkeep:
    return Upkeep(
        SessionSettings(**settings),
        store=w.store, runtime=w.runtime, sessions=w.sessions, node=NODE, url="http://127.0.0.1:1",
    )  # fmt: skip


def metric(metrics: Metrics, name: str) -> float:
    """Return a metric's value by the words Prometheus prints before it."""
    for line in metrics.render().decode().splitlines():
        if line.rpartition(" ")[0] == name:
            return float(line.rpartition(" ")[2])
    return 0.0


async def until(holds: Callable[[], Awaitable[bool]]) -> None:
    """Ask again and again until the answer is yes: the store tells nobody of its changes."""
    while not await holds():  # noqa: ASYNC110 - it tells nobody
        await asyncio.sleep(0.005)


async def until_deleting(w: World) -> None:
    """Wait until the session is marked as being deleted."""

    async def is_deleting() -> bool:
        found = await w.store.find_session(key())
        return found is not None and found.status is SessionStatus.DELETING

    await until(is_deleting)


__all__ = ["ANNA", "BERTA", "LAUNCH", "NODE", "FakeInstance", "World", "key", "metric",
           "new_version", "until", "until_deleting", "upkeep_of", "world"]  # fmt: skip
