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


def enter_user_namespace(users: tuple[int, int] | None) -> None:
    """Enter a user namespace in which we may do what root may there.

    Args:
        users: The first of the users that can be become in it, and how many there are, besides
            who we are. Only root can give them. None: none.

    Raises:
        OSError: If the kernel refuses.
    """
    if users is None:
        map_own_user()
        return
    first, count = users
    _unshare_mapped(f"0 0 1\n{first} {first} {count}")


def _unshare_mapped(text: str) -> None:
    us = os.getpid()
    entered, enter = os.pipe()
    # What is mapped comes from outside, from who may be all of them there.
    writer = os.fork()
    if writer == 0:
        os.close(enter)
        os.read(entered, 1)
        try:
            write_maps(us, text)
        except OSError as error:
            os._exit(error.errno or 1)
        os._exit(0)
    os.close(entered)
    try:
        kernel.unshare(kernel.CLONE_NEWUSER)
    finally:
        os.close(enter)
        number = os.waitstatus_to_exitcode(os.waitpid(writer, 0)[1])
    if number:
        raise OSError(number, f"map users: {os.strerror(number)}")


def become_root_of_own_user_namespace(uid: int | None) -> None:
    """Be root in a user namespace in which nobody else is, and on the machine only that user.

    Args:
        uid: The user, whom only root can become. None: who we are.

    Raises:
        OSError: If the kernel refuses.
    """
    if uid is None:
        uid, gid = os.geteuid(), os.getegid()
        kernel.unshare(kernel.CLONE_NEWUSER)
        _write("/proc/self/setgroups", "deny")
        _write("/proc/self/uid_map", f"0 {uid} 1")
        _write("/proc/self/gid_map", f"0 {gid} 1")
    else:
        _unshare_mapped(f"0 {uid} 1")
        os.setgroups([])
    os.setresgid(0, 0, 0)
    os.setresuid(0, 0, 0)


def write_maps(pid: int, text: str) -> None:
    """Say which users and groups there are in a process's user namespace."""
    _write(f"/proc/{pid}/uid_map", text)
    _write(f"/proc/{pid}/gid_map", text)


def keep_entering(uid: int | None, program: bytes) -> None:
    """Become the user (None: stay) behind the filter, able to enter namespaces and no more.

    Raises:
        OSError: If any of it can't be done; nobody should run on then.
    """
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    kept = (kernel.CAP_SYS_CHROOT, kernel.CAP_SYS_ADMIN)
    if uid is not None:
        os.setgroups([])
        os.setresgid(uid, uid, uid)
    kernel.drop_bounding_set(*kept)
    if uid is not None:
        kernel.keep_capabilities_of_next_user()
        os.setresuid(uid, uid, uid)
    kernel.drop_capabilities(*kept)
    kernel.forbid_new_privileges()
    kernel.filter_system_calls(program)


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
