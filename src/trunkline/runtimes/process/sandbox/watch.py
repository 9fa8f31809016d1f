"""Looks at what agents use of their limits, and says so before anybody wonders."""

import asyncio
import logging
import os
import signal
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

from trunkline.aio.threads import in_thread
from trunkline.runtimes.process.sandbox.cgroups import Limits, Usage
from trunkline.runtimes.process.sandbox.forks import Bounded, ForkWatch
from trunkline.runtimes.process.sandbox.processors import Processors, ProcessorWatch

_log = logging.getLogger("trunkline.runtimes")
_GIB, _MIB = 1024**3, 1024**2
#: A home is measured no more often than lets this share of the time be spent on it.
_MEASURING_SHARE = 0.1
#: Of one that hasn't run, it is measured once in so many looks.
_STILL_LOOKS = 10
_BLOCK_BYTES = 512
#: Disk that is about to be full is measured so many times between two looks.
_HURRIED = 10
_LEAST_S = 0.001
#: Deeper than any tree that people make.
_MAX_DEPTH = 100
_OPEN_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


def size_words(size: int) -> str:
    """Return a size as people write it."""
    if size % _GIB == 0:
        return f"{size // _GIB} GiB"
    if size >= _MIB:
        return f"{size / _MIB:.0f} MiB"
    return f"{size} bytes"


class Watched(Processors, Bounded, Protocol):
    """A running agent, as far as its limits go."""

    @property
    def folders(self) -> tuple[Path, ...]:
        """Where it may write on disk: its home, first of all."""

    @property
    def limits(self) -> Limits:
        """What it may use."""

    def usage(self) -> Usage:
        """Return what was counted so far."""


