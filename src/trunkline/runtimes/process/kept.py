"""Starts agents as children of the process that stays when the platform's is replaced."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from trunkline.aio.passing import Passing, PassingError


class KeeperLine:
    """The line to :mod:`trunkline.platform.keeper`. Each request waits for its answer.

    That takes a millisecond or two, as starting a process from here would: the keeper has
    nothing else to do. For one thread.
    """

    def __init__(self, line: Passing) -> None:
        self._line = line

    def ask(self, message: Mapping[str, Any], files: Sequence[int] = ()) -> dict[str, Any]:
        """Ask the keeper to do something; return its answer.

        Raises:
            OSError: If it can't be done.
        """
        try:
            self._line.send(message, files)
            answer, _ = self._line.receive()
        except PassingError as exc:
            # It is gone, and the kernel is about to end this process.
            raise OSError("the platform's keeper doesn't answer") from exc
        if (number := answer.get("errno")) is not None:
            raise OSError(number, os.strerror(number), answer.get("file"))
        return answer

    def spawn(
        self,
        command: Sequence[str],
        *,
        cwd: Path | str,
        env: Mapping[str, str],
        stdout: int,
        stderr: int,
    ) -> "Kept":
        """Start a process in a session of its own.

        Raises:
            OSError: If it couldn't be started.
        """
        message = {"do": "spawn", "command": list(command), "cwd": str(cwd), "env": dict(env)}
        return Kept(self, self.ask(message, (stdout, stderr))["pid"])

    def adopt(self, pid: int) -> "Kept":
        """Return a process that the keeper started for another process of the platform."""
        return Kept(self, pid)


class Kept:
    """A child of the keeper's."""

    def __init__(self, line: KeeperLine, pid: int) -> None:
        self._line = line
        self.pid = pid

    def reap(self) -> int:
        """Take the end of a process that has ended; return Python's return code."""
        returncode = self._line.ask({"do": "reap", "pid": self.pid})["returncode"]
        if returncode is None:
            raise ChildProcessError(f"process {self.pid} isn't the keeper's")
        return int(returncode)
