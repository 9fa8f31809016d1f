"""A store of any earlier schema becomes what a new one is, with all that was in it."""

import sqlite3
from pathlib import Path

import psycopg
import pytest

from tests.conformance.store.conftest import OpenStore
from tests.support.postgres import PostgresServer
from trunkline.store.opening import StorePlace
from trunkline.store.settings import StoreSettings
from trunkline.store.sql.migrations import Migration, load_migrations
from trunkline.store.sqlite.schema import _statements

AT = "2026-01-02T03:04:05.678901+00:00"
#: A table's columns: name, whether it may be empty, and place in the primary key.
Columns = dict[str, dict[str, tuple[bool, int]]]

_POSTGRES_COLUMNS = """
select c.table_name, c.column_name, c.is_nullable = 'YES',
       coalesce(k.ordinal_position, 0)
from information_schema.columns c
left join information_schema.key_column_usage k
  on k.table_schema = c.table_schema and k.table_name = c.table_name
     and k.column_name = c.column_name and k.constraint_name = c.table_name || '_pkey'
where c.table_schema = current_schema() and c.table_name <> 'schema_version'
"""


def migrations(url: str) -> list[Migration]:
    package = "sqlite" if url.startswith("sqlite") else "postgres"
    return load_migrations(f"trunkline.store.{package}")


def write(url: str, script: list[str]) -> None:
    """Run statements as an earlier program would have."""
    if not url.startswith("sqlite"):
        with psycopg.connect(url) as connection:
            for statement in script:
                connection.execute(statement.encode())
        return
    path = Path(url.removeprefix("sqlite://"))
    path.parent.mkdir(parents=True, exist_ok=True)
    db = sqlite3.connect(path)
    for text in script:
        for statement in _statements(text):
            db.execute(statement)
    db.commit()
    db.close()


def columns(url: str) -> Columns:
    found: Columns = {}
    if not url.startswith("sqlite"):
        with psycopg.connect(url) as connection:
            for table, name, is_nullable, place in connection.execute(_POSTGRES_COLUMNS):
                found.setdefault(table, {})[name] = (is_nullable, place)
        return found
    db = sqlite3.connect(url.removeprefix("sqlite://"))
    for (table,) in db.execute("select name from sqlite_schema where type = 'table'").fetchall():
        rows = db.execute(f"pragma table_info({table})").fetchall()
        found[table] = {name: (not notnull, place) for _, name, _, notnull, _, place in rows}
    db.close()
    return found


def stamp(url: str, number: int) -> list[str]:
    if url.startswith("sqlite"):
        return [f"pragma user_version = {number};"]
    return [
        "create table schema_version (number bigint not null)",
        f"insert into schema_version values ({number})",
    ]


async def test_every_earlier_schema_becomes_the_newest(
    store_url: str, open_store: OpenStore
) -> None:
    known = migrations(store_url)
    await (await open_store()).aclose()
    expected = columns(store_url)
    assert {"agents", "versions", "sessions", "nodes", "conversations"} <= set(expected)
    for count in range(1, len(known) + 1):
        drop_all(store_url, list(columns(store_url)))
        write(store_url, [m.sql for m in known[:count]])
        write(
            store_url,
            [f"insert into agents (project, name, created_at) values ('p', 'a{count}', '{AT}');"],
        )
        write(store_url, stamp(store_url, known[count - 1].number))
        store = await open_store()
        assert columns(store_url) == expected
        agent = await store.find_agent("p", f"a{count}")  # type: ignore[arg-type]
        assert agent is not None
        assert agent.is_enabled
        await store.aclose()


def drop_all(url: str, tables: list[str]) -> None:
    if url.startswith("sqlite"):
        path = Path(url.removeprefix("sqlite://"))
        for file in path.parent.glob(f"{path.name}*"):
            file.unlink()
        return
    write(url, [f"drop table if exists {name} cascade" for name in [*tables, "schema_version"]])


async def test_opening_again_changes_nothing(store_url: str, open_store: OpenStore) -> None:
    await (await open_store()).aclose()
    before = columns(store_url)
    await (await open_store()).aclose()
    assert columns(store_url) == before


async def test_every_store_has_the_same_tables(tmp_path: Path, postgres: PostgresServer) -> None:
    with postgres.database() as url:
        file = f"sqlite://{tmp_path}/trunkline.db"
        for each in (url, file):
            store = await StorePlace(StoreSettings(url=each), tmp_path).open()
            await store.aclose()
        assert columns(url) == columns(file)
    numbers = [migration.number for migration in migrations(url)]
    assert numbers == [m.number for m in migrations(file)][-len(numbers) :]


@pytest.mark.parametrize("package", ["sqlite", "postgres"])
def test_migrations_are_numbered_without_gaps(package: str) -> None:
    numbers = [migration.number for migration in load_migrations(f"trunkline.store.{package}")]
    assert numbers == list(range(numbers[0], numbers[-1] + 1))
