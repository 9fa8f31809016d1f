"""PostgreSQL as an engine: the statements are SQLite's, and so is what they may rely on.

What SQLite's one writer gives has to hold with many. The isolation is READ COMMITTED, and one
advisory lock of the database, taken first thing in every transaction and given back by its end,
does the rest:

- A ``write`` takes the lock alone. While it runs nobody else changes anything, so whatever it
  read is still so when it writes: counting what runs before one more is claimed, looking for an
  agent before a version is added, numbering, marking and removing need no thought of their own.
- A ``step`` takes it shared. It is one statement on one row, and PostgreSQL itself makes those
  wait for each other: the second looks at the row again as the first left it.
- A ``read`` takes no lock, and waits for nobody.
- A ``sign``, of life, takes none either, and has a connection to itself: a process that has much
  to do must not be taken for dead.

SERIALIZABLE would give the same by making those that collide try again. It finds collisions by
pages of an index, on which the sessions of a small installation all lie, so what happens most
often (a session was used) would collide most. Here the steps go side by side, and a ``write`` is
about two milliseconds of a lock that stands in a fair queue. Whoever holds it and stops answering
loses it after five seconds (``idle_in_transaction_session_timeout``).
"""

import random
import re
import time
from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any, TypeVar

from trunkline.store.errors import StoreNotOpenError
from trunkline.store.postgres.connections import Connections, Rows
from trunkline.store.postgres.failures import CONTENTION
from trunkline.store.postgres.schema import migrate
from trunkline.store.postgres.target import Target
from trunkline.store.settings import StoreSettings
from trunkline.store.sql.engine import Db, Row
from trunkline.store.sql.queries import load_queries
from trunkline.store.sql.store import SqlStore

_T = TypeVar("_T")
_LOCK = 8172637481
_BEGIN_ALONE = f"begin; select pg_advisory_xact_lock({_LOCK})"
_LOCK_SHARED = f"select pg_advisory_xact_lock_shared({_LOCK})"
_TRIES = 5
#: ``:name``, and no cast such as ``::text``.
_PARAMETER = re.compile(r"(?<!:):([a-z]\w*)")


async def open_postgres(url: str, settings: StoreSettings) -> SqlStore:
    """Open the store in a database, making its tables if need be.

    Args:
        url: ``postgresql://...``.
        settings: Its limits; the URL in them isn't looked at.

    Raises:
        StoreNotOpenError: If there is no such database, or it can't be used.
        SchemaTooNewError: If a newer trunkline wrote it.
    """
    try:
        target = Target.parse(url)
    except ValueError as exc:
        raise StoreNotOpenError(f"the store's URL: {exc}") from None
    connections = Connections(target, settings)
    try:
        await connections.open(migrate)
    except BaseException:
        await connections.aclose()
        raise
    return SqlStore(PostgresEngine(connections))


class _Statements:
    def __init__(self, connection: Rows, sql: Mapping[str, str]) -> None:
        self._connection = connection
        self._sql = sql

    def rows(self, name: str, **values: Any) -> Sequence[Row]:
        cursor = self._connection.execute(self._sql[name].encode(), _plain(values))
        return cursor.fetchall() if cursor.description is not None else ()

    def insert(self, name: str, columns: Sequence[str], many: Sequence[Sequence[Any]]) -> None:
        for values in many:
            self.rows(name, **dict(zip(columns, values, strict=True)))


class PostgresEngine:
    """One PostgreSQL database."""

    def __init__(self, connections: Connections) -> None:
        self._connections = connections
        self._sql = {name: _translated(sql) for name, sql in load_queries().items()}

    async def read(self, work: Callable[[Db], _T]) -> _T:
        return await self._connections.run(
            lambda connection: work(_Statements(connection, self._sql))
        )

    async def look(self, at: Hashable, work: Callable[[Db], _T]) -> _T:
        # Nothing is kept: another process may have changed it, and nobody tells.
        return await self.read(work)

    def look_now(self, at: Hashable, work: Callable[[Db], _T]) -> _T | None:
        # It is asked over a connection.
        return None

    async def write(self, work: Callable[[Db], _T]) -> _T:
        return await self._connections.run(
            lambda connection: _patiently(lambda: self._alone(connection, work))
        )

    async def step(self, name: str, **values: Any) -> Sequence[Row]:
        return await self._connections.run(
            lambda connection: _patiently(lambda: self._step(connection, name, values))
        )

    async def steps(self, name: str, many: Sequence[Mapping[str, Any]]) -> None:
        await self._connections.run(
            lambda connection: _patiently(lambda: self._step(connection, name, *many))
        )

    async def sign(self, name: str, **values: Any) -> Sequence[Row]:
        return await self._connections.run_apart(
            lambda connection: _Statements(connection, self._sql).rows(name, **values)
        )

    def _alone(self, connection: Rows, work: Callable[[Db], _T]) -> _T:
        try:
            # In one go, and yet two statements: what comes after them sees what was committed
            # while they waited.
            connection.execute(_BEGIN_ALONE)
            result = work(_Statements(connection, self._sql))
            connection.execute("commit")
        except BaseException:
            if not connection.closed:
                connection.rollback()
            raise
        return result

    def _step(self, connection: Rows, name: str, *many: Mapping[str, Any]) -> Sequence[Row]:
        # The statements go in one go, and until all are done they are one transaction.
        statement = self._sql[name].encode()
        with connection.pipeline():
            connection.execute(_LOCK_SHARED)
            cursors = [connection.execute(statement, _plain(values)) for values in many]
        return cursors[-1].fetchall() if cursors[-1].description is not None else ()

    async def aclose(self) -> None:
        await self._connections.aclose()


def _patiently(work: Callable[[], _T]) -> _T:
    for attempt in range(1, _TRIES):
        try:
            return work()
        except CONTENTION:
            # Somebody else works on the same tables by hand: the platform's own never collide.
            time.sleep(random.uniform(0, 0.01 * 2**attempt))  # noqa: S311
    return work()


def _translated(sql: str) -> str:
    assert "%" not in sql, "psycopg would take it for a parameter"
    return _PARAMETER.sub(r"%(\1)s", sql)


def _plain(values: Mapping[str, Any]) -> dict[str, Any]:
    # An enumeration's member would be sent by its name.
    return {name: str(value) if isinstance(value, str) else value for name, value in values.items()}
