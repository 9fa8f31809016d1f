"""Whole sessions kept ready for callers who name none: started, sandboxed, and nobody's yet.

A session that has begun knows its id and can't be renamed. But who names none takes any, so some
are made ahead, each with an id, a home and a log of its own. Until one is given away the store
knows nothing of it: it is in no list, it isn't found by its id, and a caller who guesses that gets
a session of theirs, with a home and an agent of its own.

How many of a version are kept is how many such callers came lately while one starts, rounded up.
"""

import asyncio
import logging
import math
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from trunkline.aio.tasks import TaskOwner
from trunkline.aio.threads import in_thread
from trunkline.protocol.errors import SessionNotReadyError, TrunklineError
from trunkline.protocol.ids import AgentName, NodeId, ProjectName, SessionKey, VersionId
from trunkline.sessions.gate import Phase
from trunkline.sessions.processes import SessionProcesses
from trunkline.sessions.selection import LATEST, rules_of
from trunkline.sessions.settings import SessionSettings
from trunkline.sessions.slot import Slot
from trunkline.store.interface import Store
from trunkline.store.records import VersionRecord, VersionStatus
from trunkline.telemetry.metrics import Metrics

_log = logging.getLogger("trunkline.sessions")
#: A definition's variable; it wins over the platform's setting.
VARIABLE = "TRUNKLINE_READY_SESSIONS"
#: Callers beyond this many in a window change nothing any more.
_MAX_COUNTED = 4096
#: How long none is made ready after one couldn't be, or couldn't be given away.
_REST_S = 30.0
#: A start takes as long as the slowest of so many.
_STARTS_REMEMBERED = 8
_MEMINFO = Path("/proc/meminfo")
Place = tuple[ProjectName, AgentName, VersionId]


@dataclass(frozen=True, slots=True)
class ReadyStatus:
    """How a version's sessions are kept ready.

    Attributes:
        kept: How many are.
        wanted: How many are to be, by the callers who came lately.
        most: How many may be.
    """

    kept: int = 0
    wanted: int = 0
    most: int = 0


@dataclass(eq=False, slots=True)
class _Kept:
    """One that is ready, or about to be."""

    key: SessionKey
    home: str
    life: "asyncio.Task[None]" = field(init=False)
    hidden: Mapping[str, str] = field(default_factory=dict)
    slot: Slot | None = None
    """None while it is being started."""
    since: float = 0.0
    is_given: bool = False


@dataclass(slots=True)
class _Shelf:
    """Those of one version."""

    version: VersionRecord
    most: int
    arrivals: deque[float] = field(default_factory=lambda: deque(maxlen=_MAX_COUNTED))
    kept: list[_Kept] = field(default_factory=list)
    starts_s: deque[float] = field(default_factory=lambda: deque(maxlen=_STARTS_REMEMBERED))
    """How long the last starts took."""
    rests_until: float = 0.0


