"""How much an agent may use: control groups, version 1 and 2 behind one interface."""

import contextlib
import os
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from trunkline.runtimes.interface import Measured, ResourceUse
from trunkline.runtimes.process.sandbox.freezer import Freezer, FreezerPlace, find_freezer

_PERIOD_US = 100_000
_MIN_QUOTA_US = 1_000
#: An agent's weight for each processor it may use, in version 1 and 2: that of one other process,
#: however many of its own want to run. So agents share in proportion to what they may use where
#: more is wanted than there is, and none crowds out the platform.
_SHARES, _WEIGHT = 1024, 100
_MIN_SHARES, _MIN_WEIGHT = 2, 1
#: So many of a group's threads are looked at to tell whether one of them runs.
_THREADS_LOOKED_AT = 64
_FOLDER_MODE = 0o755
#: More than any of a group's files that are read has.
_READ_BYTES = 16 * 1024
#: How long killed processes may take to get a processor to end, and the kernel to let go of them.
_REMOVE_WITHIN_S = 5.0
_REMOVE_PAUSE_S = 0.01
#: One is made moments before its first process joins it.
_FORGOTTEN_AFTER_S = 600.0
#: With what the name of every group begins.
PREFIX = "trunkline-"
CONTROLLERS = ("memory", "cpu", "pids")
#: Version 1 counts processor time here, which may be mounted apart from what bounds it.
_ACCOUNTING = "cpuacct"


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What one agent may use."""

    cpu: float
    memory_bytes: int
    pids: int
    home_bytes: int
    """Not the kernel's to hold: see ``watch``."""


@dataclass(frozen=True, slots=True)
class Usage:
    """What the kernel has counted since the group was made."""

    memory_kills: int = 0
    """Processes ended because the memory was used up."""
    refused_forks: int = 0
    periods: int = 0
    """Tenths of a second in which it wanted to run."""
    throttled_periods: int = 0
    """Those in which it had to wait because its share was used up."""


class Hierarchy:
    """Where groups can be made for one controller, or for all of them."""

    def __init__(self, folder: Path, version: int, controllers: tuple[str, ...]) -> None:
        self.folder = folder
        self.version = version
        self.controllers = controllers


class Cgroups:
    """Makes groups, below the platform's own."""

    def __init__(
        self,
        hierarchies: list[Hierarchy],
        missing: Mapping[str, str],
        freezer: FreezerPlace | str = "no control groups",
    ) -> None:
        self._hierarchies = hierarchies
        #: Controllers that can't be used, and why.
        self.missing = dict(missing)
        #: Where agents can be frozen, or why they can't.
        self.freezer = freezer

    @property
    def version(self) -> int:
        """1 or 2; 0 without any."""
        return self._hierarchies[0].version if self._hierarchies else 0

    def make(self, name: str, limits: Limits, *, may_freeze: bool = False) -> "Group":
        """Make a group with its limits.

        Args:
            name: Its name.
            limits: What its processes may use.
            may_freeze: Whether it is to be one that can be frozen, where that can be had.

        Raises:
            OSError: If the kernel refuses.
        """
        group = Group([], self.version)
        try:
            for hierarchy in self._hierarchies:
                folder = hierarchy.folder / name
                folder.mkdir(mode=_FOLDER_MODE)
                group.folders.append(folder)
                for file, value in _values(hierarchy, limits):
                    with _optional(file):
                        _write(f"{folder}/{file}", value)
            if may_freeze and isinstance(self.freezer, FreezerPlace):
                group.freezer = self.freezer.make(name)
        except BaseException:
            group.remove()
            raise
        return group

    def remove_stale(self, prefix: str) -> None:
        """Remove empty groups whose names begin so: of platforms that were killed."""
        for folder in self.groups(prefix):
            with contextlib.suppress(OSError):
                folder.rmdir()

    def remove_forgotten(self) -> None:
        """Remove empty groups that are old: of platforms whose stores are gone as well."""
        for folder in self.groups(PREFIX):
            with contextlib.suppress(OSError):
                # The kernel keeps one that has processes. It may take it for younger than it is.
                if time.time() - folder.stat().st_mtime > _FORGOTTEN_AFTER_S:  # noqa: TID251
                    folder.rmdir()

    def groups(self, prefix: str) -> Iterator[Path]:
        """Return the folders of those whose names begin so."""
        places = [hierarchy.folder for hierarchy in self._hierarchies]
        if isinstance(self.freezer, FreezerPlace):
            places += [self.freezer.folder, self.freezer.accounting]
        for place in dict.fromkeys(places):
            yield from place.glob(f"{prefix}*")

    def thaw_stale(self, prefix: str) -> None:
        """Let those go on that were frozen when their platform was killed: they end then."""
        if isinstance(self.freezer, FreezerPlace):
            self.freezer.thaw_all(prefix)


