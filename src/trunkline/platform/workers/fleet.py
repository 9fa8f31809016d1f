"""The main process's workers: started, watched, replaced when they die, told what all must know."""

import asyncio
import contextlib
import importlib.metadata
import logging
import os
import signal
import socket
import sys
import time
from base64 import b64decode
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path
from typing import Any, Final

from trunkline.aio.channel import Channel, Message
from trunkline.aio.passing import PassingError
from trunkline.aio.shared_counts import SharedCounts
from trunkline.aio.tasks import TaskOwner
from trunkline.gateway.door import Origin
from trunkline.gateway.moving import Moved
from trunkline.platform.workers.desk import Desk, DeskServices
from trunkline.protocol.errors import TrunklineError
from trunkline.protocol.ids import AgentName, NodeId, ProjectName, SessionKey
from trunkline.sessions.arriving import key_from
from trunkline.sessions.live import AgentNow

_log = logging.getLogger("trunkline.workers")
_START_TIMEOUT_S: Final = 60.0
_ANSWER_TIMEOUT_S: Final = 2.0
#: How much longer than the drain a worker may take to end.
_END_S: Final = 5.0
#: How long it takes, at least, until another worker is in the place of one that ended.
_AGAIN_S: Final = 0.1
#: A worker that lived for less long than this isn't replaced at once.
_SHORT_LIFE_S: Final = 5.0
_FIRST_PAUSE_S: Final = 0.5
_LONGEST_PAUSE_S: Final = 30.0


class WorkerFailedError(TrunklineError):
    """A worker couldn't start."""

    code = "worker_failed"


class _State(IntEnum):
    """How far a worker has come; forward only."""

    STARTING = 0
    READY = 1
    SERVING = 2
    DRAINED = 3
    ENDED = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class FleetOptions:
    """What workers are started with."""

    host: str
    state_dir: Path
    listeners: Sequence[socket.socket]
    """One for each worker."""
    shared: SharedCounts
    """Column 0 is this process's, and the next ones are the workers'."""
    drain_timeout_s: float


class Worker:
    """One worker process, as the main process sees it."""

    def __init__(self, number: int, desk: Desk) -> None:
        self.number = number
        self.desk = desk
        self.state = _State.STARTING
        self.started_at = time.monotonic()
        self.process: asyncio.subprocess.Process
        self.channel: Channel
        #: Set when everything it said has been heard.
        self.silent = asyncio.Event()
        self.departed: asyncio.Future[tuple[Moved, bool]] = (
            asyncio.get_running_loop().create_future()
        )
        self._changed = asyncio.Event()

    def reach(self, state: _State) -> None:
        """Note how far it has come."""
        self.state = max(self.state, state)
        self._changed.set()
        self._changed = asyncio.Event()

    async def until(self, state: _State) -> None:
        """Wait until it has come so far, or has ended."""
        while self.state < state:
            await self._changed.wait()


