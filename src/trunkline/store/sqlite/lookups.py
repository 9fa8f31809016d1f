"""Rows of a SQLite file looked up by their keys, in the event loop.

A reader of a file with write-ahead logging waits for nobody, and a row by its key takes it
microseconds where a thread's help takes fifty. What was found is kept until anybody, of whatever
process, has committed something. SQLite tells that for less than a look, and is asked once in a
turn of the event loop: what is done in a turn was asked for before it began, so whoever asks after
a commit gets what it left.
"""

import asyncio
import functools
import re
import sqlite3
from collections.abc import Callable, Hashable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, TypeVar

from trunkline.store.sql.engine import Db, Row

_T = TypeVar("_T")
_MAX_KEPT: Final = 4096
_NOTHING: Final = object()
_VALUES: Final = re.compile(r"\bvalues \(([^()]*)\)")
_PARAMETER: Final = re.compile(r":(\w+)")
#: Rows that one statement inserts. Few sizes, so that each is prepared once.
_AT_ONCE: Final = (64, 16, 4, 1)


class BusyError(Exception):
    """Another process has the file to itself for a moment."""


class Statements:
    """A connection's statements by their names."""

    def __init__(self, db: sqlite3.Connection, sql: Mapping[str, str]) -> None:
        self._db = db
        self._sql = sql

    def rows(self, name: str, **values: Any) -> Sequence[Row]:
        # A Row is a mapping in all but its registration.
        return self._db.execute(self._sql[name], values).fetchall()

    def insert(self, name: str, columns: Sequence[str], many: Sequence[Sequence[Any]]) -> None:
        # One statement for as many as may be: each lets go of the interpreter's lock and takes it
        # again, and the event loop, which wants it too, would pay for that.
        names = tuple(columns)
        done = 0
        for size in _AT_ONCE:
            sql, order = _of_each(self._sql[name], names, size)
            while len(many) - done >= size:
                rows = many[done : done + size]
                self._db.execute(sql, [row[place] for row in rows for place in order])
                done += size


@functools.lru_cache
def _of_each(sql: str, columns: tuple[str, ...], size: int) -> tuple[str, list[int]]:
    """Return the insertion of one row as one of some, and of which column each value is."""
    found = _VALUES.search(sql)
    assert found is not None, "an insertion says which values"
    order = [columns.index(name) for name in _PARAMETER.findall(found[1])]
    one = f"({_PARAMETER.sub('?', found[1])})"
    return sql[: found.start()] + "values " + ", ".join([one] * size) + sql[found.end() :], order


class Lookups:
    """A connection that only reads, for one thread."""

    def __init__(self, path: Path, sql: Mapping[str, str]) -> None:
        self._db = sqlite3.connect(
            f"{path.resolve().as_uri()}?mode=ro", uri=True, isolation_level=None, timeout=0
        )
        self._db.row_factory = sqlite3.Row
        self._statements = Statements(self._db, sql)
        # Made once: it is asked at each look.
        self._version_cursor = self._db.cursor()
        self._version_cursor.row_factory = None
        self._version = 0
        self._is_fresh = False
        self._kept: dict[Hashable, Any] = {}

    def look(self, at: Hashable, work: Callable[[Db], _T]) -> _T:
        """Return what ``work`` returns, or what it returned if nothing was committed since.

        Raises:
            BusyError: If it can't be looked at without waiting.
        """
        try:
            if not self._is_fresh:
                self._refresh()
            found: _T = self._kept.get(at, _NOTHING)
            if found is _NOTHING:
                if len(self._kept) >= _MAX_KEPT:
                    self._kept.clear()
                found = self._kept[at] = work(self._statements)
        except sqlite3.OperationalError as exc:
            raise BusyError from exc
        return found

    def _refresh(self) -> None:
        # Many upgrades may come in one turn, and asking costs each what all else of a look does.
        # This connection never writes, so it is told of everybody's commits.
        (version,) = self._version_cursor.execute("pragma data_version").fetchone()
        if version != self._version:
            self._version = version
            self._kept.clear()
        self._is_fresh = True
        asyncio.get_running_loop().call_soon(self._age)

    def _age(self) -> None:
        self._is_fresh = False

    def close(self) -> None:
        """Close the connection. Twice is fine."""
        self._db.close()
