"""The system calls a sandbox is made of that Python doesn't offer."""

import ctypes
import fcntl
import os
import socket
import struct
from collections.abc import Mapping

CLONE_NEWNS = 0x00020000
CLONE_NEWCGROUP = 0x02000000
CLONE_NEWUTS = 0x04000000
CLONE_NEWIPC = 0x08000000
CLONE_NEWUSER = 0x10000000
CLONE_NEWPID = 0x20000000
CLONE_NEWNET = 0x40000000

MS_NOSUID = 0x2
MS_NODEV = 0x4
MS_NOEXEC = 0x8
MS_BIND = 0x1000
MS_REC = 0x4000
MS_PRIVATE = 0x40000
MS_SLAVE = 0x80000

ATTR_RDONLY = 0x1
ATTR_NOSUID = 0x2
ATTR_NODEV = 0x4
ATTR_NOEXEC = 0x8

_MNT_DETACH = 2
_AT_FDCWD = -100
_AT_RECURSIVE = 0x8000
_AT_EMPTY_PATH = 0x1000
_OPEN_TREE_CLONE = 0x1
_OPEN_TREE_CLOEXEC = os.O_CLOEXEC
_MOVE_MOUNT_F_EMPTY_PATH = 0x4
_FSOPEN_CLOEXEC = 0x1
_FSMOUNT_CLOEXEC = 0x1
_FSCONFIG_SET_STRING = 1
_FSCONFIG_CMD_CREATE = 6
_SYS_OPEN_TREE = 428
_SYS_MOVE_MOUNT = 429
_SYS_FSOPEN = 430
_SYS_FSCONFIG = 431
_SYS_FSMOUNT = 432
_SYS_MOUNT_SETATTR = 442
_SYS_PIDFD_GETFD = 438
_SYS_PIVOT_ROOT = {"x86_64": 155, "aarch64": 41}

#: What it takes to enter namespaces.
CAP_SYS_CHROOT = 18
CAP_SYS_ADMIN = 21

_PR_SET_PDEATHSIG = 1
_PR_SET_DUMPABLE = 4
_PR_SET_KEEPCAPS = 8
_PR_SET_SECCOMP = 22
_PR_CAPBSET_DROP = 24
_PR_SET_NO_NEW_PRIVS = 38
_PR_CAP_AMBIENT = 47
_PR_CAP_AMBIENT_RAISE = 2
_PR_CAP_AMBIENT_CLEAR_ALL = 4
_SECCOMP_MODE_FILTER = 2
_CAPABILITY_VERSION_3 = 0x20080522
_MAX_CAPABILITIES = 64

_SIOCGIFFLAGS = 0x8913
_SIOCSIFFLAGS = 0x8914
_IFF_UP = 0x1

_MADV_POPULATE_WRITE = 23

_libc = ctypes.CDLL(None, use_errno=True)
_libc.madvise.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)
_libc.prctl.argtypes = (ctypes.c_int, *[ctypes.c_ulong] * 4)


class _MountAttributes(ctypes.Structure):
    _fields_ = (
        ("attr_set", ctypes.c_uint64),
        ("attr_clr", ctypes.c_uint64),
        ("propagation", ctypes.c_uint64),
        ("userns_fd", ctypes.c_uint64),
    )


class _FilterProgram(ctypes.Structure):
    _fields_ = (("len", ctypes.c_ushort), ("filter", ctypes.c_void_p))


class _CapabilityHeader(ctypes.Structure):
    _fields_ = (("version", ctypes.c_uint32), ("pid", ctypes.c_int))


def _checked(result: int, what: str) -> None:
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")


def _prctl(option: int, *values: int) -> int:
    result: int = _libc.prctl(option, *(*values, 0, 0, 0, 0)[:4])
    return result


def unshare(flags: int) -> None:
    """Leave the namespaces named by ``flags`` for new ones."""
    _checked(_libc.unshare(ctypes.c_int(flags)), "new namespaces")


