"""Which pages of memory a fork gets of its own by what it does, and how another gets them ahead.

A fork shares every page with where it was forked until one of the two writes to it, and merely
looking at one of Python's objects does. Getting a page then takes longer than what is done with it.
"""

import mmap
import struct
from collections.abc import Iterator

from trunkline.runtimes.process.sandbox.inside import kernel

#: Where some memory begins, and how long it is in bytes.
Range = tuple[int, int]

_ENTRY_BYTES = 8
#: A page that is there, is no file's, and is in no other process's memory.
_PRESENT, _OF_A_FILE, _ITS_ALONE = 1 << 63, 1 << 61, 1 << 56
_RANGE = struct.Struct("QQ")


class Ranges:
    """Places in memory, kept where a fork can write them down, and outside of what is learnt of."""

    _MOST_BYTES = 256 * 1024

    def __init__(self) -> None:
        self._noted = mmap.mmap(-1, self._MOST_BYTES)

    def note(self, ranges: list[Range]) -> None:
        """Write them down, as many as there is room for."""
        for at, place in zip(range(0, self._MOST_BYTES, _RANGE.size), ranges, strict=False):
            _RANGE.pack_into(self._noted, at, *place)

    def __iter__(self) -> Iterator[Range]:
        for start, size in _RANGE.iter_unpack(self._noted):
            if size == 0:
                return
            yield start, size

    def make_own(self) -> None:
        """Get the pages there of our own, before they are written to, and forget which they are."""
        for start, size in self:
            if not kernel.populate(start, size):
                # It is an older kernel, or there is no more memory to be had.
                break
        self._noted.close()


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
