"""A PostgreSQL server for tests: Debian's own, in a directory and on a socket of its own.

Each test process starts one when its first test asks for it, and ends it after its last. It dies
with the process that started it, too, however that ends.
"""

import os
import pwd
import secrets
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from urllib.parse import quote

import psycopg

USER = "trunkline"
#: With what a URL has to encode, so that no test passes by never encoding it.
PASSWORD = "s3cret/with@odd:characters#?"
_START_TIMEOUT_S = 60
_SPEED = ("fsync=off", "full_page_writes=off", "synchronous_commit=off")
_MISSING = (
    "no PostgreSQL server is on this machine, and the tests of the store start one: install it "
    "(Debian: apt-get install postgresql), or put its initdb and postgres on PATH"
)


@cache
def programs() -> Path:
    """Return the folder of the newest server's programs.

    Raises:
        AssertionError: If there is none: the store must not go untested for want of it.
    """
    folders = sorted(
        Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: -float(path.parent.name)
    )
    if found := shutil.which("initdb"):
        folders.append(Path(found).resolve().parent)
    for folder in folders:
        if (folder / "initdb").exists() and (folder / "postgres").exists():
            return folder
    raise AssertionError(_MISSING)


class PostgresServer:
    """One running server."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._data = folder / "data"
        self._log = folder / "server.log"
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def _as_user(self) -> list[str]:
        # PostgreSQL refuses to run as root; its package brings a user for it.
        death = ["setpriv", "--pdeathsig", "KILL"]
        if os.getuid() != 0:
            return death
        user = pwd.getpwnam("postgres")
        ids = ["--reuid", str(user.pw_uid), "--regid", str(user.pw_gid), "--init-groups"]
        return [*death, *ids]

    def create(self) -> None:
        """Make the server's files."""
        if os.getuid() == 0:
            user = pwd.getpwnam("postgres")
            os.chown(self.folder, user.pw_uid, user.pw_gid)
        secret = self.folder / "password"
        secret.write_text(PASSWORD)
        secret.chmod(0o644)
        done = subprocess.run(
            [*self._as_user(), programs() / "initdb", "-D", self._data, "-U", USER, "--no-sync",
             "-E", "UTF8", "--locale=C.UTF-8", "-A", "scram-sha-256", "--pwfile", secret],
            capture_output=True, text=True, check=False, cwd=self.folder,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr

    def start(self) -> None:
        """Start it and wait until it answers."""
        settings = [f"--{setting}" for setting in _SPEED]
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [*self._as_user(), programs() / "postgres", "-D", self._data, "-k", self.folder,
                 "-h", "", *settings],
                stdout=log, stderr=log, cwd=self.folder,
            )  # fmt: skip
        deadline = time.monotonic() + _START_TIMEOUT_S
        while not self._answers():
            text = self._log.read_text(errors="replace")
            assert self._process.poll() is None, text
            assert time.monotonic() < deadline, text
            time.sleep(0.01)

    def _answers(self) -> bool:
        try:
            psycopg.connect(self.url("postgres")).close()
        except psycopg.OperationalError:
            return False
        return True

    def stop(self) -> None:
        """End it, cutting whoever is connected, and wait. Twice is fine."""
        if self._process is not None:
            self._process.send_signal(signal.SIGINT)
            self._process.wait(_START_TIMEOUT_S)
            self._process = None

    def url(self, database: str, *, password: str = PASSWORD) -> str:
        """Return a URL of one of its databases."""
        return (
            f"postgresql://{USER}:{quote(password, safe='')}@/{database}"
            f"?host={quote(str(self.folder), safe='')}"
        )

    @property
    def socket_path(self) -> str:
        """Where it listens."""
        return str(self.folder / ".s.PGSQL.5432")

    def execute(self, statement: str, url: str = "") -> list[tuple[object, ...]]:
        """Run one statement, in the place of a URL; return its rows."""
        with psycopg.connect(url or self.url("postgres"), autocommit=True) as connection:
            cursor = connection.execute(statement.encode())
            return cursor.fetchall() if cursor.description else []

    @contextmanager
    def database(self) -> Iterator[str]:
        """Have a place for tables meanwhile that nobody else sees; yields its URL.

        It is a schema: making a database takes a hundred times as long.
        """
        name = f"test_{secrets.token_hex(6)}"
        self.execute(f"create schema {name}")
        try:
            yield f"{self.url('postgres')}&options=-csearch_path%3D{name}"
        finally:
            self.execute(f"drop schema {name} cascade")


@contextmanager
def running_server() -> Iterator[PostgresServer]:
    """Run a server of one's own."""
    programs()
    # Not below a test's own directory: a socket's path may have 107 bytes, and the server's user
    # must reach it.
    folder = Path(tempfile.mkdtemp(prefix="trunkline-postgres-"))
    folder.chmod(0o755)
    server = PostgresServer(folder)
    try:
        server.create()
        server.start()
        yield server
    finally:
        server.stop()
        shutil.rmtree(folder)