def enter(namespace: int, kind: int) -> None:
    """Enter a namespace; of process ids, only what is forked from here on does."""
    _checked(
        _libc.setns(ctypes.c_int(namespace), ctypes.c_int(kind)),
        f"enter a namespace of kind {kind:#x}",
    )


def mount(source: str, target: str, kind: str, flags: int, options: str = "") -> None:
    """Mount something."""
    result = _libc.mount(
        source.encode(),
        target.encode(),
        kind.encode() or None,
        ctypes.c_ulong(flags),
        options.encode() or None,
    )
    _checked(result, f"mount {target}")


def restrict_mount(target: str, attributes: int, *, recursive: bool = True) -> None:
    """Add attributes such as read-only to a mount, and to those below it."""
    flags = _AT_RECURSIVE if recursive else 0
    _set_attributes(_AT_FDCWD, target.encode(), flags, attributes, target)


def _set_attributes(folder: int, path: bytes, flags: int, attributes: int, name: str) -> None:
    wanted = _MountAttributes(attr_set=attributes)
    result = _libc.syscall(
        ctypes.c_long(_SYS_MOUNT_SETATTR),
        ctypes.c_int(folder),
        path,
        ctypes.c_uint(flags),
        ctypes.byref(wanted),
        ctypes.c_size_t(ctypes.sizeof(wanted)),
    )
    _checked(result, f"restrict {name}")


def clone_mount(source: str, attributes: int = 0) -> int:
    """Return what is at a place, with all mounted below it, as a mount of no place yet.

    It is an open file, the caller's to close.

    Args:
        source: The place.
        attributes: What is added to those it has there.
    """
    flags = _OPEN_TREE_CLONE | _OPEN_TREE_CLOEXEC | _AT_RECURSIVE
    tree: int = _libc.syscall(
        ctypes.c_long(_SYS_OPEN_TREE),
        ctypes.c_int(_AT_FDCWD),
        source.encode(),
        ctypes.c_uint(flags),
    )
    if tree < 0:
        _checked(tree, f"clone {source}")
    if attributes:
        try:
            _set_attributes(tree, b"", _AT_EMPTY_PATH | _AT_RECURSIVE, attributes, source)
        except OSError:
            os.close(tree)
            raise
    return tree


def new_mount(kind: str, attributes: int, options: Mapping[str, str]) -> int:
    """Return a new file system as a mount of no place yet.

    It is an open file, the caller's to close.
    """
    made: int = _libc.syscall(
        ctypes.c_long(_SYS_FSOPEN), kind.encode(), ctypes.c_uint(_FSOPEN_CLOEXEC)
    )
    if made < 0:
        _checked(made, f"a new {kind}")
    try:
        for name, value in options.items():
            _configure(made, _FSCONFIG_SET_STRING, name.encode(), value.encode())
        _configure(made, _FSCONFIG_CMD_CREATE, None, None)
        tree: int = _libc.syscall(
            ctypes.c_long(_SYS_FSMOUNT),
            ctypes.c_int(made),
            ctypes.c_uint(_FSMOUNT_CLOEXEC),
            ctypes.c_uint(attributes),
        )
        if tree < 0:
            _checked(tree, f"mount a new {kind}")
    finally:
        os.close(made)
    return tree


def _configure(made: int, command: int, name: bytes | None, value: bytes | None) -> None:
    result = _libc.syscall(
        ctypes.c_long(_SYS_FSCONFIG),
        ctypes.c_int(made),
        ctypes.c_uint(command),
        name,
        value,
        ctypes.c_int(0),
    )
    _checked(result, "make a file system")


def attach_mount(tree: int, place: str) -> None:
    """Put a mount that has no place at one."""
    result = _libc.syscall(
        ctypes.c_long(_SYS_MOVE_MOUNT),
        ctypes.c_int(tree),
        b"",
        ctypes.c_int(_AT_FDCWD),
        place.encode(),
        ctypes.c_uint(_MOVE_MOUNT_F_EMPTY_PATH),
    )
    _checked(result, f"mount {place}")


