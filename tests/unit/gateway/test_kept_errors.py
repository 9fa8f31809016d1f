"""Errors of today outlive the process that counted them, and not the day."""

import datetime as dt
import stat
from pathlib import Path

from trunkline.gateway.kept_errors import KeptErrors
from trunkline.protocol.ids import AgentName, ProjectName

DEFAULT, ECHO, OTHER = ProjectName("default"), AgentName("echo"), AgentName("other")
DAY = dt.date(2030, 1, 1)


def test_the_next_process_goes_on_counting(tmp_path: Path) -> None:
    folder = tmp_path / "errors"
    first = KeptErrors(folder, lambda: DAY)
    first.add(DEFAULT, ECHO)
    # A reload: both are there for a while.
    second = KeptErrors(folder, lambda: DAY)
    first.add(DEFAULT, ECHO)
    second.add(DEFAULT, OTHER)
    assert second.all() == {(DEFAULT, ECHO): 1, (DEFAULT, OTHER): 1}
    third = KeptErrors(folder, lambda: DAY)
    assert third.all() == {(DEFAULT, ECHO): 2, (DEFAULT, OTHER): 1}
    (file,) = folder.iterdir()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_a_new_day_begins_with_none_and_yesterdays_file_goes(tmp_path: Path) -> None:
    days = [DAY]
    errors = KeptErrors(tmp_path, lambda: days[-1])
    errors.add(DEFAULT, ECHO)
    days.append(DAY + dt.timedelta(days=1))
    assert errors.all() == {}
    assert list(tmp_path.iterdir()) == []
    errors.add(DEFAULT, OTHER)
    assert [path.name for path in tmp_path.iterdir()] == ["2030-01-02"]
    later = KeptErrors(tmp_path, lambda: DAY + dt.timedelta(days=2))
    assert later.all() == {}
    assert list(tmp_path.iterdir()) == []


def test_a_flood_is_counted_and_its_file_bounded(tmp_path: Path) -> None:
    (tmp_path / DAY.isoformat()).write_bytes(b"default/echo\n" * 400_000)
    errors = KeptErrors(tmp_path, lambda: DAY)
    size = (tmp_path / DAY.isoformat()).stat().st_size
    errors.add(DEFAULT, ECHO)
    assert errors.all() == {(DEFAULT, ECHO): 400_001}
    assert (tmp_path / DAY.isoformat()).stat().st_size == size


def test_a_disk_that_takes_nothing_ends_nothing(tmp_path: Path) -> None:
    errors = KeptErrors(tmp_path / "errors", lambda: DAY)
    (tmp_path / "errors").rmdir()
    errors.add(DEFAULT, ECHO)
    assert errors.all() == {(DEFAULT, ECHO): 1}
