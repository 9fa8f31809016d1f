"""A child process in a process group of its own.

`subprocess` starts it, on whichever event loop: uvloop's own way leaves the parent's inheritable
descriptors, and copies of the standard ones, open in the child.
"""

import asyncio
import contextlib
import os
import shutil
import signal
import subprocess
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Protocol

from trunkline.runtimes.interface import ExitStatus


@cache
def _dying_with_parent() -> tuple[str, ...]:
    """Return what to put in front of a command so that it ends if the platform is killed."""
    setpriv = shutil.which("setpriv")
    return (setpriv, "--pdeathsig", "KILL", "--") if setpriv else ()


def exit_status(returncode: int) -> ExitStatus:
    """Return what a return code in Python's form says."""
    return ExitStatus(signal=-returncode) if returncode < 0 else ExitStatus(code=returncode)


class Started(Protocol):
    """A process that somebody has started, and nobody has reaped yet."""

    @property
    def pid(self) -> int:
        """Its number."""

    def reap(self) -> int:
        """Take the end of a process that has ended; return Python's return code. Once only."""


class Spawn(Protocol):
    """Starts a process, in a session of its own and without input."""

    def __call__(
        self,
        command: Sequence[str],
        *,
        cwd: Path | str,
        env: Mapping[str, str],
        stdout: int,
        stderr: int,
    ) -> Started:
        """Start it.

        Raises:
            OSError: If it couldn't be started.
        """


class _Own:
    """A child of this process."""

    def __init__(self, process: "subprocess.Popen[bytes]") -> None:
        self._process = process
        self.pid = process.pid

    def reap(self) -> int:
        return self._process.wait()


def spawn_here(
    command: Sequence[str], *, cwd: Path | str, env: Mapping[str, str], stdout: int, stderr: int
) -> Started:
    """Start a process as a child of this one. Raises and returns as :class:`Spawn`."""
    return _Own(
        subprocess.Popen(  # noqa: S603 - no shell, and running commands is the job
            command,
            stdin=subprocess.DEVNULL,
            stdout=stdout,
            stderr=stderr,
            cwd=cwd,
            env=env,
            start_new_session=True,
        )
    )


def start_child(
    command: Sequence[str],
    *,
    cwd: Path | str,
    env: Mapping[str, str],
    stdout: int,
    stderr: int,
    spawn: Spawn = spawn_here,
) -> "Child":
    """Start a process that ends with whoever starts it, where ``setpriv`` is installed.

    Its children don't. The kernel does that when the *thread* that forked ends: call this in the
    event loop's thread only.

    Raises:
        OSError: If it couldn't be started.
    """
    words = (*_dying_with_parent(), *command)
    return Child(spawn(words, cwd=cwd, env=env, stdout=stdout, stderr=stderr))


class Child:
    """A process of ours, and its process group."""

    def __init__(self, started: Started) -> None:
        self._started = started
        self._returncode: int | None = None
        self._is_ours = True
        self._may_reap = asyncio.Event()
        self._may_reap.set()
        self.pid = started.pid

    def hold(self) -> None:
        """Notice its end, and do nothing about it for now."""
        self._may_reap.clear()

    def go_on(self) -> None:
        """Do again what is due at its end."""
        self._may_reap.set()

    def let_go(self) -> None:
        """Leave the process alone for ever: another process of the platform looks after it."""
        self._is_ours = False

    def signal_group(self, number: signal.Signals) -> None:
        """Send a signal to the process and what it started; nothing happens once it ended."""
        # Until it is reaped, nobody else can have its number.
        if self._returncode is None and self._is_ours:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self.pid, number)

    async def wait(self) -> int:
        """Wait for the end, kill what is left of the group, and return Python's return code.

        For one caller. Cancelling it kills the process too.
        """
        try:
            await self._wait_for_end()
            await self._may_reap.wait()
        finally:
            if self._is_ours:
                self.signal_group(signal.SIGKILL)
                # The signal ended it if nothing else did, so this doesn't take long.
                self._returncode = self._started.reap()
        assert self._returncode is not None, "nobody frees a process that was let go"
        return self._returncode

    async def _wait_for_end(self) -> None:
        try:
            descriptor = os.pidfd_open(self.pid)
        except (AttributeError, OSError):
            # Not on Linux, or not allowed.
            await asyncio.to_thread(os.waitid, os.P_PID, self.pid, os.WEXITED | os.WNOWAIT)
            return
        loop = asyncio.get_running_loop()
        ended = asyncio.Event()
        loop.add_reader(descriptor, ended.set)
        try:
            await ended.wait()
        finally:
            loop.remove_reader(descriptor)
            os.close(descriptor)
