"""Rows of a SQLite file looked up by their keys, in the event loop.

A reader of a file with write-ahead logging waits for nobody, and a row by its key takes it
microseconds where a thread's help takes fifty. What was found is kept until anybody, of whatever
process, has committed something: SQLite tells that for less than a look.
"""

import sqlite3
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final, TypeVar

from trunkline.store.sql.engine import Row

_T = TypeVar("_T")
_MAX_KEPT: Final = 4096


class BusyError(Exception):
    """Another process has the file to itself for a moment."""


class Lookups:
    """A connection that only reads, for one thread."""

    def __init__(self, path: Path, sql: Mapping[str, str]) -> None:
        self._db = sqlite3.connect(
            f"{path.resolve().as_uri()}?mode=ro", uri=True, isolation_level=None, timeout=0
        )
        self._db.row_factory = sqlite3.Row
        self._sql = sql
        self._version = 0
        self._kept: dict[tuple[Any, ...], Any] = {}

    def find(self, name: str, make: Callable[[Row], _T], values: Mapping[str, Any]) -> _T | None:
        """Return what ``make`` makes of the only row a statement finds, or None.

        Raises:
            BusyError: If it can't be looked at without waiting.
        """
        at = (name, *values.values())
        try:
            # This connection never writes, so it is told of everybody else's commits.
            (version,) = self._db.execute("pragma data_version").fetchone()
            if version != self._version or len(self._kept) > _MAX_KEPT:
                self._version = version
                self._kept.clear()
            found: _T | None = self._kept.get(at)
            if found is None:
                rows = self._db.execute(self._sql[name], values).fetchall()
                if rows:
                    found = self._kept[at] = make(rows[0])
        except sqlite3.OperationalError as exc:
            raise BusyError from exc
        return found

    def close(self) -> None:
        """Close the connection. Twice is fine."""
        self._db.close()
