"""A session's log: what its agent printed and what became of it, bounded, on disk.

Lines are kept in the format Kubernetes' container runtimes use (``TIME STREAM F|P TEXT``;
``P`` marks a line that goes on in the next one), so familiar tools read them. A log is a row
of segment files, each named by the offset of its first byte; the oldest goes when the log is
over its limit. Offsets only grow, so a reader can leave and come back to where it was.
"""

import asyncio
import logging
import os
import re
import time
import weakref
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from functools import partial
from pathlib import Path

from trunkline.protocol.times import rfc3339_of
from trunkline.runtimes.interface import LogStream
from trunkline.sessions.connection_log import ConnectionLog

_log = logging.getLogger("trunkline.sessions.log")

MAX_LINE_BYTES = 64 * 1024
_SEGMENTS = 16
#: The least characters a value has that is looked for in what agents print.
_LEAST_HIDDEN = 6
_READ_BYTES = 128 * 1024
_ENTRIES_AT_ONCE = 500
_SUFFIX = ".log"
_LINE_PARTS = 4
#: Events people want to see between the agent's own lines.
_SHOWN_IN_CONSOLE = frozenset({"Ready", "NotReady", "Exited", "LogTrimmed"})


class Channel(StrEnum):
    """The two logs of a session."""

    CONSOLE = "console"
    """What the agent printed."""
    SYSTEM = "system"
    """What happened to it: starts, exits, connections."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One line of a log.

    Attributes:
        timestamp: When it was read from the agent, RFC 3339 in UTC.
        stream: ``stdout``, ``stderr``, ``status`` or ``system``.
        message: The text, without its newline.
        end: The offset just after it, to resume from.
    """

    timestamp: str
    stream: str
    message: str
    end: int


