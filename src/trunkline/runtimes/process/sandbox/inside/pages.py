"""Which pages of memory a fork gets of its own by what it does, and how another gets them ahead.

A fork shares every page with where it was forked until one of the two writes to it, and merely
looking at one of Python's objects does. Getting a page then takes longer than what is done with it.
"""

import mmap
from collections.abc import Iterable

from trunkline.runtimes.process.sandbox.inside import kernel

#: Where some memory begins, and how long it is in bytes.
Range = tuple[int, int]

_ENTRY_BYTES = 8
#: A page that is there, is no file's, and is in no other process's memory.
_PRESENT, _OF_A_FILE, _ITS_ALONE = 1 << 63, 1 << 61, 1 << 56


def make_own(ranges: Iterable[Range]) -> None:
    """Get pages of our own, before they are written to."""
    for start, size in ranges:
        if not kernel.populate(start, size):
            # It is an older kernel, or there is no more memory to be had.
            return


def writable() -> list[Range]:
    """Return the memory that this process writes to, and no other one sees."""
    found = []
    with open("/proc/self/maps", "rb") as file:
        for line in file:
            place, access, _ = line.split(maxsplit=2)
            if access == b"rw-p":
                start, end = (int(number, 16) for number in place.split(b"-"))
                found.append((start, end - start))
    return found


def written_by(pid: int, mapped: list[Range]) -> list[Range]:
    """Return what a process has got of its own.

    Args:
        pid: A fork of a process that still has all it had, of the same user.
        mapped: Where to look.

    Raises:
        OSError: If that can't be seen.
    """
    found: list[Range] = []
    with open(f"/proc/{pid}/pagemap", "rb", buffering=0) as file:
        for start, size in mapped:
            file.seek(start // mmap.PAGESIZE * _ENTRY_BYTES)
            entries = memoryview(file.read(size // mmap.PAGESIZE * _ENTRY_BYTES)).cast("Q")
            for number, entry in enumerate(entries):
                if entry & (_PRESENT | _ITS_ALONE | _OF_A_FILE) == _PRESENT | _ITS_ALONE:
                    _add(found, start + number * mmap.PAGESIZE)
    return found


def _add(found: list[Range], page: int) -> None:
    if found and sum(found[-1]) == page:
        start, size = found[-1]
        found[-1] = start, size + mmap.PAGESIZE
    else:
        found.append((page, mmap.PAGESIZE))