class LimitWatch:
    """Watches one agent's limits.

    Each limit is told of once while the agent lives, so that a hog doesn't fill its log with it.
    """

    def __init__(
        self,
        watched: Watched,
        *,
        tell: Callable[[str, str, str], None],
        end: Callable[[signal.Signals], None],
        may_yield: bool = True,
    ) -> None:
        """Prepare.

        Args:
            watched: The agent.
            tell: Takes a limit's name, an event's name and a sentence.
            end: Sends it a signal.
            may_yield: Whether it gives way to others while it always wants a processor.
        """
        self._watched = watched
        self._folders = watched.folders
        self._limits = watched.limits
        self._tell = tell
        self._end = end
        self._seen = Usage()
        self._processors = ProcessorWatch(
            watched,
            watched.limits.cpu,
            may_yield=may_yield,
            tell=lambda message: self._say("cpu", "CpuLimit", message),
        )
        self._forks = ForkWatch(watched, watched.limits.cpu)
        self._told: set[str] = set()
        #: None until it was measured; what is empty needn't be.
        self._home_bytes_at_start: int | None = 0 if _is_empty(self._folders) else None
        #: How much it had when it was measured last, and when that was.
        self._home_bytes, self._measured_at, self._next_measure = 0, 0.0, 0.0
        #: Whether it has more than it may, or would before the next look.
        self._is_nearly_full = False
        self._may_look = asyncio.Event()
        self._may_look.set()
        self.killed_for = ""
        """Why it was ended, if it was for a limit."""

    async def run(self, interval_s: float, measuring: asyncio.Lock) -> None:
        """Look until cancelled.

        Args:
            interval_s: How often.
            measuring: Held while disk is measured, so that one thread does it for all agents.
        """
        still_looks = 0
        self._measured_at = asyncio.get_running_loop().time()
        if self._home_bytes_at_start is not None:
            # Nothing is to be seen yet, and its first caller waits.
            await asyncio.sleep(interval_s)
        while not self.killed_for:
            await self._may_look.wait()
            before, usage = self._seen, self._watched.usage()
            self.look(usage)
            # Where the kernel counts, one that hasn't run has written next to nothing.
            is_still = usage == before and usage.periods > 0
            still_looks = still_looks + 1 if is_still else 0
            if still_looks % _STILL_LOOKS == 0:
                await self._look_at_disk(interval_s, measuring)
            rests = _HURRIED
            while self._is_urgent and not still_looks and rests > 1:
                rests -= 1
                await asyncio.sleep(interval_s / _HURRIED)
                await self._look_at_disk(interval_s, measuring)
            await asyncio.sleep(interval_s * rests / _HURRIED)

    @property
    def _is_urgent(self) -> bool:
        return self._is_nearly_full and not self.killed_for

    async def _look_at_disk(self, interval_s: float, measuring: asyncio.Lock) -> None:
        """Measure what it has on disk, unless that was done a moment ago and takes long."""
        loop = asyncio.get_running_loop()
        if loop.time() < self._next_measure:
            return
        async with measuring:
            begun = loop.time()
            sizes = await in_thread(lambda: [measure(each) for each in self._folders])
        now = loop.time()
        self._measured(sizes, interval_s / max(now - self._measured_at, _LEAST_S))
        self._measured_at = now
        self._next_measure = now + (now - begun) / _MEASURING_SHARE

    def give_way(self) -> None:
        """Have it get a processor only when nobody else wants it, until it has paused."""
        self._processors.give_way()

    def let_end(self) -> None:
        """Leave it the processors it may use from now on: it is to end."""
        self._forks.let_end()

    def pause(self) -> None:
        """Look no more for now: it is frozen, and uses nothing."""
        self._may_look.clear()

    def go_on(self) -> None:
        """Look again after `pause`."""
        self._may_look.set()

    def look(self, usage: Usage) -> None:
        """Take what was counted, and tell of what is new."""
        seen, self._seen = self._seen, usage
        if usage.memory_kills > seen.memory_kills:
            self._say("memory", "MemoryLimit", f"a process was killed: {self.memory_words}")
        if usage.refused_forks > seen.refused_forks:
            self._say(
                "pids",
                "ProcessLimit",
                f"it may have no more than {self._limits.pids} processes and threads "
                "(TRUNKLINE_PROCESS_PIDS_MAX); it was refused another",
            )
        self._forks.look(usage.refused_forks - seen.refused_forks)
        if self._forks.is_held:
            self._say(
                "pids",
                "ProcessLimit",
                "it goes on starting processes that it is refused, and gets a hundredth of a "
                "processor until it stops",
                key="forks",
            )
        else:
            # Being held isn't wanting more than it may have.
            self._processors.look(usage)

    @property
    def memory_words(self) -> str:
        """How its memory is bounded."""
        return f"memory limit {size_words(self._limits.memory_bytes)}, setting resources.memory"

    def note_end(self, usage: Usage, *, is_killed: bool) -> str:
        """Take the last of what was counted; return why the agent was ended, if for a limit."""
        if not self.killed_for and is_killed and usage.memory_kills > 0:
            self.killed_for = f"killed: {self.memory_words}"
            if "memory" not in self._told:
                self._say("memory", "Killed", self.killed_for)
            return self.killed_for
        self.look(usage)
        return self.killed_for

    def _measured(self, sizes: Sequence[int | None], times_to_look: float) -> None:
        """Judge what it has on disk, which may grow so many times as much until the next look."""
        known = [size for size in sizes if size is not None]
        if len(known) < len(sizes):
            self.killed_for = (
                f"killed: folders more than {_MAX_DEPTH} deep in $HOME can't be measured"
            )
            self._say("disk", "Killed", self.killed_for)
            self._end(signal.SIGKILL)
            return
        size = sum(known)
        if self._home_bytes_at_start is None:
            self._home_bytes_at_start = self._home_bytes = size
        grown, self._home_bytes = size - self._home_bytes, size
        self._is_nearly_full = size + grown * times_to_look > self._limits.home_bytes
        # One that was over it before may be started, so that it can tidy up.
        if size > max(self._limits.home_bytes, self._home_bytes_at_start):
            self.killed_for = (
                f"killed: disk limit {size_words(self._limits.home_bytes)} of $HOME, setting "
                "home_max_bytes"
            )
            self._say(
                "disk",
                "Killed",
                f"killed: $HOME takes {size_words(size)}, and no more than "
                f"{size_words(self._limits.home_bytes)} are allowed "
                "(TRUNKLINE_PROCESS_HOME_MAX_BYTES)",
            )
            self._end(signal.SIGKILL)

    def _say(self, limit: str, reason: str, message: str, *, key: str = "") -> None:
        if (key or limit) not in self._told:
            self._told.add(key or limit)
            self._tell(limit, reason, message)


def _is_empty(folders: Sequence[Path]) -> bool:
    """Tell whether nothing was written to any of the folders yet."""
    try:
        for folder in folders:
            with os.scandir(folder) as entries:
                if next(entries, None) is not None:
                    return False
    except OSError:
        return False
    return True


def measure(home: Path) -> int | None:
    """Return how much disk a folder takes, following no link; None if it is too deep to tell."""
    try:
        folder = os.open(home, _OPEN_FOLDER)
    except OSError:
        return 0
    try:
        return _measure(folder, 0)
    finally:
        os.close(folder)


def _measure(folder: int, depth: int) -> int | None:
    # A descriptor is open for each level.
    if depth > _MAX_DEPTH:
        return None
    total = 0
    with os.scandir(folder) as entries:
        for entry in entries:
            try:
                status = entry.stat(follow_symlinks=False)
                total += status.st_blocks * _BLOCK_BYTES
                if not entry.is_dir(follow_symlinks=False):
                    continue
                inner = os.open(entry.name, _OPEN_FOLDER, dir_fd=folder)
            except OSError:
                # It is gone.
                continue
            try:
                size = _measure(inner, depth + 1)
            finally:
                os.close(inner)
            if size is None:
                return None
            total += size
    return total