class SegmentedFile:
    """An append-only file of bounded size, made of segments. Whole lines only."""

    def __init__(self, directory: Path, name: str, max_bytes: int) -> None:
        self._directory = directory
        self._name = name
        self._segment_bytes = max(max_bytes // _SEGMENTS, MAX_LINE_BYTES)
        self._max_bytes = max_bytes
        self._descriptor: int | None = None
        self._starts: list[int] = []
        self.end = 0
        self.refresh()

    def refresh(self) -> None:
        """Look at what is there, in case another process has written."""
        self.close()
        prefix = f"{self._name}-"
        self._starts = sorted(
            int(name.removeprefix(prefix).removesuffix(_SUFFIX))
            for name in _names_in(self._directory)
            if name.startswith(prefix) and name.endswith(_SUFFIX)
        )
        self.end = 0
        if self._starts:
            self.end = self._starts[-1] + self._path(self._starts[-1]).stat().st_size

    @property
    def start(self) -> int:
        """The offset of the oldest byte that is kept."""
        return self._starts[0] if self._starts else 0

    def _path(self, start: int) -> Path:
        return self._directory / f"{self._name}-{start:020d}{_SUFFIX}"

    def append(self, data: bytes) -> int:
        """Write whole lines; return how many bytes of the oldest had to go."""
        if not self._starts or self.end - self._starts[-1] >= self._segment_bytes:
            self._open_segment()
        elif self._descriptor is None:
            self._open(self._starts[-1])
        assert self._descriptor is not None
        self._write(self._descriptor, data)
        dropped = 0
        while len(self._starts) > 1 and self.end - self._starts[0] > self._max_bytes:
            oldest = self._starts.pop(0)
            self._path(oldest).unlink(missing_ok=True)
            dropped += self._starts[0] - oldest
        return dropped

    def _write(self, descriptor: int, data: bytes) -> None:
        written = 0
        try:
            while written < len(data):
                written += os.write(descriptor, data[written:])
        except OSError:
            # Half a line would shift every offset after it.
            os.ftruncate(descriptor, self.end - self._starts[-1])
            raise
        self.end += len(data)

    def _open_segment(self) -> None:
        self.close()
        self._open(self.end)
        self._starts.append(self.end)

    def _open(self, start: int) -> None:
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC
        self._descriptor = os.open(self._path(start), flags, 0o600)

    def read(self, position: int, size: int = _READ_BYTES) -> tuple[int, bytes]:
        """Return up to ``size`` bytes of whole lines and the offset they really start at.

        That is ``position``, or the next line's start if it isn't one, or the oldest offset
        kept if that is later.
        """
        position = max(position, self.start)
        if position >= self.end:
            return position, b""
        index = max(i for i, start in enumerate(self._starts) if start <= position)
        with self._path(self._starts[index]).open("rb") as file:
            offset = position - self._starts[index]
            if offset:
                file.seek(offset - 1)
                position += len(file.readline()) - 1
            data = file.read(size)
        return position, data[: data.rfind(b"\n") + 1]

    async def seek_tail(self, lines: int) -> int:
        """Return the offset from which ``lines`` lines are left.

        Others run between the blocks it reads.
        """
        position, wanted = self.end, lines + 1
        while position > self.start:
            begin = max(position - _READ_BYTES, self._segment_of(position - 1))
            block = self._read_block(begin, position - begin)
            newlines = block.count(b"\n")
            if newlines >= wanted:
                cut = len(block)
                for _ in range(wanted):
                    cut = block.rfind(b"\n", 0, cut)
                return begin + cut + 1
            wanted -= newlines
            position = begin
            await asyncio.sleep(0)
        return self.start

    def _segment_of(self, position: int) -> int:
        return max((start for start in self._starts if start <= position), default=self.start)

    def _read_block(self, begin: int, size: int) -> bytes:
        start = self._segment_of(begin)
        with self._path(start).open("rb") as file:
            file.seek(begin - start)
            return file.read(size)

    def close(self) -> None:
        """Let go of the file. Writing opens it again."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None


class SessionLog:
    """The log of one session, written by its agent's pipes and read by any number of readers."""

    def __init__(self, directory: Path, max_bytes: int, connections_max_bytes: int) -> None:
        directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        self.connections = ConnectionLog(directory, connections_max_bytes)
        self._directory = directory
        self._max_bytes = max_bytes
        self._files = {
            channel: SegmentedFile(directory, channel.value, max_bytes) for channel in Channel
        }
        self._unfinished: dict[LogStream, bytes] = {}
        self._changed: dict[Channel, asyncio.Event] = {c: asyncio.Event() for c in Channel}
        self._trim_told = False
        #: Called when the oldest lines go for the first time.
        self.on_trim: Callable[[], None] = lambda: None
        self._is_discarded = False
        #: What is kept out of the console, by the names of what it is the value of.
        self.hidden: Mapping[str, str] = {}
        self._hidden: re.Pattern[bytes] | None = None
        self._hidden_names: dict[bytes, str] = {}
        #: Takes events in this log's place.
        self.divert: Callable[[str, str], None] | None = None

    @property
    def unfinished(self) -> Mapping[LogStream, bytes]:
        """What came of each pipe's last line so far."""
        return self._unfinished

    def take_over(self, unfinished: Mapping[LogStream, bytes]) -> None:
        """Go on where another process of the platform ended."""
        self.refresh()
        self._unfinished = dict(unfinished)

    def discard(self) -> None:
        """Keep nothing from now on: the session is being deleted."""
        self._is_discarded = True
        self.close()
        for event in self._changed.values():
            event.set()

    @property
    def is_discarded(self) -> bool:
        """Whether the session is being deleted, so that nothing more will come."""
        return self._is_discarded

    def hide(self, values: Mapping[str, str]) -> None:
        """Write a variable's name wherever an agent prints its value, from now on.

        Values that are too short to be secrets stay: they are parts of everything.
        """
        self.hidden = dict(values)
        lines = {
            line.encode(): name
            for name, value in values.items()
            for line in value.splitlines()
            if len(line) >= _LEAST_HIDDEN
        }
        self._hidden_names = lines
        # The longest first: one may be a part of another.
        longest = sorted(lines, key=len, reverse=True)
        self._hidden = re.compile(b"|".join(map(re.escape, longest))) if longest else None

    def _without_hidden(self, line: bytes) -> bytes:
        if self._hidden is None:
            return line
        return self._hidden.sub(lambda found: f"[{self._hidden_names[found[0]]}]".encode(), line)

    def write(self, stream: LogStream, data: bytes) -> None:
        """Take bytes as the agent's pipe gave them."""
        begun = self._unfinished.pop(stream, b"")
        lines, newline, rest = data.rpartition(b"\n")
        lines, rest = (begun + lines, rest) if newline else (b"", begun + rest)
        if self._hidden is not None:
            # No pattern goes beyond a line.
            lines = self._without_hidden(lines)
            if len(rest) > MAX_LINE_BYTES:
                # It is written before its end has come.
                rest = self._without_hidden(rest)
        head = f"{_now()} {stream} ".encode()
        whole, piece = head + b"F ", head + b"P "
        out: list[bytes] = []
        if newline:
            out += _whole_lines(lines, whole, piece)
        while len(rest) > MAX_LINE_BYTES:
            out += piece, rest[:MAX_LINE_BYTES], b"\n"
            rest = rest[MAX_LINE_BYTES:]
        if rest:
            self._unfinished[stream] = rest
        if out:
            self._append(Channel.CONSOLE, b"".join(out))

    def close_stream(self, stream: LogStream) -> None:
        """Keep what a pipe left without a newline at its end."""
        if self._unfinished.get(stream):
            self.write(stream, b"\n")

    def event(self, reason: str, message: str) -> None:
        """Record something that happened to the session."""
        if self.divert is not None:
            self.divert(reason, message)
            return
        text = f"{reason}: {message}".replace("\n", " ").encode()[:MAX_LINE_BYTES]
        self._append(Channel.SYSTEM, f"{_now()} system F ".encode() + text + b"\n")
        if reason in _SHOWN_IN_CONSOLE:
            self._append(Channel.CONSOLE, f"{_now()} status F ".encode() + text + b"\n")

    def _append(self, channel: Channel, data: bytes) -> None:
        if self._is_discarded:
            return
        try:
            dropped = self._files[channel].append(data)
        except OSError as exc:
            # A full disk must not end the conversation; it is the operator's to hear of.
            _log.error("a session's log can't be written: %s", exc)
            return
        if dropped and not self._trim_told:
            self._trim_told = True
            self.on_trim()
            self.event(
                "LogTrimmed",
                f"the log is over log_max_bytes ({self._max_bytes}); the oldest lines go",
            )
        self._changed[channel].set()

    def refresh(self) -> None:
        """Look at what is there, in case another process of the platform has written.

        While this one writes it finds nothing new. A log whose directory another one removed is
        discarded.
        """
        if not self._directory.exists():
            self.discard()
        if not self._is_discarded:
            for file in self._files.values():
                file.refresh()

    async def tail(self, channel: Channel, lines: int) -> int:
        """Return the offset from which the last ``lines`` lines are read."""
        return await self._files[channel].seek_tail(lines)

    def read_end(self, channel: Channel) -> int:
        """Return the offset just after the last line there is."""
        return self._files[channel].end

    def read(self, channel: Channel, position: int) -> list[Entry]:
        """Return the next entries after an offset; an empty list at the end."""
        at, data = self._files[channel].read(position)
        return _parse(at, data)

    async def wait_changed(self, channel: Channel, position: int) -> None:
        """Wait until there is something to read after an offset."""
        while self._files[channel].end <= position and not self._is_discarded:
            self._changed[channel].clear()
            await self._changed[channel].wait()

    def close(self) -> None:
        """Let go of the files; writing opens them again."""
        for file in self._files.values():
            file.close()


class SessionLogs:
    """Hands out one :class:`SessionLog` per session, however many ask."""

    def __init__(
        self,
        sessions_dir: Path,
        max_bytes: int,
        connections_max_bytes: int,
        *,
        on_trim: Callable[[], None] = lambda: None,
    ) -> None:
        """Make one.

        Args:
            sessions_dir: Where sessions' directories are.
            max_bytes: How much of each log is kept.
            connections_max_bytes: How much is kept of how connections ended.
            on_trim: Called once for each log that has become too long.
        """
        self._on_trim = on_trim
        self._sessions_dir = sessions_dir
        self._max_bytes = max_bytes
        self._connections_max_bytes = connections_max_bytes
        self._diverted_to: Callable[[str, str, str], None] | None = None
        self._open: weakref.WeakValueDictionary[str, SessionLog] = weakref.WeakValueDictionary()

    def of(self, home: str) -> SessionLog:
        """Return the log of the session with that directory."""
        log = self._open.get(home)
        if log is None:
            directory = self._sessions_dir / home / "logs"
            log = SessionLog(directory, self._max_bytes, self._connections_max_bytes)
            log.on_trim = self._on_trim
            weakref.finalize(log, _close_files, list(log._files.values()))  # noqa: SLF001
            self._open[home] = log
            self._divert_one(home, log)
        return log

    def divert(self, takes: Callable[[str, str, str], None] | None) -> None:
        """Have somebody else take the events of all logs; None: nobody.

        Args:
            takes: Called with the session's directory, the event's reason and its message.
        """
        self._diverted_to = takes
        for home, log in self._open.items():
            self._divert_one(home, log)

    def _divert_one(self, home: str, log: SessionLog) -> None:
        log.divert = None if self._diverted_to is None else partial(self._diverted_to, home)

    def discard(self, home: str) -> None:
        """Keep nothing more for the session with that directory."""
        log = self._open.pop(home, None)
        if log is not None:
            log.discard()


def _names_in(directory: Path) -> list[str]:
    try:
        return os.listdir(directory)
    except FileNotFoundError:
        return []


def _close_files(files: list[SegmentedFile]) -> None:
    for file in files:
        file.close()


def _whole_lines(lines: bytes, whole: bytes, piece: bytes) -> list[bytes]:
    """Return lines as they are kept, each with what comes before it.

    Args:
        lines: The lines, without the last one's newline.
        whole: What comes before a line, or before its last piece.
        piece: What comes before a piece that isn't the last.
    """
    first = lines.find(b"\n")
    if max(first, len(lines) - first - 1) <= MAX_LINE_BYTES:
        # None can be too long, so all of them are done at once: a flood comes like that.
        return [whole, lines.replace(b"\n", b"\n" + whole), b"\n"]
    out: list[bytes] = []
    for line in lines.split(b"\n"):
        while len(line) > MAX_LINE_BYTES:
            out += piece, line[:MAX_LINE_BYTES], b"\n"
            line = line[MAX_LINE_BYTES:]
        out += whole, line, b"\n"
    return out


def _now() -> str:
    return rfc3339_of(time.time_ns())


def _parse(at: int, data: bytes) -> list[Entry]:
    entries: list[Entry] = []
    # A bounded number at a time: turning all of a block into text would hold up the loop.
    for line in data.split(b"\n", _ENTRIES_AT_ONCE)[:-1]:
        at += len(line) + 1
        parts = line.split(b" ", 3)
        # What isn't one of our lines (the disk was full, somebody edited it) is passed over.
        if len(parts) == _LINE_PARTS:
            timestamp, stream, _, text = (part.decode(errors="replace") for part in parts)
            entries.append(Entry(timestamp, stream, text, at))
    return entries
