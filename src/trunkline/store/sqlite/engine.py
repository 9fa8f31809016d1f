"""SQLite as an engine: one file, a thread that works on it, and a connection to look things up."""

import asyncio
import logging
import sqlite3
from collections.abc import Callable, Hashable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final, TypeVar

from trunkline.protocol.errors import UnavailableError
from trunkline.store.errors import StoreNotOpenError
from trunkline.store.sql.engine import Db, Row
from trunkline.store.sql.queries import load_queries
from trunkline.store.sql.store import SqlStore
from trunkline.store.sqlite.lookups import BusyError, Lookups, Statements
from trunkline.store.sqlite.schema import migrate

_T = TypeVar("_T")
_log = logging.getLogger("trunkline.store")
#: What whoever looks after the machine can mend, and a program can't.
_OF_THE_DISK: Final = frozenset(
    {sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN}
)
#: The bits of a code that tell the kind; the others tell more of it.
_PRIMARY_CODE: Final = 0xFF


async def open_sqlite(path: Path) -> SqlStore:
    """Open the store in a file, making it and its tables if need be.

    Raises:
        SchemaTooNewError: If a newer trunkline wrote it.
        StoreNotOpenError: If it can't be used; it says why.
    """
    return SqlStore(await SqliteEngine.open(path))


class SqliteEngine:
    """One SQLite file.

    One thread does all the work but looking up single rows, so a cancelled caller never leaves
    half of it. Write-ahead logging lets others read while it writes, and ``synchronous=normal``
    keeps what was committed through a crash of the process.
    """

    def __init__(
        self, db: sqlite3.Connection, thread: ThreadPoolExecutor, lookups: Lookups,
        sql: Mapping[str, str],
    ) -> None:  # fmt: skip
        self._db = db
        self._thread = thread
        self._lookups = lookups
        self._statements = Statements(db, sql)
        self._is_writable = True

    @classmethod
    async def open(cls, path: Path) -> "SqliteEngine":
        """Open the file; see :func:`open_sqlite`."""
        sql = load_queries()
        thread = ThreadPoolExecutor(1, thread_name_prefix="sqlite")
        try:
            db = await asyncio.get_running_loop().run_in_executor(thread, _connect, path)
            lookups = Lookups(path, sql)
        except BaseException:
            thread.shutdown(wait=False)
            raise
        return cls(db, thread, lookups, sql)

    async def _run(self, work: Callable[[], _T]) -> _T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, work)

    async def read(self, work: Callable[[Db], _T]) -> _T:
        # Nobody else writes between two statements: there is one thread.
        return await self._run(lambda: work(self._statements))

    async def look(self, at: Hashable, work: Callable[[Db], _T]) -> _T:
        try:
            return self._lookups.look(at, work)
        except BusyError:
            return await self.read(work)

    def look_now(self, at: Hashable, work: Callable[[Db], _T]) -> _T | None:
        try:
            return self._lookups.look(at, work)
        except BusyError:
            return None

    async def write(self, work: Callable[[Db], _T]) -> _T:
        return await self._run(lambda: self._transact(work))

    async def step(self, name: str, **values: Any) -> Sequence[Row]:
        return await self.write(lambda db: db.rows(name, **values))

    async def steps(self, name: str, many: Sequence[Mapping[str, Any]]) -> None:
        def work(db: Db) -> None:
            for values in many:
                db.rows(name, **values)

        await self.write(work)

    async def sign(self, name: str, **values: Any) -> Sequence[Row]:
        # Nobody shares the file, so nobody waits for it.
        return await self.step(name, **values)

    def _transact(self, work: Callable[[Db], _T]) -> _T:
        try:
            self._db.execute("begin immediate")
            result = work(self._statements)
            self._db.execute("commit")
        except BaseException as exc:
            # Some errors, a full disk's among them, have rolled it back already.
            if self._db.in_transaction:
                self._db.execute("rollback")
            if getattr(exc, "sqlite_errorcode", 0) & _PRIMARY_CODE in _OF_THE_DISK:
                self._tell_of(exc)
                raise UnavailableError("the store can't be written; try again later") from exc
            raise
        if not self._is_writable:
            self._is_writable = True
            _log.info("the store can be written again")
        return result

    def _tell_of(self, error: BaseException) -> None:
        # Once, and not for each call: the log may be on the same disk.
        if self._is_writable:
            self._is_writable = False
            _log.error("the store can't be written, and calls that need it get 503: %s", error)

    async def aclose(self) -> None:
        # Closing a closed connection does nothing; a thread that was shut down takes no work.
        self._lookups.close()
        try:
            await self._run(self._db.close)
        except RuntimeError:
            return
        self._thread.shutdown(wait=False)


def _connect(path: Path) -> sqlite3.Connection:
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    try:
        return _open(path)
    except sqlite3.DatabaseError as exc:
        # A full disk, a file of another program's, another user's directory.
        raise StoreNotOpenError(f"the store can't be used: {path}: {exc}") from exc


def _open(path: Path) -> sqlite3.Connection:
    db = sqlite3.connect(path, isolation_level=None, timeout=10)
    try:
        db.row_factory = sqlite3.Row
        db.execute("pragma journal_mode = wal")
        db.execute("pragma synchronous = normal")
        db.execute("pragma foreign_keys = on")
        migrate(db)
    except BaseException:
        db.close()
        raise
    return db
