"""Brings a SQLite file to the schema this program knows, one migration at a time."""

import sqlite3

from trunkline.store.sql.migrations import load_migrations, unseen

_PACKAGE = "trunkline.store.sqlite"


def migrate(db: sqlite3.Connection) -> None:
    """Run the migrations the file hasn't seen.

    Raises:
        SchemaTooNewError: If the file has seen more than this program knows.
    """
    known = load_migrations(_PACKAGE)
    # Two processes may open a new file at once: the second waits here, and finds it done.
    db.execute("begin immediate")
    try:
        (seen,) = db.execute("pragma user_version").fetchone()
        todo = unseen(known, seen, where="the state directory", instead="another --state-dir")
        for migration in todo:
            for statement in _statements(migration.sql):
                db.execute(statement)
            db.execute(f"pragma user_version = {migration.number}")
        db.execute("commit")
    except BaseException:
        # Some errors, a full disk's among them, have rolled it back already.
        if db.in_transaction:
            db.execute("rollback")
        raise


def _statements(sql: str) -> list[str]:
    # executescript() would commit first; complete_statement() knows where each one ends.
    statements, text = [], ""
    for line in sql.splitlines(keepends=True):
        text += line
        if sqlite3.complete_statement(text):
            statements.append(text)
            text = ""
    return statements
