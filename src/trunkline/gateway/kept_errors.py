"""Errors of today, kept on disk: a platform that is restarted or reloaded goes on counting."""

import contextlib
import datetime as dt
import logging
import os
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Final

from trunkline.gateway.live import ErrorsToday
from trunkline.protocol.ids import AgentName, ProjectName

_log = logging.getLogger("trunkline.gateway")
#: A day's file has a line for each error; those beyond are counted, and not kept.
_MAX_BYTES: Final = 4 * 1024 * 1024


class KeptErrors(ErrorsToday):
    """A file for each day, of which the last is kept. Any process may append to it."""

    def __init__(self, folder: Path, today: Callable[[], dt.date] | None = None) -> None:
        """Go on counting where the last process stopped.

        Args:
            folder: Where the files are.
            today: Tells the day.
        """
        super().__init__(today)
        self._folder = folder
        folder.mkdir(exist_ok=True, mode=0o700)
        self._counts += self._kept()
        self._remove_others()

    def add(self, project: ProjectName, agent: AgentName) -> None:
        super().add(project, agent)
        try:
            descriptor = os.open(
                self._file, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600
            )
            try:
                if os.fstat(descriptor).st_size < _MAX_BYTES:
                    os.write(descriptor, f"{project}/{agent}\n".encode())
            finally:
                os.close(descriptor)
        except OSError as exc:
            # A full disk must not end what still works.
            _log.error("errors of today can't be kept: %s", exc)

    @property
    def _file(self) -> Path:
        return self._folder / self._day.isoformat()

    def _kept(self) -> Counter[tuple[ProjectName, AgentName]]:
        found: Counter[tuple[ProjectName, AgentName]] = Counter()
        with contextlib.suppress(OSError):
            for line in self._file.read_text("utf-8", errors="replace").splitlines():
                project, _, agent = line.partition("/")
                found[ProjectName(project), AgentName(agent)] += 1
        return found

    def _new_day(self) -> None:
        self._remove_others()

    def _remove_others(self) -> None:
        with contextlib.suppress(OSError):
            for path in self._folder.iterdir():
                if path != self._file:
                    path.unlink(missing_ok=True)
