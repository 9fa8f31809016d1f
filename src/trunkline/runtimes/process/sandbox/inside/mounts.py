"""Builds what an agent sees of the file system, and moves into it.

What all sessions of a version see can be built once (`enter_common`): whoever enters a copy of its
mount namespace adds what is one session's alone (`add_own`).
"""

import contextlib
import os
import stat
from collections.abc import Iterator

from trunkline.runtimes.process.sandbox.inside import kernel
from trunkline.runtimes.process.sandbox.inside.plan import Plan

_DEVICES = ("null", "zero", "full", "random", "urandom", "tty")
_DEVICE_LINKS = (
    ("/proc/self/fd", "/dev/fd"),
    ("/proc/self/fd/0", "/dev/stdin"),
    ("/proc/self/fd/1", "/dev/stdout"),
    ("/proc/self/fd/2", "/dev/stderr"),
    ("pts/ptmx", "/dev/ptmx"),
)
#: The kernel's own knobs: to be read at most.
_READ_ONLY_PROC = ("sys", "irq", "bus", "fs", "sysrq-trigger")
#: What says too much about the machine or its kernel.
_HIDDEN_PROC = (
    "acpi", "asound", "interrupts", "kallsyms", "kcore", "key-users", "keys", "kpagecount",
    "kpageflags", "latency_stats", "sched_debug", "scsi", "timer_list", "timer_stats",
)  # fmt: skip
_OURS = kernel.ATTR_NOSUID | kernel.ATTR_NODEV
MODES = {
    "ro": _OURS | kernel.ATTR_RDONLY,
    "rw": _OURS,
    "dev": kernel.ATTR_NOSUID | kernel.ATTR_NOEXEC,
}
_TMPFS_FLAGS = kernel.MS_NOSUID | kernel.MS_NODEV
#: Where file systems of a sandbox's own are put.
_TMP, _SHM, _PTS, _PROC = "/tmp", "/dev/shm", "/dev/pts", "/proc"  # noqa: S108 - the sandbox's own


def enter_view(plan: Plan, *, proc_options: dict[str, str] | None = None) -> None:
    """Build the view in our own mount namespace and make it the root.

    Args:
        plan: What is seen.
        proc_options: How ``/proc`` is mounted.

    Raises:
        OSError: If the kernel refuses a part of it; it names which.
    """
    processes = new_proc(proc_options)
    try:
        enter_common(plan)
        add_own(plan, processes)
    finally:
        os.close(processes)


def new_proc(options: dict[str, str] | None = None) -> int:
    """Return a ``/proc`` of our namespace of processes, as a mount of no place yet.

    The kernel makes one only for who sees another, so this comes before `enter_common`.
    """
    attributes = kernel.ATTR_NOSUID | kernel.ATTR_NODEV | kernel.ATTR_NOEXEC
    return kernel.new_mount("proc", attributes, {"source": "proc", **(options or {})})


def enter_common(plan: Plan) -> None:
    """Build what others of the version see as well, and make it the root. Nothing of it changes."""
    os.umask(0o022)
    kernel.mount("none", "/", "", kernel.MS_REC | kernel.MS_PRIVATE)
    kernel.mount("tmpfs", plan.root, "tmpfs", _TMPFS_FLAGS, "mode=0755,size=4m")
    _devices(plan)
    for path, text in plan.files:
        _make_file(plan.root + path, text)
    for path, _ in plan.own_files:
        _make_file(plan.root + path, "")
    for source, place, mode in plan.binds:
        _bind(source, plan.root + place, mode)
    for place in (*plan.places, _TMP, _SHM, _PTS, _PROC):
        os.makedirs(plan.root + place, exist_ok=True)
    for target, place in plan.links:
        os.makedirs(os.path.dirname(plan.root + place), exist_ok=True)
        os.symlink(target, plan.root + place)
    kernel.pivot_into(plan.root)
    kernel.restrict_mount("/dev", kernel.ATTR_RDONLY, recursive=False)
    kernel.restrict_mount("/", kernel.ATTR_RDONLY, recursive=False)


