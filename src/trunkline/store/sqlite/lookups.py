"""Rows of a SQLite file looked up by their keys, in the event loop.

A reader of a file with write-ahead logging waits for nobody, and a row by its key takes it
microseconds where a thread's help takes fifty. What was found is kept until anybody, of whatever
process, has committed something: SQLite tells that for less than a look.
"""

import functools
import json
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
        # One statement for all: each would let go of the interpreter's lock and take it again,
        # and the event loop, which wants it too, would pay for that.
        self._db.execute(_of_each(self._sql[name], tuple(columns)), (json.dumps(many),))


@functools.lru_cache
def _of_each(sql: str, columns: tuple[str, ...]) -> str:
    """Return the insertion of one row as that of each row of a JSON array of arrays."""
    places = {name: f"json_extract(value, '$[{n}]')" for n, name in enumerate(columns)}

    def selected(values: re.Match[str]) -> str:
        each = _PARAMETER.sub(lambda name: places[name[1]], values[1])
        # Without a condition a conflict's clause would be read as a join's.
        return f"select {each} from json_each(?) where true"  # noqa: S608 - of our own names

    return _VALUES.sub(selected, sql)


class Lookups:
    """A connection that only reads, for one thread."""

    def __init__(self, path: Path, sql: Mapping[str, str]) -> None:
        self._db = sqlite3.connect(
            f"{path.resolve().as_uri()}?mode=ro", uri=True, isolation_level=None, timeout=0
        )
        self._db.row_factory = sqlite3.Row
        self._statements = Statements(self._db, sql)
        self._version = 0
        self._kept: dict[Hashable, Any] = {}

    def look(self, at: Hashable, work: Callable[[Db], _T]) -> _T:
        """Return what ``work`` returns, or what it returned if nothing was committed since.

        Raises:
            BusyError: If it can't be looked at without waiting.
        """
        try:
            # This connection never writes, so it is told of everybody's commits.
            (version,) = self._db.execute("pragma data_version").fetchone()
            if version != self._version or len(self._kept) >= _MAX_KEPT:
                self._version = version
                self._kept.clear()
            found: _T = self._kept.get(at, _NOTHING)
            if found is _NOTHING:
                found = self._kept[at] = work(self._statements)
        except sqlite3.OperationalError as exc:
            raise BusyError from exc
        return found

    def close(self) -> None:
        """Close the connection. Twice is fine."""
        self._db.close()