class Fleet:
    """All workers of one main process."""

    def __init__(self, options: FleetOptions, services: DeskServices) -> None:
        self._options = options
        self._services = services
        self._workers: dict[int, Worker] = {}
        self._tasks = TaskOwner()
        self._is_serving = False
        self._is_ending = False
        self._version = importlib.metadata.version("trunkline")
        services.metrics.sources.append(self._count)

    # Starting

    async def start(self) -> None:
        """Start all of them; return when they are ready to accept connections.

        Raises:
            WorkerFailedError: If one can't.
        """
        try:
            async with asyncio.timeout(_START_TIMEOUT_S):
                for number in range(len(self._options.listeners)):
                    await self._start(number)
                for worker in self._workers.values():
                    await worker.until(_State.READY)
        except TimeoutError:
            raise WorkerFailedError(
                f"the gateway's workers weren't ready after {_START_TIMEOUT_S:g} s"
            ) from None
        for worker in self._workers.values():
            if worker.state is _State.ENDED:
                raise WorkerFailedError(
                    f"worker {worker.number} of the gateway {_how(worker.process.returncode or 0)} "
                    "before it was ready; if it has said why, that is in the log"
                )

    async def _start(self, number: int) -> None:
        given = self._options
        listener, counts = given.listeners[number].fileno(), given.shared.file
        worker = Worker(number, Desk(self._services))
        ours, theirs = socket.socketpair()
        with theirs:
            files = (theirs.fileno(), listener, counts)
            worker.process = await asyncio.create_subprocess_exec(
                sys.executable, "-P", "-m", "trunkline.platform.workers.process",
                given.host, str(given.state_dir),
                "--worker", str(number), str(len(given.listeners)),
                "--parent", str(os.getpid()), "--version", self._version,
                "--files", *map(str, files),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.DEVNULL,
                pass_fds=files,
            )  # fmt: skip
        worker.channel = Channel(
            ours,
            on_tell=lambda message, files: self._told(worker, message, files),
            on_ask=worker.desk.answer,
            on_lost=worker.silent.set,
        )
        worker.channel.open()
        self._workers[number] = worker
        self._tasks.spawn(self._watch(worker), name=f"worker:{number}")

    async def serve(self) -> None:
        """Have all of them accept connections; return when they do."""
        self._is_serving = True
        for worker in self._workers.values():
            worker.channel.tell({"do": "serve"})
        for worker in list(self._workers.values()):
            await worker.until(_State.SERVING)

    # Watching

    async def _watch(self, worker: Worker) -> None:
        code = await worker.process.wait()
        # What it said before its end comes first.
        await worker.silent.wait()
        was, lost = worker.state, worker.desk.close()
        self._options.shared.forget(worker.number + 1)
        worker.reach(_State.ENDED)
        if not worker.departed.done():
            worker.departed.set_exception(PassingError("the worker has ended"))
            worker.departed.exception()
        if self._is_ending:
            if code or lost:
                _log.error("worker %d %s; %d connections are lost", worker.number, _how(code), lost)
            return
        if was < _State.READY and not self._is_serving:
            return
        _log.error(
            "worker %d (process %d) %s; %d connections are lost, and another takes its place",
            worker.number,
            worker.process.pid,
            _how(code),
            lost,
        )
        await self._replace(worker)

    async def _replace(self, worker: Worker) -> None:
        pause_s = 0.0
        if time.monotonic() - worker.started_at < _SHORT_LIFE_S:
            pause_s = _FIRST_PAUSE_S
        while not self._is_ending:
            await asyncio.sleep(pause_s)
            pause_s = min(max(pause_s * 2, _FIRST_PAUSE_S), _LONGEST_PAUSE_S)
            try:
                await self._start(worker.number)
            except OSError as exc:
                _log.error("worker %d can't be started: %s", worker.number, exc)
                continue
            return

    def _told(self, worker: Worker, message: Message, files: list[int]) -> None:
        match message["do"]:
            case "ready":
                worker.reach(_State.READY)
                if self._is_serving:
                    # It takes the place of one that died.
                    worker.channel.tell({"do": "serve"})
            case "serving":
                worker.reach(_State.SERVING)
            case "drained":
                worker.reach(_State.DRAINED)
                if not self._is_ending:
                    # Somebody told this one to stop.
                    worker.channel.tell({"do": "end"})
            case "departed":
                if not worker.departed.done():
                    worker.departed.set_result((Moved(**message["moved"]), message["is_whole"]))
            case "connection":
                self._tasks.spawn(self._take_connection(message, files[0]), name="connection")
            case _:
                worker.desk.take(message)

    async def _take_connection(self, message: Message, file: int) -> None:
        client = message["client"]
        origin = None if client is None else Origin((client[0], client[1]), "https")
        await self._services.take_connection(b64decode(message["data"]), file, origin)

    # Telling all of them

    def node_gone(self, node: NodeId) -> None:
        """Have every connection cut that leads to a process of the platform that is gone."""
        self._tell({"do": "node gone", "node": node})

    def _tell(self, message: Mapping[str, Any]) -> None:
        for worker in self._workers.values():
            worker.channel.tell(message)

    # Being replaced

    def stop_accepting(self) -> None:
        """Have them leave the listening sockets to those of another main process."""
        self._is_ending = True
        self._tell({"do": "stop accepting"})

    async def depart(self, tell: Callable[[int, int], None], deadline: float) -> list[Moved]:
        """Have each pass its connections to a worker of the process that replaces this one.

        Args:
            tell: Gives that process the number of a worker, and the end of a line to it.
            deadline: Until when, by the loop's clock, another one is tried if that ends.

        Raises:
            PassingError: If that process is gone.
        """
        workers = self._workers.values()
        moved = await asyncio.gather(*(self._depart(worker, tell, deadline) for worker in workers))
        return [each for of_worker in moved for each in of_worker]

    async def _depart(
        self, worker: Worker, tell: Callable[[int, int], None], deadline: float
    ) -> list[Moved]:
        loop, moved = asyncio.get_running_loop(), []
        # One that has ended has told of what it lost.
        while worker.state is not _State.ENDED:
            worker.departed = loop.create_future()
            ours, theirs = socket.socketpair()
            with ours, theirs:
                tell(worker.number, theirs.fileno())
                worker.channel.tell({"do": "depart"}, [ours.fileno()])
            try:
                part, is_whole = await worker.departed
            except PassingError:
                break
            moved.append(part)
            if is_whole:
                break
            if loop.time() > deadline:
                worker.channel.tell({"do": "leave"})
                break
            await asyncio.sleep(_AGAIN_S)
        return moved

    def arrive(self, number: int, file: int) -> None:
        """Have a worker take over what comes over a line; the file stays the caller's.

        If it isn't there, nobody has the line, and whoever has its other end tries again: what
        would wait for a worker that starts would be still meanwhile.
        """
        worker = self._workers[number]
        if worker.state is _State.SERVING:
            worker.channel.tell({"do": "arrive"}, [file])

    # Asking all of them

    async def _count(self) -> None:
        await self._ask({"do": "count"})

    async def agents(self) -> Mapping[tuple[ProjectName, AgentName], AgentNow]:
        """Return how many connections they relay, by agent."""
        counts: Counter[tuple[ProjectName, AgentName]] = Counter()
        for answer in await self._ask({"do": "agents"}):
            for project, agent, number in answer["agents"]:
                counts[ProjectName(project), AgentName(agent)] += number
        return {name: AgentNow(number) for name, number in counts.items()}

    async def connections(
        self, project: ProjectName, agent: AgentName
    ) -> Mapping[SessionKey, Sequence[Mapping[str, Any]]]:
        """Return the connections they relay to an agent's sessions."""
        found: defaultdict[SessionKey, list[Mapping[str, Any]]] = defaultdict(list)
        answers = await self._ask({"do": "connections", "project": project, "agent": agent})
        for answer in answers:
            for key, events in answer["connections"]:
                found[key_from(key)] += events
        return found

    async def _ask(self, message: Mapping[str, Any]) -> list[Message]:
        async def one(worker: Worker) -> Message | None:
            # One that doesn't answer is told of as it was, or not at all.
            with contextlib.suppress(PassingError, TimeoutError):
                async with asyncio.timeout(_ANSWER_TIMEOUT_S):
                    return await worker.channel.ask(message)
            return None

        answers = await asyncio.gather(*(one(worker) for worker in self._workers.values()))
        return [answer for answer in answers if answer is not None]

    # Ending

    @property
    def is_drained(self) -> bool:
        """Whether none of them relays anything any more."""
        return all(worker.state >= _State.DRAINED for worker in self._workers.values())

    def drain(self) -> None:
        """Have all of them end what is open. They go on to accept, and refuse."""
        self._is_ending = True
        self._tell({"do": "drain"})

    async def end(self) -> None:
        """Have all of them end once they have drained."""
        self._tell({"do": "end"})

    async def aclose(self, *, is_urgent: bool = False) -> None:
        """Have all of them end, and wait for it. Twice is fine.

        Args:
            is_urgent: Whether what is still open is cut at once.
        """
        if not self._is_ending:
            self.drain()
        await self.end()
        try:
            async with asyncio.timeout(0 if is_urgent else self._options.drain_timeout_s + _END_S):
                for worker in self._workers.values():
                    await worker.until(_State.ENDED)
        except TimeoutError:
            for worker in self._workers.values():
                if worker.state is not _State.ENDED:
                    if not is_urgent:
                        _log.error("worker %d doesn't end, and is killed", worker.number)
                    with contextlib.suppress(ProcessLookupError):
                        worker.process.kill()
                    await worker.until(_State.ENDED)
        await self._tasks.aclose()


def _how(code: int) -> str:
    if code < 0:
        return f"was ended by {signal.Signals(-code).name}"
    return f"ended with exit code {code}"