class Group:
    """The groups of one agent, one folder for each hierarchy."""

    def __init__(self, folders: list[Path], version: int, freezer: Freezer | None = None) -> None:
        self.folders = folders
        self.version = version
        self.freezer = freezer
        #: Where its counters are; each controller's are in one of the folders.
        self._counters: list[tuple[str, Mapping[str, str]]] = []

    def open_to_join(self) -> list[int]:
        """Return descriptors: who writes ``0`` to each joins. They are the caller's to close."""
        # A thread may move itself alone, which is far cheaper than moving a process.
        name = "tasks" if self.version == 1 else "cgroup.procs"
        files = [folder / name for folder in self.folders]
        if self.freezer is not None:
            files += self.freezer.joins
        return [os.open(file, os.O_WRONLY | os.O_CLOEXEC) for file in dict.fromkeys(files)]

    def usage(self) -> Usage:
        """Return what was counted; a group that is gone has counted nothing."""
        if not self._counters:
            self._counters = [
                (path, names)
                for folder in self.folders
                for file, names in _COUNTERS[self.version].items()
                if os.path.exists(path := f"{folder}/{file}")
            ]
        facts: dict[str, int] = {}
        for path, names in self._counters:
            for name, value in _read_table(path):
                if name in names:
                    facts[names[name]] = value
        return Usage(**facts)

    def resource_use(self) -> ResourceUse:
        """Return what its processes use, and may use, as far as the kernel counts it."""
        facts: dict[str, float] = {}
        for folder in self.folders:
            for name, (file, read) in _MEASURED[self.version].items():
                with contextlib.suppress(OSError, ValueError, StopIteration):
                    facts[name] = read((folder / file).read_text())
        return ResourceUse(cpu=_measured(facts, "cpu"), memory=_measured(facts, "memory"))

    def is_running(self) -> bool:
        """Return whether one of its threads runs, or could if there were a processor for it."""
        if not self.folders:
            return False
        name = "tasks" if self.version == 1 else "cgroup.threads"
        with contextlib.suppress(OSError):
            threads = (self.folders[0] / name).read_text().split()
            return any(_is_running(int(each)) for each in threads[-_THREADS_LOOKED_AT:])
        return False

    @property
    def gives_way(self) -> bool:
        """Whether its processes get a processor only when nobody else wants it."""
        return any(_read_number(f"{folder}/cpu.idle") == 1 for folder in self.folders)

    def give_way(self, *, to_others: bool) -> bool:
        """Have its processes get a processor only when nobody else wants it, or like the others.

        Returns:
            Whether that could be done; kernels before 5.15 can't.
        """
        for folder in self.folders:
            with contextlib.suppress(OSError):
                _write(f"{folder}/cpu.idle", "1" if to_others else "0", os.O_WRONLY)
                if not to_others:
                    self._restore_weight(folder)
                return True
        return False

    def _restore_weight(self, folder: Path) -> None:
        # The kernel has forgotten it.
        name, read = _MEASURED[self.version]["cpu.limit"]
        cpu = read((folder / name).read_text())
        file, weight = _weight(self.version, cpu)
        (folder / file).write_text(weight)

    def bound_cpu(self, cpu: float) -> None:
        """Have its processes use no more than so many processors from now on."""
        name, text = _quota(self.version, cpu)
        for folder in self.folders:
            with contextlib.suppress(OSError):
                _write(f"{folder}/{name}", text, os.O_WRONLY | os.O_TRUNC)

    def remove(self) -> None:
        """Remove it; all that were in it have ended, or are about to. Twice is fine."""
        left = [*self.folders, *(() if self.freezer is None else self.freezer.folders)]
        until = time.monotonic() + _REMOVE_WITHIN_S
        while (left := [each for each in left if _is_left(each)]) and time.monotonic() < until:
            time.sleep(_REMOVE_PAUSE_S)
        self.folders, self.freezer, self._counters = [], None, []


def _is_left(folder: Path) -> bool:
    """Remove a group; tell whether that couldn't be done."""
    with contextlib.suppress(OSError):
        folder.rmdir()
    return folder.exists()


def _from_stat(text: str) -> float:
    return next(
        int(value) / 1e6
        for name, value in (line.split() for line in text.splitlines())
        if name == "usage_usec"
    )


def _from_max(text: str) -> float:
    quota, period = text.split()
    return int(quota) / int(period)


