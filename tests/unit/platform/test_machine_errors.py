"""What whoever starts a platform is told when the machine refuses it something."""

import errno
import os
import sqlite3
from pathlib import Path

import pytest

from trunkline.platform.machine_errors import in_words
from trunkline.platform.up import UpOptions, run_up
from trunkline.store.errors import StoreNotOpenError
from trunkline.store.sqlite.engine import open_sqlite

STATE = Path("/var/lib/trunkline")


def error(number: int, path: str | None = None) -> OSError:
    return OSError(number, os.strerror(number), path)


@pytest.mark.parametrize(
    ("problem", "words"),
    [
        (error(errno.EACCES, f"{STATE}/lock"), "Permission denied (/var/lib/trunkline/lock); give"),
        (error(errno.EACCES, "/var/lib"), "Permission denied (/var/lib); give this user"),
        (error(errno.EROFS, f"{STATE}"), "Read-only file system; name another directory"),
        (error(errno.ENOSPC), "No space left on device; free some space"),
        (error(errno.EMFILE, "/any/thing"), "Too many open files); raise the hard limit"),
    ],
)
def test_what_the_machine_lacks_is_told_with_what_to_do(problem: OSError, words: str) -> None:
    assert words in (in_words(problem, STATE) or "")


@pytest.mark.parametrize(
    "problem",
    [error(errno.EACCES, "/etc/shadow"), error(errno.ECONNRESET), error(errno.ENOENT)],
)
def test_what_is_about_something_else_keeps_its_traceback(problem: OSError) -> None:
    assert in_words(problem, STATE) is None


@pytest.mark.parametrize("where", ["", "below"])
def test_a_file_in_the_place_of_the_state_directory(
    where: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "file"
    file.touch()
    state_dir = file / where
    assert run_up(UpOptions(host="127.0.0.1", port=0, state_dir=state_dir)) == 1
    told = capsys.readouterr().err
    assert told.startswith(f"error: can't keep state in {state_dir}: ")
    assert "it has to be a directory; name another directory with --state-dir" in told


async def test_a_store_that_cant_be_written_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_db: sqlite3.Connection) -> None:
        raise sqlite3.OperationalError("database or disk is full")

    monkeypatch.setattr("trunkline.store.sqlite.engine.migrate", full)
    with pytest.raises(StoreNotOpenError, match=r"trunkline.db: database or disk is full"):
        await open_sqlite(tmp_path / "trunkline.db")
