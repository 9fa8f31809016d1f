"""What is PostgreSQL's own: its server going away, waiting, refusing; and its password."""

import asyncio
import datetime as dt
import logging
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import psycopg
import pytest

from tests.support.postgres import PASSWORD, USER, PostgresServer, running_server
from trunkline.protocol.errors import InvalidRequestError, UnavailableError
from trunkline.protocol.ids import AgentName, NodeId, ProjectName, SessionId, SessionKey
from trunkline.store.errors import SchemaTooNewError, StoreNotOpenError
from trunkline.store.opening import StorePlace
from trunkline.store.paging import EVERYTHING
from trunkline.store.postgres import connections
from trunkline.store.postgres.engine import open_postgres
from trunkline.store.records import NewVersion
from trunkline.store.settings import StoreSettings
from trunkline.store.sql.engine import Db
from trunkline.store.sql.store import SqlStore

NODE, PROJECT, AGENT = NodeId("node-1"), ProjectName("p"), AgentName("a")
KEY = SessionKey(PROJECT, AGENT, SessionId("s"))
T0 = dt.datetime(2026, 1, 2, tzinfo=dt.UTC)
NOTHING = dt.timedelta(0)
#: Parts of the password that a careless message would have.
PIECES = (PASSWORD, "s3cret", "with@odd", "odd:characters", "s3cret%2F")


def says_no_secret(text: str) -> bool:
    return not any(piece in text for piece in PIECES)


@asynccontextmanager
async def opened(url: str, **settings: Any) -> AsyncIterator[SqlStore]:
    store = await open_postgres(url, StoreSettings(**settings))
    try:
        yield store
    finally:
        await store.aclose()


@pytest.fixture
def url(postgres: PostgresServer) -> Iterator[str]:
    with postgres.database() as found:
        yield found


@pytest.fixture(scope="module")
def own_server() -> Iterator[PostgresServer]:
    """A server that a test may stop."""
    with running_server() as server:
        yield server


def backends(server: PostgresServer) -> list[int]:
    rows = server.execute("select pid from pg_stat_activity where application_name = 'trunkline'")
    return [int(str(pid)) for (pid,) in rows]


def wait_for_backends(server: PostgresServer, count: int) -> None:
    while len(backends(server)) < count:
        time.sleep(0.01)


def wait_for_end(server: PostgresServer, pid: int) -> None:
    while pid in backends(server):
        time.sleep(0.01)


def new(description: str = "d", **changes: Any) -> NewVersion:
    return NewVersion(
        project=PROJECT, agent=AGENT, definition={}, description=description, metadata={},
        content_hash="h", code_sha256="c", builder=NODE, **changes,
    )  # fmt: skip


# Opening