def _devices(plan: Plan) -> None:
    dev = plan.root + "/dev"
    os.mkdir(dev)
    kernel.mount("tmpfs", dev, "tmpfs", kernel.MS_NOSUID, "mode=0755,size=64k")
    for name in _DEVICES:
        _bind(f"/dev/{name}", f"{dev}/{name}", "dev")
    for target, place in _DEVICE_LINKS:
        os.symlink(target, plan.root + place)


def add_own(plan: Plan, processes: int) -> None:
    """Add what nobody else sees to a view we are in.

    Args:
        plan: What is seen.
        processes: Its ``/proc``, which is the caller's to close.
    """
    os.umask(0o022)
    covered = list(_covered(plan))
    options = f"mode=1777,size={plan.tmp_bytes}"
    kernel.mount("tmpfs", _TMP, "tmpfs", _TMPFS_FLAGS, options)
    kernel.mount("tmpfs", _SHM, "tmpfs", _TMPFS_FLAGS, options)
    kernel.mount(
        "devpts",
        _PTS,
        "devpts",
        kernel.MS_NOSUID | kernel.MS_NOEXEC,
        "newinstance,ptmxmode=0666,mode=620",
    )
    for number, (place, text) in enumerate(plan.own_files):
        # Its name is gone when the agent comes, and with that the way to it that isn't read-only.
        path = f"{_TMP}/{number}"
        _make_file(path, text)
        kernel.mount(path, place, "", kernel.MS_BIND)
        kernel.restrict_mount(place, MODES["ro"])
        os.unlink(path)
    for tree, place in covered:
        _make_place(place, is_folder=stat.S_ISDIR(os.stat(tree).st_mode))
        kernel.attach_mount(tree, place)
        os.close(tree)
    _add_proc(processes)


def _covered(plan: Plan) -> Iterator[tuple[int, str]]:
    """Return what is seen below places that get a file system of their own, and its place."""
    last = ""
    for _, place, _ in sorted(plan.binds, key=lambda bind: bind[1].split("/")):
        if place.startswith((_TMP + "/", _SHM + "/")) and not (last and place.startswith(last)):
            # With all that is below it.
            yield kernel.clone_mount(place), place
            last = place + "/"


def _add_proc(processes: int) -> None:
    hidden = list(_found(processes, _HIDDEN_PROC))
    # What is hidden shows the empty folder below instead, or nothing that can be read.
    empty = [(kernel.clone_mount(_PROC), name) for name, is_folder in hidden if is_folder]
    try:
        kernel.attach_mount(processes, _PROC)
        for tree, name in empty:
            kernel.attach_mount(tree, f"{_PROC}/{name}")
    finally:
        for tree, _ in empty:
            os.close(tree)
    for name, is_folder in hidden:
        if not is_folder:
            # It is as restricted as the one in the view.
            kernel.mount("/dev/null", f"{_PROC}/{name}", "", kernel.MS_BIND)
    for name, _ in _found(processes, _READ_ONLY_PROC):
        place = f"{_PROC}/{name}"
        kernel.mount(place, place, "", kernel.MS_BIND | kernel.MS_REC)
        kernel.restrict_mount(place, MODES["ro"])


def _found(processes: int, names: tuple[str, ...]) -> Iterator[tuple[str, bool]]:
    """Return those of the names that are there, and whether they are folders."""
    for name in names:
        with contextlib.suppress(FileNotFoundError):
            yield name, stat.S_ISDIR(os.stat(name, dir_fd=processes).st_mode)


def _bind(source: str, place: str, mode: str) -> None:
    _make_place(place, is_folder=stat.S_ISDIR(os.stat(source).st_mode))
    kernel.mount(source, place, "", kernel.MS_BIND | kernel.MS_REC)
    kernel.restrict_mount(place, MODES[mode])


def _make_place(path: str, *, is_folder: bool) -> None:
    if is_folder:
        os.makedirs(path, exist_ok=True)
    elif not os.path.exists(path):
        _make_file(path, "")


def _make_file(path: str, text: str) -> None:
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "x", encoding="utf-8") as file:
        file.write(text)