class ReadySessions:
    """All that are kept ready by this process."""

    def __init__(
        self,
        settings: SessionSettings,
        *,
        store: Store,
        processes: SessionProcesses,
        metrics: Metrics,
        node: NodeId,
        new_place: Callable[[ProjectName, AgentName], tuple[SessionKey, str]],
    ) -> None:
        """Prepare.

        Args:
            settings: How many, and when.
            store: Tells which versions are routed to.
            processes: Starts and ends them.
            metrics: Counts them.
            node: This process of the platform.
            new_place: Returns a new session's key and home.
        """
        self._settings = settings
        self._store = store
        self._processes = processes
        self._metrics = metrics
        self._node = node
        self._new_place = new_place
        self._shelves: dict[Place, _Shelf] = {}
        self._tasks = TaskOwner()
        #: One for each that is kept, until nothing is left of it or it was given away.
        self.lives: set[asyncio.Task[None]] = set()
        self._is_closed = False
        #: Seconds that only grow.
        self.clock: Callable[[], float] = time.monotonic

    def status(self, version: VersionRecord) -> ReadyStatus:
        """Return how a version's sessions are kept ready."""
        shelf = self._shelves.get(_place(version))
        if shelf is None:
            return ReadyStatus(most=self._most(version))
        kept = sum(each.slot is not None for each in shelf.kept)
        return ReadyStatus(kept=kept, wanted=self._wanted(shelf), most=shelf.most)

    # Callers

    async def take(self, version: VersionRecord) -> Slot | None:
        """Return a session of a version for a caller who names none; None: there is none.

        It is the caller's to use or to end from here on, and isn't given to another.
        """
        most = self._most(version)
        if not most:
            return None
        shelf = self._shelves.get(_place(version))
        if shelf is None:
            shelf = self._shelves[_place(version)] = _Shelf(version, most)
        shelf.arrivals.append(self.clock())
        return await self._take_from(shelf)

    def refill(self, version: VersionRecord) -> None:
        """Begin to make those that are wanted of a version; its last caller waits no more."""
        shelf = self._shelves.get(_place(version))
        if shelf is not None:
            self._fill(shelf)

    async def _take_from(self, shelf: _Shelf) -> Slot | None:
        while ready := [each for each in shelf.kept if each.slot is not None]:
            kept = ready[0]
            # Whoever comes while this waits finds it gone.
            shelf.kept.remove(kept)
            kept.is_given = True
            self._count()
            if not await self._is_good(kept, shelf.version):
                kept.is_given = False
                self._end_soon(kept)
                continue
            kept.life.cancel()
            # First of all: what is left of one that is given away isn't to be removed.
            await in_thread(self._processes.homes.keep_ahead, kept.home, self._node)
            self._metrics.ready_sessions.labels("given").inc()
            age_s = self.clock() - kept.since
            self._processes.logs.of(kept.home).event(
                "Given", f"to a caller who named no session; it was kept ready for {age_s:.1f} s"
            )
            return kept.slot
        return None

    async def _is_good(self, kept: _Kept, version: VersionRecord) -> bool:
        """Tell whether it is as one would be that is started now."""
        assert kept.slot is not None
        instance = kept.slot.readied
        if instance is None or not instance.is_settled:
            return False
        try:
            return await self._processes.hidden_of(version) == kept.hidden
        except TrunklineError:
            return False

    def rest(self, version: VersionRecord) -> None:
        """Make none ready for a while: one couldn't be used."""
        shelf = self._shelves.get(_place(version))
        if shelf is not None:
            shelf.rests_until = self.clock() + _REST_S

    # How many

    def _most(self, version: VersionRecord) -> int:
        own = (version.definition.get("environment_variables") or {}).get(VARIABLE)
        try:
            most = self._settings.ready_max if own is None else int(own)
        except ValueError:
            _log.warning(
                "version %s of agent %s: %s is %r; give a whole number. None is kept ready",
                version.version, version.agent, VARIABLE, str(own)[:64],
            )  # fmt: skip
            return 0
        return max(min(most, self._settings.ready_total_max), 0)

    def _wanted(self, shelf: _Shelf) -> int:
        before = self.clock() - self._settings.ready_window_s
        while shelf.arrivals and shelf.arrivals[0] < before:
            shelf.arrivals.popleft()
        if not shelf.arrivals:
            return 0
        rate = len(shelf.arrivals) / self._settings.ready_window_s
        return min(max(math.ceil(rate * max(shelf.starts_s, default=0.0)), 1), shelf.most)

    # Making them

    def _fill(self, shelf: _Shelf) -> None:
        wanted = self._wanted(shelf)
        while len(shelf.kept) < wanted and self._may_start(shelf):
            key, home = self._new_place(shelf.version.project, shelf.version.agent)
            kept = _Kept(key, home)
            shelf.kept.append(kept)
            kept.life = self._tasks.spawn(self._live(kept, shelf), name=f"ready:{key}")
            self.lives.add(kept.life)
            kept.life.add_done_callback(self.lives.discard)

    def _may_start(self, shelf: _Shelf) -> bool:
        in_all = sum(len(each.kept) for each in self._shelves.values())
        return (
            not self._is_closed
            and in_all < self._settings.ready_total_max
            and self.clock() >= shelf.rests_until
            and self._shelves.get(_place(shelf.version)) is shelf
            and self._processes.leaving.gate.phase is Phase.OPEN
            and _available_bytes() >= self._settings.ready_free_bytes
        )

    async def _live(self, kept: _Kept, shelf: _Shelf) -> None:
        """Start one, and look after it until it is given away or ends."""
        try:
            began = self.clock()
            kept.slot = await self._start(kept, shelf.version)
            kept.since = self.clock()
            shelf.starts_s.append(kept.since - began)
            self._count()
            assert kept.slot.readied is not None
            status = await kept.slot.readied.wait_exited()
            raise SessionNotReadyError(f"it ended by itself, {status}")
        except (TrunklineError, OSError) as error:
            _log.warning(
                "no session of version %s of agent %s is kept ready for a while: %s",
                shelf.version.version, shelf.version.agent, error,
            )  # fmt: skip
            self._metrics.ready_sessions.labels("failed").inc()
            self.rest(shelf.version)
        finally:
            if not kept.is_given:
                if kept in shelf.kept:
                    shelf.kept.remove(kept)
                self._count()
                await self._remove(kept.slot, kept.home)

    async def _start(self, kept: _Kept, version: VersionRecord) -> Slot:
        await in_thread(self._processes.homes.prepare_ahead, kept.home, self._node)
        kept.hidden = dict(await self._processes.hidden_of(version))
        return await self._processes.start_ahead(kept.key, kept.home, version, kept.hidden)

    # Ending them

    def _end_soon(self, kept: _Kept) -> None:
        self._tasks.spawn(self._end(kept), name=f"ready:{kept.key}:end")

    async def _end(self, kept: _Kept) -> None:
        """End one that isn't needed, with all that is left of it."""
        self._metrics.ready_sessions.labels("ended").inc()
        if kept.life.done():
            await self._remove(kept.slot, kept.home)
        else:
            kept.life.cancel()
            await asyncio.wait([kept.life])

    async def discard(self, slot: Slot) -> None:
        """End one that was taken and can't be used, with all that is left of it."""
        await self._remove(slot, slot.home)

    async def _remove(self, slot: Slot | None, home: str) -> None:
        if slot is not None:
            await self._processes.end_unused(slot)
        self._processes.logs.discard(home)
        await in_thread(self._processes.homes.remove, home)
        await in_thread(self._processes.homes.keep_ahead, home, self._node)

    async def look(self) -> None:
        """Have as many ready as are wanted, of versions that new sessions get."""
        for shelf in list(self._shelves.values()):
            if not await self._is_routed(shelf.version):
                await self.drop(*_place(shelf.version))
                continue
            surplus = len(shelf.kept) - self._wanted(shelf)
            for kept in shelf.kept[: max(surplus, 0)]:
                shelf.kept.remove(kept)
                self._end_soon(kept)
            self._fill(shelf)
            if not shelf.kept and not shelf.arrivals:
                self._shelves.pop(_place(shelf.version), None)
        self._count()

    async def _is_routed(self, version: VersionRecord) -> bool:
        agent = await self._store.find_agent(version.project, version.agent)
        if agent is None or not agent.is_enabled:
            return False
        found = await self._store.find_version(version.project, version.agent, version.version)
        if found is None or found.status is not VersionStatus.ACTIVE:
            return False
        named = {str(rule["agent_version"]) for rule in rules_of(agent.endpoint)}
        if LATEST in named:
            latest = await self._store.latest_version(
                version.project, version.agent, status=VersionStatus.ACTIVE
            )
            if latest is not None:
                named.add(latest.version)
        return version.version in named

    async def drop(
        self, project: ProjectName, agent: AgentName, version: VersionId | None = None
    ) -> None:
        """End all of an agent's, or of one of its versions; return when nothing of them is left."""
        ending = []
        for place, shelf in list(self._shelves.items()):
            if place[:2] == (project, agent) and version in (None, place[2]):
                del self._shelves[place]
                ending += [self._end(kept) for kept in shelf.kept]
                shelf.kept.clear()
        self._count()
        await asyncio.gather(*ending)

    def drop_all(self) -> None:
        """Begin to end all of them; the next caller or the next look has them made again."""
        for shelf in self._shelves.values():
            for kept in shelf.kept:
                self._end_soon(kept)
            shelf.kept.clear()
        self._count()

    def close(self) -> None:
        """Make none ready any more."""
        self._is_closed = True

    async def aclose(self) -> None:
        """End all of them, and return when nothing is left of them. Twice is fine."""
        self.close()
        self.drop_all()
        if self.lives:
            await asyncio.wait(self.lives)
        await self._tasks.aclose()

    def _count(self) -> None:
        ready = sum(
            kept.slot is not None for shelf in self._shelves.values() for kept in shelf.kept
        )
        self._metrics.sessions_ready.set(ready)


def _place(version: VersionRecord) -> Place:
    return version.project, version.agent, version.version


def _available_bytes() -> float:
    """Return how much memory programs could still have; infinite where that isn't known."""
    try:
        for line in _MEMINFO.read_text().splitlines():
            name, _, value = line.partition(":")
            if name == "MemAvailable":
                return int(value.split()[0]) * 1024
    except (OSError, ValueError, IndexError):
        pass
    return math.inf
