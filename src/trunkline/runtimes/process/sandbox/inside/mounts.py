"""Builds what an agent sees of the file system, and moves into it."""

import os
import stat

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


def enter_view(plan: Plan, *, proc_options: str = "") -> None:
    """Build the view in our own mount namespace and make it the root.

    Args:
        plan: What is seen.
        proc_options: How ``/proc`` is mounted.

    Raises:
        OSError: If the kernel refuses a part of it; it names which.
    """
    os.umask(0o022)
    kernel.mount("none", "/", "", kernel.MS_REC | kernel.MS_PRIVATE)
    kernel.mount("tmpfs", plan.root, "tmpfs", _TMPFS_FLAGS, "mode=0755,size=4m")
    _tmpfs(plan.root + "/tmp", plan.tmp_bytes)  # noqa: S108 - the sandbox's own
    _devices(plan)
    for path, text in plan.files:
        _make_file(plan.root + path, text)
    for source, place, mode in plan.binds:
        _bind(source, plan.root + place, mode)
    for place in plan.places:
        os.makedirs(plan.root + place)
    for target, place in plan.links:
        os.makedirs(os.path.dirname(plan.root + place), exist_ok=True)
        os.symlink(target, plan.root + place)
    _proc(plan.root + "/proc", proc_options)
    kernel.pivot_into(plan.root)
    kernel.restrict_mount("/dev", kernel.ATTR_RDONLY, recursive=False)
    kernel.restrict_mount("/", kernel.ATTR_RDONLY, recursive=False)


def _tmpfs(path: str, size: int) -> None:
    os.makedirs(path, exist_ok=True)
    kernel.mount("tmpfs", path, "tmpfs", _TMPFS_FLAGS, f"mode=1777,size={size}")


def _devices(plan: Plan) -> None:
    dev = plan.root + "/dev"
    os.mkdir(dev)
    kernel.mount("tmpfs", dev, "tmpfs", kernel.MS_NOSUID, "mode=0755,size=64k")
    for name in _DEVICES:
        _bind(f"/dev/{name}", f"{dev}/{name}", "dev")
    _tmpfs(f"{dev}/shm", plan.tmp_bytes)
    os.mkdir(f"{dev}/pts")
    kernel.mount(
        "devpts",
        f"{dev}/pts",
        "devpts",
        kernel.MS_NOSUID | kernel.MS_NOEXEC,
        "newinstance,ptmxmode=0666,mode=620",
    )
    for target, place in _DEVICE_LINKS:
        os.symlink(target, plan.root + place)


def _proc(path: str, options: str) -> None:
    os.makedirs(path, exist_ok=True)
    flags = kernel.MS_NOSUID | kernel.MS_NODEV | kernel.MS_NOEXEC
    kernel.mount("proc", path, "proc", flags, options)
    for name in _READ_ONLY_PROC:
        if os.path.exists(f"{path}/{name}"):
            _bind(f"{path}/{name}", f"{path}/{name}", "ro")
    for name in _HIDDEN_PROC:
        place = f"{path}/{name}"
        if os.path.isdir(place):
            kernel.mount("tmpfs", place, "tmpfs", _TMPFS_FLAGS, "mode=0555,size=4k")
            kernel.restrict_mount(place, MODES["ro"])
        elif os.path.exists(place):
            _bind("/dev/null", place, "dev")


def _bind(source: str, place: str, mode: str) -> None:
    if stat.S_ISDIR(os.stat(source).st_mode):
        os.makedirs(place, exist_ok=True)
    elif not os.path.exists(place):
        _make_file(place, "")
    kernel.mount(source, place, "", kernel.MS_BIND | kernel.MS_REC)
    kernel.restrict_mount(place, MODES[mode])


def _make_file(path: str, text: str) -> None:
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "x", encoding="utf-8") as file:
        file.write(text)
