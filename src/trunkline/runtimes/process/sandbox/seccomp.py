"""The system calls agents may not use, as a seccomp program.

What an agent may do is bounded by its user, its namespaces and its lack of capabilities. The
filter takes away the parts of the kernel that no agent needs and that exploits are made of; it
refuses what it names and lets the rest through, so that programs we never heard of work.
"""

import errno
import platform
import struct

_ALLOW = 0x7FFF0000
_ERRNO = 0x00050000
_KILL = 0x80000000

_LD_WORD = 0x20
_JUMP_EQUAL = 0x15
_JUMP_GREATER_EQUAL = 0x35
_JUMP_ANY_BIT = 0x45
_RETURN = 0x06

_NUMBER = 0
_ARCHITECTURE = 4
_FIRST_ARGUMENT = 16
_ARGUMENT_BYTES = 8

#: A second set of numbers that x86-64 kernels may take.
_X32 = 0x40000000
_NEW_NAMESPACES = 0x7E020080
_TIOCSTI = 0x5412
_TIOCLINUX = 0x541C
_AF_UNIX, _AF_INET, _AF_INET6, _AF_NETLINK = 1, 2, 10, 16
_NETLINK_ROUTE = 0

#: The same on every architecture: all that came after 5.0 is.
_COMMON = {
    "io_uring_setup": 425,
    "io_uring_enter": 426,
    "io_uring_register": 427,
    "open_tree": 428,
    "move_mount": 429,
    "fsopen": 430,
    "fsconfig": 431,
    "fsmount": 432,
    "fspick": 433,
    "pidfd_getfd": 438,
    "process_madvise": 440,
    "mount_setattr": 442,
    "quotactl_fd": 443,
    "open_tree_attr": 467,
}
_CLONE3 = 435

_X86_64 = {
    "ptrace": 101, "syslog": 103, "_sysctl": 156, "pivot_root": 155, "chroot": 161, "acct": 163,
    "settimeofday": 164, "mount": 165, "umount2": 166, "swapon": 167, "swapoff": 168,
    "reboot": 169, "sethostname": 170, "setdomainname": 171, "iopl": 172, "ioperm": 173,
    "init_module": 175, "delete_module": 176, "quotactl": 179, "lookup_dcookie": 212,
    "clock_settime": 227, "kexec_load": 246, "add_key": 248, "request_key": 249, "keyctl": 250,
    "migrate_pages": 256, "unshare": 272, "move_pages": 279, "perf_event_open": 298,
    "fanotify_init": 300, "name_to_handle_at": 303, "open_by_handle_at": 304,
    "clock_adjtime": 305, "setns": 308, "process_vm_readv": 310, "process_vm_writev": 311,
    "kcmp": 312, "finit_module": 313, "kexec_file_load": 320, "bpf": 321, "userfaultfd": 323,
}  # fmt: skip
_AARCH64 = {
    "lookup_dcookie": 18, "umount2": 39, "mount": 40, "pivot_root": 41, "chroot": 51,
    "quotactl": 60, "acct": 89, "unshare": 97, "kexec_load": 104, "init_module": 105,
    "delete_module": 106, "clock_settime": 112, "syslog": 116, "ptrace": 117, "reboot": 142,
    "sethostname": 161, "setdomainname": 162, "settimeofday": 170, "add_key": 217,
    "request_key": 218, "keyctl": 219, "swapon": 224, "swapoff": 225, "migrate_pages": 238,
    "move_pages": 239, "perf_event_open": 241, "fanotify_init": 262, "name_to_handle_at": 264,
    "open_by_handle_at": 265, "clock_adjtime": 266, "setns": 268, "process_vm_readv": 270,
    "process_vm_writev": 271, "kcmp": 272, "finit_module": 273, "bpf": 280, "userfaultfd": 282,
    "kexec_file_load": 294,
}  # fmt: skip


class _Machine:
    """What differs between architectures."""

    def __init__(self, audit: int, refused: dict[str, int], calls: tuple[int, int, int]) -> None:
        self.audit = audit
        self.refused = refused | _COMMON
        self.clone, self.socket, self.ioctl = calls


_MACHINES = {
    "x86_64": _Machine(0xC000003E, _X86_64, (56, 41, 16)),
    "aarch64": _Machine(0xC00000B7, _AARCH64, (220, 198, 29)),
}


def is_supported(machine: str | None = None) -> bool:
    """Tell whether there is a filter for this architecture."""
    return (machine or platform.machine()) in _MACHINES


def program(machine: str | None = None, *, but_for: tuple[str, ...] = ()) -> bytes:
    """Return the filter as the kernel takes it.

    Args:
        machine: The architecture, if it isn't this machine's.
        but_for: System calls that it lets through although agents may not use them.

    Raises:
        KeyError: If there is none for the architecture.
    """
    facts = _MACHINES[machine or platform.machine()]
    refused = [number for name, number in facts.refused.items() if name not in but_for]
    return b"".join(
        (
            _load(_ARCHITECTURE),
            _unless(facts.audit, _KILL),
            _load(_NUMBER),
            _step(_JUMP_GREATER_EQUAL, _X32, 0, 1),
            _refuse(errno.ENOSYS),
            # glibc falls back to clone(), whose flags can be looked at.
            _if_equal(_CLONE3, _refuse(errno.ENOSYS)),
            *(_if_equal(number, _refuse(errno.EPERM)) for number in refused),
            _if_equal(facts.clone, _no_new_namespaces()),
            _if_equal(facts.socket, _known_families()),
            _if_equal(facts.ioctl, _no_terminal_input()),
            _allow(),
        )
    )


def _no_new_namespaces() -> bytes:
    return (
        _load(_FIRST_ARGUMENT)
        + _step(_JUMP_ANY_BIT, _NEW_NAMESPACES, 0, 1)
        + _refuse(errno.EPERM)
        + _allow()
    )


def _known_families() -> bytes:
    # Netlink tells of interfaces, which name resolution asks for; its other protocols reach far.
    return (
        _load(_FIRST_ARGUMENT)
        + b"".join(_if_equal(family, _allow()) for family in (_AF_UNIX, _AF_INET, _AF_INET6))
        + _step(_JUMP_EQUAL, _AF_NETLINK, 0, 3)
        + _load(_FIRST_ARGUMENT + 2 * _ARGUMENT_BYTES)
        + _if_equal(_NETLINK_ROUTE, _allow())
        + _refuse(errno.EAFNOSUPPORT)
    )


def _no_terminal_input() -> bytes:
    return (
        _load(_FIRST_ARGUMENT + _ARGUMENT_BYTES)
        + _if_equal(_TIOCSTI, _refuse(errno.EPERM))
        + _if_equal(_TIOCLINUX, _refuse(errno.EPERM))
        + _allow()
    )


def _if_equal(value: int, then: bytes) -> bytes:
    return _step(_JUMP_EQUAL, value, 0, len(then) // 8) + then


def _unless(value: int, otherwise: int) -> bytes:
    return _step(_JUMP_EQUAL, value, 1, 0) + _step(_RETURN, otherwise)


def _load(offset: int) -> bytes:
    return _step(_LD_WORD, offset)


def _refuse(number: int) -> bytes:
    return _step(_RETURN, _ERRNO | number)


def _allow() -> bytes:
    return _step(_RETURN, _ALLOW)


def _step(code: int, value: int, if_true: int = 0, if_false: int = 0) -> bytes:
    return struct.pack("=HBBI", code, if_true, if_false, value)