def pivot_into(root: str) -> None:
    """Make a mount the root, and drop all that was mounted before."""
    os.chdir(root)
    number = _SYS_PIVOT_ROOT[os.uname().machine]
    _checked(_libc.syscall(ctypes.c_long(number), b".", b"."), "pivot_root")
    # The old root lies on top of the new one.
    _checked(_libc.umount2(b".", _MNT_DETACH), "drop the old root")
    os.chdir("/")


def bring_loopback_up() -> None:
    """Make 127.0.0.1 usable in a new network namespace."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        request = struct.pack("16sh22x", b"lo", 0)
        flags = struct.unpack("16sh22x", fcntl.ioctl(sock, _SIOCGIFFLAGS, request))[1]
        fcntl.ioctl(sock, _SIOCSIFFLAGS, struct.pack("16sh22x", b"lo", flags | _IFF_UP))


def file_of_process(process: int, number: int) -> int:
    """Return a descriptor of what another process has open under a number.

    Args:
        process: The process, as a pidfd; we have to be allowed to trace it.
        number: Its descriptor.
    """
    found: int = _libc.syscall(
        ctypes.c_long(_SYS_PIDFD_GETFD),
        ctypes.c_int(process),
        ctypes.c_int(number),
        ctypes.c_uint(0),
    )
    if found < 0:
        _checked(found, "take an open file")
    return found


def die_with_parent(signal_number: int) -> None:
    """Have the kernel send us a signal when the thread that forked us ends."""
    _checked(_prctl(_PR_SET_PDEATHSIG, signal_number), "parent death signal")


def hide_from_ptrace() -> None:
    """Keep others of the same user from our memory and from our files in ``/proc``."""
    _checked(_prctl(_PR_SET_DUMPABLE, 0), "dumpable")


def show_to_own_user() -> None:
    """Have our files in ``/proc`` belong to our user, as those of a program just started do."""
    _checked(_prctl(_PR_SET_DUMPABLE, 1), "dumpable")


def keep_capabilities_of_next_user() -> None:
    """Keep what we may do when we become another user."""
    _checked(_prctl(_PR_SET_KEEPCAPS, 1), "keep capabilities")


def drop_bounding_set(*kept: int) -> None:
    """Have no program we execute gain a capability."""
    for capability in range(_MAX_CAPABILITIES):
        if capability not in kept and _prctl(_PR_CAPBSET_DROP, capability) != 0:
            # It knows none above either; or we may not, which whoever looks at us sees.
            break


def drop_capabilities(*kept: int) -> None:
    """Give up every capability but those; programs we execute have them, too."""
    _prctl(_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_CLEAR_ALL)
    header = _CapabilityHeader(_CAPABILITY_VERSION_3, 0)
    mask = sum(1 << capability for capability in kept)
    # Effective, permitted, inheritable; those above 31 are in a second row.
    sets = (ctypes.c_uint32 * 6)(mask, mask, mask)
    _checked(_libc.capset(ctypes.byref(header), ctypes.byref(sets)), "drop capabilities")
    for capability in kept:
        _checked(_prctl(_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_RAISE, capability), "keep capabilities")


def forbid_new_privileges() -> None:
    """Make set-user-id programs run as what we are."""
    _checked(_prctl(_PR_SET_NO_NEW_PRIVS, 1), "no new privileges")


def filter_system_calls(program: bytes) -> None:
    """Install a seccomp filter for good."""
    code = ctypes.create_string_buffer(program, len(program))
    filters = _FilterProgram(len(program) // 8, ctypes.cast(code, ctypes.c_void_p))
    _checked(
        _prctl(_PR_SET_SECCOMP, _SECCOMP_MODE_FILTER, ctypes.addressof(filters)), "seccomp filter"
    )


def populate(start: int, size: int) -> bool:
    """Get pages of our own at a place in our memory; tell whether that was done.

    It takes Linux 5.14.
    """
    result: int = _libc.madvise(start, size, _MADV_POPULATE_WRITE)
    return result == 0