#: Where each figure is, and how it is read. "max" is no number: no limit, and none is told.
_MEASURED: Mapping[int, Mapping[str, tuple[str, Callable[[str], float]]]] = {
    0: {},
    1: {
        "cpu": ("cpuacct.usage", lambda text: int(text) / 1e9),
        "cpu.limit": ("cpu.cfs_quota_us", lambda text: int(text) / _PERIOD_US),
        "memory": ("memory.usage_in_bytes", int),
        "memory.limit": ("memory.limit_in_bytes", int),
    },
    2: {
        "cpu": ("cpu.stat", _from_stat),
        "cpu.limit": ("cpu.max", _from_max),
        "memory": ("memory.current", int),
        "memory.limit": ("memory.max", int),
    },
}


def _measured(facts: Mapping[str, float], name: str) -> Measured | None:
    used, limit = facts.get(name), facts.get(f"{name}.limit")
    return None if used is None or limit is None else Measured(used=used, limit=limit)


_OOM_KILLS = {"oom_kill": "memory_kills"}
_OTHERS = {
    "pids.events": {"max": "refused_forks"},
    "cpu.stat": {"nr_periods": "periods", "nr_throttled": "throttled_periods"},
}
_COUNTERS: Mapping[int, Mapping[str, Mapping[str, str]]] = {
    0: {},
    1: {"memory.oom_control": _OOM_KILLS, **_OTHERS},
    2: {"memory.events": _OOM_KILLS, **_OTHERS},
}


def _values(hierarchy: Hierarchy, limits: Limits) -> Iterator[tuple[str, str]]:
    memory = str(limits.memory_bytes)
    writes: Mapping[str, tuple[tuple[str, str], ...]]
    if hierarchy.version == 1:
        writes = {
            "memory": (("memory.limit_in_bytes", memory), ("memory.memsw.limit_in_bytes", memory)),
            "cpu": (
                ("cpu.cfs_period_us", str(_PERIOD_US)),
                _quota(1, limits.cpu),
                _weight(1, limits.cpu),
            ),
            "pids": (("pids.max", str(limits.pids)),),
        }
    else:
        writes = {
            # All of an agent ends when its memory does: half of one helps nobody.
            "memory": (
                ("memory.max", memory),
                ("memory.swap.max", "0"),
                ("memory.oom.group", "1"),
            ),
            "cpu": (_quota(2, limits.cpu), _weight(2, limits.cpu)),
            "pids": (("pids.max", str(limits.pids)),),
        }
    for controller in hierarchy.controllers:
        yield from writes.get(controller, ())


def _quota(version: int, cpu: float) -> tuple[str, str]:
    """Return the file and the text that bound a group's processor time."""
    quota = max(int(cpu * _PERIOD_US), _MIN_QUOTA_US)
    if version == 1:
        return "cpu.cfs_quota_us", str(quota)
    return "cpu.max", f"{quota} {_PERIOD_US}"


def _weight(version: int, cpu: float) -> tuple[str, str]:
    """Return the file and the text that give a group its weight."""
    if version == 1:
        return "cpu.shares", str(max(int(cpu * _SHARES), _MIN_SHARES))
    return "cpu.weight", str(max(int(cpu * _WEIGHT), _MIN_WEIGHT))


# Such files are read and written for every agent, all the time: without what `open` brings along,
# that takes a fifth of the time.
_NEW = os.O_WRONLY | os.O_CREAT | os.O_TRUNC


def _write(path: str, text: str, flags: int = _NEW) -> None:
    # Some are there or they aren't: the kernel makes them.
    file = os.open(path, flags | os.O_CLOEXEC, 0o666)
    try:
        os.write(file, text.encode())
    finally:
        os.close(file)


def _read(path: str) -> str:
    file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return os.read(file, _READ_BYTES).decode()
    finally:
        os.close(file)


def _read_number(path: str) -> int | None:
    try:
        return int(_read(path))
    except (OSError, ValueError):
        return None


@contextlib.contextmanager
def _optional(file: str) -> Iterator[None]:
    """Let kernels without accounting for swap have no limit for it."""
    if file in ("memory.memsw.limit_in_bytes", "memory.swap.max", "memory.oom.group"):
        with contextlib.suppress(FileNotFoundError, PermissionError):
            yield
    else:
        yield


def _is_running(thread: int) -> bool:
    try:
        # Its name may hold anything, so what comes after it is found from the end.
        return Path(f"/proc/{thread}/stat").read_text().rpartition(")")[2].split()[0] == "R"
    except (OSError, IndexError):
        return False


def _read_table(path: str) -> Iterator[tuple[str, int]]:
    try:
        text = _read(path)
    except OSError:
        return
    for line in text.splitlines():
        name, _, value = line.partition(" ")
        if value.strip().isdigit():
            yield name, int(value)


