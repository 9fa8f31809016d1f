"""Brings a SQLite file to the schema this program knows, one migration at a time."""

import sqlite3
from importlib import resources

from trunkline.protocol.errors import TrunklineError

_PACKAGE = resources.files("trunkline.store.sqlite")


class SchemaTooNewError(TrunklineError):
    """The state directory was written by a newer trunkline."""

    code = "schema_too_new"


def _migrations() -> list[tuple[int, str]]:
    files = [f for f in (_PACKAGE / "migrations").iterdir() if f.name.endswith(".sql")]
    return sorted((int(f.name.split("_")[0]), f.read_text("utf-8")) for f in files)


def migrate(db: sqlite3.Connection) -> None:
    """Run the migrations the file hasn't seen.

    Raises:
        SchemaTooNewError: If the file has seen more than this program knows.
    """
    known = _migrations()
    # Two processes may open a new file at once: the second waits here, and finds it done.
    db.execute("begin immediate")
    try:
        (seen,) = db.execute("pragma user_version").fetchone()
        if seen > known[-1][0]:
            raise SchemaTooNewError(
                f"the state directory has schema {seen}, and this trunkline knows up to "
                f"{known[-1][0]}: use the newer trunkline that wrote it, or another --state-dir"
            )
        for number, sql in known:
            if number > seen:
                for statement in _statements(sql):
                    db.execute(statement)
                db.execute(f"pragma user_version = {number}")
        db.execute("commit")
    except BaseException:
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
