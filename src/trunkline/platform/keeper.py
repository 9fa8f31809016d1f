"""The process that stays: it starts the platform's process, and every agent for it.

``trunkline up`` is this process. The platform's own process is its child, and so are the agents,
which is why the platform's can be replaced by a newer one while agents and callers go on: see
:mod:`trunkline.platform.departure`. If the newer one dies before it has everything, the one before
is the platform's own again, and has another one take its place. The keeper loads next to nothing,
because its code is as old as its start. It ends with the platform's process, and before it does it
ends whatever that left behind; both end with it, because the kernel sees to it.
"""

import contextlib
import errno
import os
import selectors
import signal
import socket
import subprocess
import sys
from collections.abc import Sequence
from typing import Any

from trunkline.aio.passing import Passing, PassingError, close_all

_PASSED_ON = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
#: How long a process takes at most to end that was killed.
_KILLED_S = 5.0


def can_keep() -> bool:
    """Tell whether this system has what it takes: only Linux does."""
    return hasattr(os, "pidfd_open") and hasattr(socket, "MSG_CMSG_CLOEXEC")


class _Platform:
    """One process of the platform, and its end of the line to here."""

    def __init__(self, process: "subprocess.Popen[bytes]", line: Passing) -> None:
        self.process = process
        self.line = line