async def test_a_wrong_password_is_told_without_it(
    postgres: PostgresServer, caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.raises(StoreNotOpenError, match="password authentication failed") as caught:
        await open_postgres(postgres.url("postgres", password=f"{PASSWORD}!"), StoreSettings())
    assert str(postgres.folder) in str(caught.value)
    assert says_no_secret(str(caught.value) + caplog.text)
    assert caught.value.__cause__ is None


@pytest.mark.parametrize(
    ("url", "words"),
    [
        (f"postgresql://{USER}:s3cret@/nowhere?host=/nonexistent", "No such file or directory"),
        ("postgresql://u:s3cret@127.0.0.1:1/x", "Connection refused"),
    ],
)
async def test_a_server_that_is_not_there(url: str, words: str) -> None:
    with pytest.raises(StoreNotOpenError, match=words) as caught:
        await open_postgres(url, StoreSettings())
    assert says_no_secret(str(caught.value))


@pytest.mark.parametrize(
    "rest",
    [
        "u:s3cret/with@127.0.0.1/x",
        "u:s3cret#with@127.0.0.1/x",
        "u:s3cret?with@127.0.0.1/x",
        "u:s3cret@with@127.0.0.1/x",
        "u:s3cret%zz@127.0.0.1/x",
        "u:s3cret/x",
        "127.0.0.1:s3cret/x",
        "127.0.0.1/x?s3cret=1",
        "[s3cret",
    ],
)
async def test_a_url_that_is_none_is_not_repeated(rest: str) -> None:
    with pytest.raises(StoreNotOpenError, match="postgresql://USER:PASSWORD@HOST") as caught:
        await open_postgres(f"postgresql://{rest}", StoreSettings())
    assert says_no_secret(str(caught.value))
    assert caught.value.__cause__ is None


async def test_a_user_who_may_make_no_tables(postgres: PostgresServer, url: str) -> None:
    schema = url.rpartition("%3D")[2]
    postgres.execute("create role poor login password 'x'")
    try:
        postgres.execute(f"grant usage on schema {schema} to poor")
        poor = url.replace(url.partition("@")[0], "postgresql://poor:x")
        with pytest.raises(StoreNotOpenError, match="permission denied for schema"):
            await open_postgres(poor, StoreSettings())
    finally:
        postgres.execute("drop owned by poor")
        postgres.execute("drop role poor")


async def test_a_store_of_the_future_does_not_open(postgres: PostgresServer, url: str) -> None:
    async with opened(url):
        pass
    postgres.execute("update schema_version set number = 999", url)
    with pytest.raises(SchemaTooNewError, match=r"the database has schema 999.*another database"):
        await open_postgres(url, StoreSettings())


async def test_a_migration_that_fails_leaves_nothing_behind(
    postgres: PostgresServer, url: str
) -> None:
    postgres.execute("create table sessions (x int)", url)
    with pytest.raises(StoreNotOpenError, match='"sessions" already exists'):
        await open_postgres(url, StoreSettings())
    tables = "select table_name from information_schema.tables where table_schema=current_schema()"
    assert postgres.execute(tables, url) == [("sessions",)]


def test_processes_that_open_a_new_database_at_once_all_succeed(
    postgres: PostgresServer, url: str
) -> None:
    together = threading.Barrier(4)

    async def open_it() -> None:
        together.wait()
        async with opened(url) as store:
            await store.ping()

    with ThreadPoolExecutor(4) as threads:
        list(threads.map(lambda _: asyncio.run(open_it()), range(4)))
    assert len(postgres.execute("select number from schema_version", url)) == 1


# Going away and coming back


async def test_a_connection_closed_while_idle_is_not_used_again(
    postgres: PostgresServer, url: str
) -> None:
    async with opened(url) as store:
        await store.add_node(NODE, T0, "http://n")
        for _ in range(3):
            await store.touch_sessions({KEY: T0}, NOTHING)
            (pid,) = backends(postgres)
            postgres.execute(f"select pg_terminate_backend({pid}, 5000)")
        assert [record.node for record in await store.list_nodes()] == [NODE]


async def test_a_server_that_restarts_is_used_again(
    own_server: PostgresServer, caplog: pytest.LogCaptureFixture
) -> None:
    with own_server.database() as url:
        async with opened(url) as store:
            await store.add_version(new())
            await asyncio.to_thread(own_server.stop)
            with caplog.at_level(logging.INFO):
                for call in (store.ping(), store.heartbeat(NODE, T0), store.add_version(new())):
                    with pytest.raises(UnavailableError, match="doesn't answer; try again") as no:
                        await call
                    assert str(own_server.folder) not in str(no.value)
                    assert no.value.__cause__ is None
            assert "No such file or directory" in caplog.text
            assert says_no_secret(caplog.text)
            await asyncio.to_thread(own_server.start)
            listed = await store.list_versions(PROJECT, AGENT, EVERYTHING)
            assert [version.version for version in listed.items] == ["1"]
            await store.heartbeat(NODE, T0)


async def test_a_connection_lost_in_a_call_is_told_and_nothing_is_half_done(
    postgres: PostgresServer, url: str
) -> None:
    def work(db: Db) -> None:
        db.rows("add_agent", project=PROJECT, agent=AGENT, now="t")
        (pid,) = backends(postgres)
        postgres.execute(f"select pg_terminate_backend({pid}, 5000)")
        db.rows("find_agent", project=PROJECT, agent=AGENT)

    async with opened(url) as store:
        with pytest.raises(UnavailableError):
            await store._engine.write(work)
        assert await store.find_agent(PROJECT, AGENT) is None


async def test_work_that_raises_leaves_nothing(url: str) -> None:
    def work(db: Db) -> None:
        db.rows("add_agent", project=PROJECT, agent=AGENT, now="t")
        raise ValueError("no")

    async with opened(url, pool_size=1) as store:
        with pytest.raises(ValueError, match="no"):
            await store._engine.write(work)
        assert await store.find_agent(PROJECT, AGENT) is None
        await store.heartbeat(NODE, T0)


# Waiting


async def test_a_server_that_hangs_holds_nobody_for_ever(
    postgres: PostgresServer, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connections, "_GRACE_S", 0.2)
    async with opened(url, timeout_s=1, pool_size=1) as store:
        for call in (store.ping, lambda: store.touch_sessions({KEY: T0}, NOTHING)):
            (pid,) = backends(postgres)
            os.kill(pid, signal.SIGSTOP)
            try:
                with pytest.raises(UnavailableError, match="doesn't answer"):
                    await call()
                # It still hangs; a connection made anew doesn't.
                await store.ping()
            finally:
                os.kill(pid, signal.SIGCONT)
            await asyncio.to_thread(wait_for_end, postgres, pid)


async def test_a_port_that_accepts_and_says_nothing(caplog: pytest.LogCaptureFixture) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        with pytest.raises(StoreNotOpenError, match=f"127.0.0.1 port {port}.*timeout"):
            await open_postgres(
                f"postgresql://u:s3cret@127.0.0.1:{port}/x", StoreSettings(connect_timeout_s=2)
            )
    assert says_no_secret(caplog.text)


@contextmanager
def locked(url: str) -> Iterator[psycopg.Connection[Any]]:
    """Be the one who writes, and don't end."""
    with psycopg.connect(url) as connection:
        connection.execute("select pg_advisory_xact_lock(8172637481)")
        yield connection
        connection.rollback()


async def test_who_waits_too_long_is_told_that_it_is_busy(url: str) -> None:
    async with opened(url, timeout_s=1) as store:
        with locked(url):
            for call in (store.add_version(new()), store.touch_sessions({KEY: T0}, NOTHING)):
                with pytest.raises(UnavailableError, match="busy; try again"):
                    await call
            # Nobody who only reads waits for those who write.
            assert await store.find_agent(PROJECT, AGENT) is None
        assert (await store.add_version(new()))[1]


async def test_there_are_only_so_many_connections(postgres: PostgresServer, url: str) -> None:
    async with opened(url, pool_size=3, timeout_s=5) as store:
        with locked(url):
            waiting = [
                asyncio.create_task(store.touch_sessions({KEY: T0}, NOTHING)) for _ in range(20)
            ]
            await asyncio.to_thread(wait_for_backends, postgres, 3)
        await asyncio.gather(*waiting)
        assert len(backends(postgres)) == 3
    assert backends(postgres) == []


async def test_who_finds_no_connection_in_time_is_told(url: str) -> None:
    async with opened(url, pool_size=1, timeout_s=1) as store:
        with locked(url):
            calls = [store.touch_sessions({KEY: T0}, NOTHING) for _ in range(3)]
            results = await asyncio.gather(*calls, return_exceptions=True)
        assert {str(result) for result in results} == {"the store is busy; try again"}
        await store.touch_sessions({KEY: T0}, NOTHING)


async def test_a_sign_of_life_waits_for_nobody(url: str) -> None:
    """Those that have much to do, or wait for others, aren't taken for dead."""
    async with opened(url, pool_size=1) as store:
        await store.add_node(NODE, T0, "http://n")
        with locked(url):
            busy = [asyncio.create_task(store.touch_sessions({KEY: T0}, NOTHING)) for _ in range(3)]
            await asyncio.sleep(0)
            assert await store.heartbeat(NODE, T0 + dt.timedelta(seconds=1))
            assert not any(task.done() for task in busy)
        await asyncio.gather(*busy)


async def test_a_writer_that_sleeps_loses_its_turn(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connections, "_IDLE_IN_TRANSACTION_MS", 200)
    is_at_it, may_go_on = threading.Event(), threading.Event()

    def work(db: Db) -> None:
        db.rows("add_agent", project=PROJECT, agent=AGENT, now="t")
        is_at_it.set()
        may_go_on.wait()
        db.rows("find_agent", project=PROJECT, agent=AGENT)

    async with opened(url) as sleeper, opened(url) as other:
        sleeping = asyncio.create_task(sleeper._engine.write(work))
        await asyncio.to_thread(is_at_it.wait)
        await other.heartbeat(NODE, T0)
        record, is_new = await other.add_version(new())
        assert (record.version, is_new) == ("1", True)
        may_go_on.set()
        with pytest.raises(UnavailableError):
            await sleeping


async def test_a_deadlock_with_somebody_else_is_tried_again(
    postgres: PostgresServer, url: str
) -> None:
    tries = []
    has_one, has_two = threading.Event(), threading.Event()

    def work(db: Db) -> None:
        tries.append(1)
        db.rows("heartbeat", node="one", at="t")
        has_one.set()
        db.rows("heartbeat", node="two", at="t")

    def interfere() -> None:
        with psycopg.connect(url) as connection:
            # The other one is to look for the deadlock, and so to be its victim.
            connection.execute("set deadlock_timeout = '60s'")
            connection.execute("update nodes set heartbeat_at = 'x' where node = 'two'")
            has_two.set()
            has_one.wait()
            connection.execute("update nodes set heartbeat_at = 'x' where node = 'one'")

    async with opened(url) as store:
        for node in ("one", "two"):
            await store.add_node(NodeId(node), T0, "http://n")
        interfering = asyncio.create_task(asyncio.to_thread(interfere))
        await asyncio.to_thread(has_two.wait)
        await store._engine.write(work)
        await interfering
        assert len(tries) == 2
        rows = postgres.execute("select distinct heartbeat_at from nodes", url)
    assert rows == [("t",)]


# What it can't keep


async def test_what_no_text_can_hold(url: str) -> None:
    async with opened(url) as store:
        record, _ = await store.add_version(new("a\0b\ud800"))
        assert record.description == "a\ufffdb?"
        failed = await store.finish_version(record, error="tool said \0")
        assert failed is not None
        assert failed.error == "tool said \ufffd"
        with pytest.raises(InvalidRequestError, match=r"U\+0000"):
            await store.find_agent(PROJECT, AgentName("a\0"))


async def test_a_database_that_takes_no_changes(postgres: PostgresServer, url: str) -> None:
    async with opened(url):
        pass
    read_only = url.replace("options=", "options=-cdefault_transaction_read_only%3Don%20")
    async with opened(read_only) as store:
        assert await store.find_agent(PROJECT, AGENT) is None
        for call in (store.heartbeat(NODE, T0), store.add_version(new())):
            with pytest.raises(UnavailableError, match="takes no changes"):
                await call


# Without the extra


def run_without_driver(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", f"import sys; sys.modules['psycopg'] = None\n{code}"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip


def test_without_the_driver_everything_else_works_and_the_error_says_what_to_install() -> None:
    done = run_without_driver(
        "import asyncio, pathlib, trunkline.platform.up\n"
        "from trunkline.store.opening import StorePlace\n"
        "from trunkline.store.settings import StoreSettings\n"
        "place = StorePlace(StoreSettings(url='postgresql://u:s3cret@h/d'), pathlib.Path('/'))\n"
        "asyncio.run(place.open())\n"
    )
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].endswith("pip install 'trunkline[postgres]'")
    assert says_no_secret(done.stderr)


def test_the_driver_is_loaded_when_it_is_asked_for() -> None:
    done = run_without_driver(
        "del sys.modules['psycopg']\n"
        "import trunkline.platform.up\n"
        "assert 'psycopg' not in sys.modules\n"
    )
    assert done.returncode == 0, done.stderr


async def test_the_url_may_be_in_a_file(url: str, tmp_path: Path) -> None:
    file = tmp_path / "url"
    file.write_text(f"{url}\n")
    place = StorePlace(StoreSettings(url_file=file), tmp_path)
    assert (place.file, place.is_shared) == (None, True)
    store = await place.open()
    await store.ping()
    await store.aclose()
