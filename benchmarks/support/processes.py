"""Child processes of a benchmark: start, talk to, account for, and surely end."""

import json
import os
import resource
import signal
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Self

_STOP_S = 5.0
_NS_PER_TICK = 1_000_000_000 // os.sysconf("SC_CLK_TCK")


class ChildError(Exception):
    """A process of the benchmark ended, or said something unexpected."""


def raise_file_limit() -> None:
    """Let this process and its children open as many files as the system allows."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def exit_on_sigterm() -> None:
    """Turn SIGTERM into SystemExit, so that what was started is ended."""
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))


class Child:
    """One process, in a session of its own so that Ctrl-C reaches only the benchmark."""

    def __init__(self, name: str, command: list[str], folder: Path) -> None:
        self.name = name
        self._log_path = folder / f"{name}.log"
        with self._log_path.open("wb") as log:
            self._process = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, text=True,
                start_new_session=True,
            )  # fmt: skip

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def has_ended(self) -> bool:
        return self._process.poll() is not None

    def failure(self, what: str) -> ChildError:
        """Return an error with the end of what the process said on standard error."""
        said = self._log_path.read_text(errors="replace")[-2000:]
        return ChildError(f"{self.name}: {what}\n{said}".rstrip())

    def read_line(self) -> str:
        """Return the next line of its standard output."""
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise self.failure("ended early")
        return line

    def read(self) -> Any:
        """Return the next line of its standard output, which is JSON."""
        return json.loads(self.read_line())

    def tell(self, line: str) -> None:
        """Send a line of text, such as what isn't for the list of processes."""
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(line + "\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            raise self.failure("ended early") from None

    def ask(self, **request: Any) -> Any:
        """Send one line of JSON and return the answer."""
        self.tell(json.dumps(request))
        answer = self.read()
        if "error" in answer:
            raise self.failure(answer["error"])
        return answer

    def stop(self) -> None:
        """SIGTERM, then SIGKILL, to it and all it started."""
        self._kill(signal.SIGTERM)
        try:
            self._process.wait(_STOP_S)
        except subprocess.TimeoutExpired:
            self._kill(signal.SIGKILL)
            self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                pipe.close()

    def _kill(self, number: int) -> None:
        if self._process.poll() is None:
            os.killpg(self.pid, number)

    def cpu_ns(self) -> int:
        """Return the CPU time it and its children have used so far, in all their threads."""
        return sum(_cpu_ns(pid) for pid in self._tree())

    def memory_bytes(self) -> int:
        """Return its and its children's memory, pages shared with others counted in part."""
        return sum(_memory_bytes(pid) for pid in self._tree())

    def resident_bytes(self) -> int:
        """Return its and its children's resident set size."""
        return sum(_status_kib(pid, "VmRSS:") * 1024 for pid in self._tree())

    def _tree(self) -> list[int]:
        children: dict[int, list[int]] = {}
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit() and (parent := _parent(entry)) is not None:
                children.setdefault(parent, []).append(int(entry.name))
        tree = [self.pid]
        for pid in tree:
            tree += children.get(pid, [])
        return tree


class Children(ExitStack):
    """Ends every process it started, the last one first."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self._folder = folder

    def __enter__(self) -> Self:
        return self

    def start(self, name: str, *command: str) -> Child:
        child = Child(name, list(command), self._folder)
        self.callback(child.stop)
        return child

    def start_python(self, name: str, module: str, *arguments: str) -> Child:
        return self.start(name, sys.executable, "-m", module, *arguments)


def memory_of(pid: int) -> int:
    """Return one process's memory in bytes, pages shared with others counted in part."""
    return _memory_bytes(pid)


def _stat_fields(folder: Path) -> list[str]:
    # The second field, the program's name, is in parentheses and may hold anything.
    return (folder / "stat").read_text().rpartition(")")[2].split()


def _parent(folder: Path) -> int | None:
    try:
        return int(_stat_fields(folder)[1])
    except (OSError, IndexError):
        return None


def _cpu_ns(pid: int) -> int:
    folder = Path("/proc") / str(pid)
    try:
        # /proc/PID/schedstat is the first thread's alone.
        return sum(
            int((task / "schedstat").read_text().split()[0]) for task in (folder / "task").iterdir()
        )
    except OSError:
        # No CONFIG_SCHED_INFO: clock ticks, which is coarse but the same for everybody.
        user, system = _stat_fields(folder)[11:13]
        return (int(user) + int(system)) * _NS_PER_TICK


def _memory_bytes(pid: int) -> int:
    try:
        return _field_kib(Path(f"/proc/{pid}/smaps_rollup"), "Pss:") * 1024
    except OSError:
        return _status_kib(pid, "VmRSS:") * 1024


def _status_kib(pid: int, field: str) -> int:
    return _field_kib(Path(f"/proc/{pid}/status"), field)


def _field_kib(file: Path, field: str) -> int:
    lines = file.read_text().splitlines()
    return next((int(line.split()[1]) for line in lines if line.startswith(field)), 0)