class Keeper:
    """Starts processes, keeps their ends for whoever asks, and ends what is left over."""

    def __init__(self, command: Sequence[str]) -> None:
        """Prepare; nothing is started yet.

        Args:
            command: What starts the platform's process. ``--keeper PID FD`` is added, and
                ``--replace FD`` for one that takes over from another.
        """
        self._command = tuple(command)
        self._platforms: list[_Platform] = []
        self._current: _Platform | None = None
        #: The one that the current one replaces, while it hasn't left everything to it.
        self._leaving: _Platform | None = None
        self._was_called_back = self._is_told_to_end = False
        #: Agents, until somebody has asked for their end, and who started them.
        self._agents: dict[int, tuple[subprocess.Popen[bytes], _Platform]] = {}
        self._selector = selectors.DefaultSelector()

    def run(self) -> int:
        """Start the platform and stay until it ends; return its exit code.

        If a signal ended it, the same signal ends this process.
        """
        reading, writing = socket.socketpair()
        for sock in (reading, writing):
            sock.setblocking(False)
        signal.set_wakeup_fd(writing.fileno(), warn_on_full_buffer=False)
        for number in (*_PASSED_ON, signal.SIGUSR2, signal.SIGCHLD):
            # What matters is that it isn't the default's: the number comes through the socket.
            # Who has us ignore a terminal's end (nohup) is obeyed.
            if number != signal.SIGHUP or signal.getsignal(number) != signal.SIG_IGN:
                signal.signal(number, lambda _number, _frame: None)
        self._selector.register(reading, selectors.EVENT_READ)
        self._current = self._start(())
        while (code := self._end_of_current()) is None:
            for key, _ in self._selector.select():
                if key.fileobj is reading:
                    self._take_signals(reading.recv(4096))
                else:
                    self._serve(key.data)
            self._bury()
        self._end_everything()
        if self._was_called_back and not self._is_told_to_end:
            # It ends in good order, and yet nobody has asked for that.
            code = code or 1
        if code < 0:
            with contextlib.suppress(OSError):
                # SIGKILL can't be set, and needn't.
                signal.signal(-code, signal.SIG_DFL)
            os.kill(os.getpid(), -code)
        return code

    def _end_of_current(self) -> int | None:
        """Return the exit code of the platform's process; None while there is one that serves."""
        assert self._current is not None
        code = self._current.process.poll()
        before = self._leaving
        if code in (None, 0) or before is None or before.process.poll() is not None:
            return code
        # What it had taken over the one before may give to another one.
        ended, self._current, self._leaving = self._current, before, None
        self._was_called_back = True
        self._hang_up(ended)
        self._platforms.remove(ended)
        for pid, (agent, starter) in list(self._agents.items()):
            if starter is ended:
                del self._agents[pid]
                _end(agent)
        return None

    def _await_end_of_current(self) -> None:
        """Wait for the current process to have ended, which its predecessor has killed.

        The system closes a process's connections a moment before it can be waited for.
        """
        assert self._current is not None
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._current.process.wait(_KILLED_S)

    def _take_signals(self, numbers: bytes) -> None:
        assert self._current is not None
        for number in numbers:
            if number in _PASSED_ON:
                self._is_told_to_end = True
                # Also to one that is about to take over, or is about to end.
                for platform in self._platforms:
                    platform.process.send_signal(signal.SIGTERM)
            elif number == signal.SIGUSR2:
                self._current.process.send_signal(number)

    def _start(self, replacing: Sequence[int]) -> _Platform:
        ours, theirs = socket.socketpair()
        with theirs:
            words = ["--keeper", str(os.getpid()), str(theirs.fileno())]
            for file in replacing:
                words += ["--replace", str(file)]
            process = subprocess.Popen(  # noqa: S603 - our own program
                (*self._command, *words),
                pass_fds=(theirs.fileno(), *replacing),
                # A Ctrl-C in the terminal comes to this process, which passes it on once.
                start_new_session=True,
            )
        platform = _Platform(process, Passing(ours))
        self._platforms.append(platform)
        self._selector.register(ours, selectors.EVENT_READ, platform)
        return platform

    def _serve(self, platform: _Platform) -> None:
        try:
            message, files = platform.line.receive()
        except PassingError:
            self._hang_up(platform)
            return
        try:
            answer = self._answer(platform, message, files)
        finally:
            close_all(files)
        with contextlib.suppress(PassingError):
            platform.line.send(answer)

    def _answer(
        self, platform: _Platform, message: dict[str, Any], files: list[int]
    ) -> dict[str, Any]:
        # Whoever asks may know of the current one's end before this process does.
        if message.get("do") == "replace" and platform is self._leaving:
            self._await_end_of_current()
        self._end_of_current()
        match message:
            case {"do": "spawn", "command": command, "cwd": cwd, "env": env} if len(files) == 2:
                return self._spawn(platform, command, cwd, env, files)
            case {"do": "reap", "pid": pid}:
                agent, _ = self._agents.pop(pid, (None, None))
                return {"returncode": None if agent is None else _end(agent)}
            case {"do": "list"}:
                return {"pids": list(self._agents)}
            case {"do": "replace"} if len(files) == 1 and platform is self._current:
                return {"pid": self._start(files).process.pid}
        return {"errno": self._hand_on(platform, message)}

    def _hand_on(self, platform: _Platform, message: dict[str, Any]) -> int | None:
        match message:
            case {"do": "step down", "pid": pid} if platform is self._current:
                return self._step_down(platform, pid)
            case {"do": "leave"} if platform is self._leaving:
                self._leaving = None
                return None
        return errno.ENOTSUP

    def _step_down(self, platform: _Platform, pid: int) -> int | None:
        for successor in self._platforms:
            if successor.process.pid == pid:
                self._current, self._leaving = successor, platform
                return None
        return errno.ESRCH

    def _spawn(
        self,
        starter: _Platform,
        command: list[str],
        cwd: str,
        env: dict[str, str],
        files: list[int],
    ) -> dict[str, Any]:
        stdout, stderr = files
        try:
            agent = subprocess.Popen(  # noqa: S603 - no shell, and running commands is the job
                command,
                stdin=subprocess.DEVNULL,
                stdout=stdout,
                stderr=stderr,
                cwd=cwd,
                env=env,
                start_new_session=True,
            )
        except OSError as exc:
            return {"errno": exc.errno, "file": exc.filename and str(exc.filename)}
        except ValueError:
            # Something in it can't be given to a process at all.
            return {"errno": errno.EINVAL}
        self._agents[agent.pid] = agent, starter
        return {"pid": agent.pid}

    def _bury(self) -> None:
        for platform in list(self._platforms):
            if platform is not self._current and platform.process.poll() is not None:
                self._hang_up(platform)
                self._platforms.remove(platform)

    def _hang_up(self, platform: _Platform) -> None:
        with contextlib.suppress(KeyError, ValueError):
            self._selector.unregister(platform.line)
        platform.line.close()

    def _end_everything(self) -> None:
        for platform in self._platforms:
            if platform.process.poll() is None:
                platform.process.kill()
                platform.process.wait()
        for agent, _ in self._agents.values():
            _end(agent)


def _end(agent: "subprocess.Popen[bytes]") -> int:
    # Until it is reaped nobody else can have its number.
    if agent.returncode is None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(agent.pid, signal.SIGKILL)
    return agent.wait()


def run(host: str, port: int, state_dir: str, *, workers: int | None = None) -> int:
    """Run the platform under a keeper; return its exit code."""
    command: tuple[str, ...] = (
        sys.executable, "-P", "-m", "trunkline.platform.process", host, str(port), state_dir,
    )  # fmt: skip
    if workers is not None:
        command += ("--workers", str(workers))
    if not can_keep():
        os.execv(command[0], command)  # noqa: S606 - our own program
    return Keeper(command).run()
