"""What the first process of a forked session becomes when its work is done: one that only is there.

A namespace of processes lasts as long as its first process. An interpreter that waits takes 2 MiB
of its own for that; these few instructions take a page. What ends in there is reaped by the kernel,
as nobody heeds its end.
"""

import contextlib
import os
import signal
import struct
from typing import NoReturn

_MACHINES = {
    # pause(), for ever.
    "x86_64": (62, bytes.fromhex("b822000000" "0f05" "ebf7")),
    # ppoll(NULL, 0, NULL, NULL), for ever.
    "aarch64": (
        183,
        struct.pack(
            "<8I", 0xD2800000, 0xD2800001, 0xD2800002, 0xD2800003, 0xD2800004, 0xD2800928,
            0xD4000001, 0x17FFFFF9,
        ),
    ),
}  # fmt: skip
_PLACE = 0x400000
_HEADER, _SEGMENT = struct.Struct("<16sHHIQQQIHHHHHH"), struct.Struct("<IIQQQQQQ")
_LOAD, _STACK = 1, 0x6474E551
_READ_EXECUTE, _READ_WRITE = 5, 6
_ALIGN = 0x1000
#: Who can't read a program can't look into its process either.
_MODE = 0o111


def program() -> int | None:
    """Return the program as an open file of no place; None if there is none for this machine."""
    found = _MACHINES.get(os.uname().machine)
    if found is None:
        return None
    machine, code = found
    at = _HEADER.size + 2 * _SEGMENT.size
    size = at + len(code)
    # Little-endian, 64 bits; an executable whose sections nobody needs.
    header = _HEADER.pack(
        b"\x7fELF\x02\x01\x01", 2, machine, 1, _PLACE + at, _HEADER.size, 0, 0,
        _HEADER.size, _SEGMENT.size, 2, 0, 0, 0,
    )  # fmt: skip
    loaded = _SEGMENT.pack(_LOAD, _READ_EXECUTE, 0, _PLACE, _PLACE, size, size, _ALIGN)
    stack = _SEGMENT.pack(_STACK, _READ_WRITE, 0, 0, 0, 0, 0, 16)
    file = os.memfd_create("nest")
    os.write(file, header + loaded + stack + code)
    os.fchmod(file, _MODE)
    return file


def rest(file: int | None) -> NoReturn:
    """Do nothing for ever, as that program if it can be had."""
    # It outlasts the program's start.
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    if file is not None:
        with contextlib.suppress(OSError):
            # By its environment it is found if the platform is killed.
            os.execve(file, ["nest"], os.environ)  # noqa: S606, TID251 - no shell
    while True:
        signal.pause()
