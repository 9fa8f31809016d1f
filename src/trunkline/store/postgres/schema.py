"""Brings a PostgreSQL database to the schema this program knows, one migration at a time."""

from psycopg.errors import UndefinedTable

from trunkline.store.postgres.connections import Rows
from trunkline.store.sql.migrations import load_migrations, unseen

_PACKAGE = "trunkline.store.postgres"
_LOCK = "select pg_advisory_xact_lock(8172637480)"


def migrate(connection: Rows) -> None:
    """Run the migrations the database hasn't seen, all of them or none.

    Raises:
        SchemaTooNewError: If it has seen more than this program knows.
    """
    known = load_migrations(_PACKAGE)
    if _seen(connection) == known[-1].number:
        # Nothing to do takes no lock, and no right to make tables.
        return
    with connection.transaction():
        # Two processes may open a new database at once: the second waits here, and finds it done.
        connection.execute(_LOCK)
        connection.execute("create table if not exists schema_version (number bigint not null)")
        seen = _number(connection)
        for migration in unseen(known, seen, where="the database", instead="another database"):
            connection.execute(migration.sql.encode())
            connection.execute("delete from schema_version")
            connection.execute("insert into schema_version values (%s)", (migration.number,))


def _seen(connection: Rows) -> int:
    try:
        return _number(connection)
    except UndefinedTable:
        return 0


def _number(connection: Rows) -> int:
    row = connection.execute("select coalesce(max(number), 0) as n from schema_version").fetchone()
    assert row is not None, "an aggregate has a row"
    number: int = row["n"]
    return number