def find_cgroups(
    *,
    mounts: str | None = None,
    own: str | None = None,
    pids: tuple[int, ...] = (),
    is_usable: Callable[[Path], bool] | None = None,
) -> Cgroups:
    """Find out which controllers the platform may use.

    Args:
        mounts: The text of ``/proc/self/mounts``, if it isn't to be read.
        own: The text of ``/proc/self/cgroup``, if it isn't to be read.
        pids: The platform's processes.
        is_usable: Tells whether groups can be made in a folder.
    """
    try:
        mounts = Path("/proc/self/mounts").read_text() if mounts is None else mounts
        own = Path("/proc/self/cgroup").read_text() if own is None else own
    except OSError as error:
        return Cgroups([], dict.fromkeys(CONTROLLERS, f"no control groups: {error.strerror}"))
    is_usable = is_usable or (lambda folder: os.access(folder, os.W_OK))
    places = _places(mounts, own)
    found: list[Hierarchy] = []
    missing: dict[str, str] = {}
    for controller in CONTROLLERS:
        folder = places.get(controller)
        if folder is None:
            continue
        if is_usable(folder):
            found.append(Hierarchy(folder, 1, (controller,)))
        else:
            missing[controller] = f"{folder} can't be written to"
    counted = places.get(_ACCOUNTING)
    is_apart = counted is not None and all(counted != hierarchy.folder for hierarchy in found)
    if found and counted is not None and is_apart and is_usable(counted):
        found.append(Hierarchy(counted, 1, (_ACCOUNTING,)))
    freezer = find_freezer(places, is_usable)
    if not found and not missing and "" in places:
        ours = pids or (os.getpid(), os.getppid())
        cgroups = _version_2(places[""], tuple(map(str, ours)), is_usable)
        cgroups.freezer = freezer
        return cgroups
    for controller in CONTROLLERS:
        if controller not in missing and not any(controller in h.controllers for h in found):
            missing[controller] = f"this machine has no control group controller {controller!r}"
    return Cgroups(found, missing, freezer)


def _places(mounts: str, own: str) -> dict[str, Path]:
    """Return our own group's folder for each controller of version 1, and for version 2 by ''."""
    mounted: dict[str, Path] = {}
    for line in mounts.splitlines():
        _, place, kind, options, *_ = line.split(" ")
        if kind == "cgroup2":
            mounted[""] = Path(place)
        elif kind == "cgroup":
            mounted.update(dict.fromkeys(options.split(","), Path(place)))
    places = {}
    for line in own.splitlines():
        _, controllers, path = line.split(":", 2)
        for controller in controllers.split(","):
            if controller in mounted:
                places[controller] = mounted[controller] / path.lstrip("/")
    return places


def _version_2(folder: Path, pids: tuple[str, ...], is_usable: Callable[[Path], bool]) -> Cgroups:
    """Make groups possible below our own: version 2 wants no process beside them."""
    try:
        offered = (folder / "cgroup.controllers").read_text().split()
    except OSError as error:
        return _no_version_2(f"{folder}: {error.strerror}")
    lacking = {
        controller: f"{folder} isn't given the controller {controller!r} (systemd: Delegate=yes)"
        for controller in CONTROLLERS
        if controller not in offered
    }
    wanted = tuple(c for c in CONTROLLERS if c not in lacking)
    if not wanted:
        return Cgroups([], lacking)
    if not is_usable(folder):
        return _no_version_2(f"{folder} can't be written to (systemd: Delegate=yes)")
    try:
        enabled = (folder / "cgroup.subtree_control").read_text().split()
        if any(controller not in enabled for controller in wanted):
            # The platform's process, and the one that keeps its children.
            ours = [each for each in pids if each in (folder / "cgroup.procs").read_text().split()]
            others = set((folder / "cgroup.procs").read_text().split()) - set(ours)
            if others:
                return _no_version_2(
                    f"{folder} holds other processes than the platform; give it one of its own "
                    "(systemd: a service with Delegate=yes)"
                )
            (folder / "platform").mkdir(exist_ok=True, mode=_FOLDER_MODE)
            for each in ours:
                (folder / "platform" / "cgroup.procs").write_text(each)
            (folder / "cgroup.subtree_control").write_text(" ".join(f"+{c}" for c in wanted))
    except OSError as error:
        return _no_version_2(f"{folder}: {error.strerror}")
    return Cgroups([Hierarchy(folder, 2, wanted)], lacking)


def _no_version_2(why: str) -> Cgroups:
    return Cgroups([], dict.fromkeys(CONTROLLERS, why))
