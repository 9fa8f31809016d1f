"""Numbers that several processes count together, in memory all of them have.

There are no locks. What is counted has a column for each process, which that one alone writes,
and its value is the sum over them. A time is one aligned number, written at once. Keys are
hashed under a secret into a fixed number of places: two of them rarely share one, nobody outside
can choose which, and when they do they count together.
"""

import functools
import hashlib
import mmap
import os
import secrets
from collections.abc import Hashable
from typing import Final, Self

_SECRET_BYTES: Final = 16
_PAGE: Final = 4096
#: Places a table has: with 1,000 keys in use, one more shares its place with one chance in 131.
_PLACES: Final = 1 << 17
_PLACE_MASK: Final = _PLACES - 1
_REMEMBERED_KEYS: Final = 4096


class SharedCounts:
    """The memory; a process that starts another gives it the file."""

    def __init__(self, file: int, *, columns: int, column: int) -> None:
        """Use memory that is there.

        Args:
            file: Its descriptor, which is this object's from now on.
            columns: How many processes count.
            column: Which of them this one is.
        """
        self.file = file
        self.column = column
        self.columns = columns
        self._memory = mmap.mmap(file, _size(columns))
        self._secret = self._memory[:_SECRET_BYTES]
        self._uints = memoryview(self._memory).cast("I")
        self._doubles = memoryview(self._memory).cast("d")
        self.place_of = functools.lru_cache(_REMEMBERED_KEYS)(self._place_of)

    @classmethod
    def made(cls, columns: int) -> Self:
        """Return new memory for so many processes, for column 0."""
        file = os.memfd_create("trunkline-counts")
        os.ftruncate(file, _size(columns))
        os.pwrite(file, secrets.token_bytes(_SECRET_BYTES), 0)
        return cls(file, columns=columns, column=0)

    def _place_of(self, key: Hashable) -> int:
        digest = hashlib.blake2b(
            repr(key).encode("utf-8", "surrogateescape"), digest_size=4, key=self._secret
        )
        return int.from_bytes(digest.digest()) & _PLACE_MASK

    def counted(self, table: int) -> "CountedTable":
        """Return a table of counts."""
        return CountedTable(self, table)

    def times(self, table: int) -> "TimeTable":
        """Return a table of times."""
        return TimeTable(self, table)

    def forget(self, column: int) -> None:
        """Count nothing more for a process that is gone."""
        for table in range(TABLES):
            begin = _counts_at(self.columns, table, column)
            self._memory[begin : begin + 4 * _PLACES] = bytes(4 * _PLACES)

    def close(self) -> None:
        """Let go of it. Twice is fine."""
        if self.file >= 0:
            self._uints.release()
            self._doubles.release()
            self._memory.close()
            os.close(self.file)
            self.file = -1

    def uints(self, table: int) -> "tuple[memoryview[int], list[int]]":
        """Return the memory as counts, and where each column of a table begins in it."""
        starts = [_counts_at(self.columns, table, c) // 4 for c in range(self.columns)]
        return self._uints, starts

    def doubles(self, table: int) -> "tuple[memoryview[float], int]":
        """Return the memory as times, and where a table begins in it."""
        return self._doubles, _times_at(self.columns, table) // 8


#: How many tables of each kind there are.
TABLES: Final = 4


def _counts_at(columns: int, table: int, column: int) -> int:
    return _PAGE + 4 * _PLACES * (table * columns + column)


def _times_at(columns: int, table: int) -> int:
    return _counts_at(columns, TABLES, 0) + 8 * _PLACES * table


def _size(columns: int) -> int:
    # What nobody has touched takes no memory.
    return _times_at(columns, TABLES)


class CountedTable:
    """Counts by key."""

    def __init__(self, shared: SharedCounts, table: int) -> None:
        self._place_of = shared.place_of
        self._numbers, self._starts = shared.uints(table)
        self._own = self._starts[shared.column]

    def add(self, key: Hashable, number: int) -> int:
        """Add to what this process counts; return what all of them do."""
        place = self._place_of(key)
        self._numbers[self._own + place] += number
        return sum([self._numbers[start + place] for start in self._starts])


class TimeTable:
    """Times by key, in seconds; 0 until one is set."""

    def __init__(self, shared: SharedCounts, table: int) -> None:
        self._place_of = shared.place_of
        self._times, self._start = shared.doubles(table)

    def get(self, key: Hashable) -> float:
        """Return the time."""
        time: float = self._times[self._start + self._place_of(key)]
        return time

    def set(self, key: Hashable, time: float) -> None:
        """Set the time, for all processes."""
        self._times[self._start + self._place_of(key)] = time
