"""Gives up, for good, what an agent mustn't have."""

import os
import resource

from trunkline.runtimes.process.sandbox.inside import kernel


def map_own_user() -> None:
    """Enter a user namespace in which we are who we were, and may do what root may there."""
    uid, gid = os.geteuid(), os.getegid()
    kernel.unshare(kernel.CLONE_NEWUSER)
    # Without this the kernel lets nobody unprivileged map a group.
    _write("/proc/self/setgroups", "deny")
    _write("/proc/self/uid_map", f"{uid} {uid} 1")
    _write("/proc/self/gid_map", f"{gid} {gid} 1")


def give_up_powers(uid: int | None, program: bytes) -> None:
    """Become the user (None: stay), without capabilities and behind the filter, for good.

    Raises:
        OSError: If any of it can't be done; nobody should run on then.
    """
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if uid is not None:
        os.setgroups([])
        os.setresgid(uid, uid, uid)
    # It can only be emptied while we may.
    kernel.drop_bounding_set()
    if uid is not None:
        os.setresuid(uid, uid, uid)
    kernel.drop_capabilities()
    kernel.forbid_new_privileges()
    kernel.filter_system_calls(program)


def _write(path: str, text: str) -> None:
    descriptor = os.open(path, os.O_WRONLY)
    try:
        os.write(descriptor, text.encode())
    finally:
        os.close(descriptor)
