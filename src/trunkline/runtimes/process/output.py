"""Reads what a process prints, from the first byte to the last."""

import asyncio
import os
import time
from collections.abc import Callable, Sequence

_TAIL_BYTES = 2048
MAX_LINE_CHARS = 200
CHUNK_BYTES = 64 * 1024
#: Taking what one pipe brings may take up this share of the event loop, as soon as it is ahead of
#: that by more than `_FREE_S`.
_SHARE = 0.1
_FREE_S = 0.0005


class OutputPipe:
    """A pipe a process prints to.

    Nothing is buffered here. Each turn of the event loop reads at most one chunk and hands it
    on; when that has taken more than its share of the loop, in one reading or in many small ones,
    nothing is read for a while. So a flood of output leaves the loop to others, what comes
    meanwhile is read at once, and a process that prints faster than its output is taken waits in
    its own ``write``.
    """

    def __init__(
        self,
        write: Callable[[bytes], None],
        end: Callable[[], None] | None = None,
        *,
        chunk_bytes: int = CHUNK_BYTES,
        read_fd: int | None = None,
    ) -> None:
        """Open the pipe.

        Args:
            write: Called with what was read.
            end: Called once, when there is no more.
            chunk_bytes: How much to read at a time.
            read_fd: The end to read from, if the process has the other one already.
        """
        self.ended = asyncio.Event()
        """Set when the pipe was read to its end, or given up."""
        self._hand_on = write
        self._end = end
        self._chunk_bytes = chunk_bytes
        self._tail = b""
        self._pause: asyncio.TimerHandle | None = None
        #: By how much reading is ahead of its share, and when that was so.
        self._ahead_s, self._read_at = 0.0, 0.0
        self._loop = asyncio.get_running_loop()
        self._read_fd, self._write_fd = os.pipe() if read_fd is None else (read_fd, -1)
        os.set_blocking(self._read_fd, False)
        self._loop.add_reader(self._read_fd, self._read)

    @classmethod
    def ended_one(cls) -> "OutputPipe":
        """Return a pipe that has ended."""
        pipe = cls(lambda _data: None)
        pipe.close()
        return pipe

    @property
    def write_fd(self) -> int:
        """The end for the process. Give it on, then call `close_write_end`."""
        return self._write_fd

    def close_write_end(self) -> None:
        """Drop our copy of the process's end; as long as it is open, the pipe never ends."""
        if self._write_fd >= 0:
            os.close(self._write_fd)
            self._write_fd = -1

    @property
    def read_fd(self) -> int | None:
        """The end that is read from; None once the pipe has ended."""
        return None if self.ended.is_set() else self._read_fd

    def hold(self) -> None:
        """Read nothing for now."""
        if not self.ended.is_set():
            self._end_pause()
            self._loop.remove_reader(self._read_fd)

    def go_on(self) -> None:
        """Read again."""
        if not self.ended.is_set():
            self._loop.add_reader(self._read_fd, self._read)

    def let_go(self) -> None:
        """Close this end without a word: another process reads the pipe from here on."""
        if not self.ended.is_set():
            self.hold()
            os.close(self._read_fd)
            self.ended.set()

    def last_line(self) -> str:
        """Return the end of the last line that isn't blank, or an empty text."""
        lines = reversed(self._tail.decode(errors="replace").splitlines())
        last = next((text for line in lines if (text := line.strip())), "")
        return last[-MAX_LINE_CHARS:]

    def close(self) -> None:
        """End the stream, whoever still holds the other end. Twice is fine."""
        self.close_write_end()
        if self.ended.is_set():
            return
        self._end_pause()
        self._loop.remove_reader(self._read_fd)
        os.close(self._read_fd)
        self.ended.set()
        if self._end is not None:
            self._end()

    def _read(self) -> None:
        begun = time.monotonic()
        try:
            data = os.read(self._read_fd, self._chunk_bytes)
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            data = b""
        if not data:
            self.close()
            return
        self._tail = (self._tail + data[-_TAIL_BYTES:])[-_TAIL_BYTES:]
        self._hand_on(data)
        now = time.monotonic()
        # What passed between two readings was the others'.
        paid_s = (begun - self._read_at) * _SHARE / (1 - _SHARE)
        self._ahead_s = max(self._ahead_s - paid_s, 0.0) + now - begun
        self._read_at = now
        if self._ahead_s > _FREE_S and not self.ended.is_set():
            self._loop.remove_reader(self._read_fd)
            self._pause = self._loop.call_later(self._ahead_s * (1 / _SHARE - 1), self.go_on)

    def _end_pause(self) -> None:
        if self._pause is not None:
            self._pause.cancel()
            self._pause = None


async def drained(pipes: Sequence[OutputPipe], timeout_s: float) -> bool:
    """Read pipes to their ends; return False if that took too long, and they were given up."""
    try:
        async with asyncio.timeout(timeout_s):
            for pipe in pipes:
                await pipe.ended.wait()
    except TimeoutError:
        for pipe in pipes:
            pipe.close()
        return False
    return True
