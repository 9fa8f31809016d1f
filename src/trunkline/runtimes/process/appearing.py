"""Tells at once when something appears in a folder, where the kernel does (Linux's inotify)."""

import asyncio
import contextlib
import ctypes
import os
import struct
from collections.abc import Iterator
from pathlib import Path

_CREATED, _MOVED_HERE = 0x100, 0x80
_ONLY_FOLDERS, _ONCE = 0x0100_0000, 0x8000_0000
_MASK = _CREATED | _MOVED_HERE | _ONLY_FOLDERS | _ONCE
#: The watch, what happened, a cookie, and the length of the name that follows.
_EVENT = struct.Struct("iIII")
_READ_BYTES = 16 * 1024


class Appearances:
    """All folders that are watched, with one file of the kernel's for them. `close` it.

    Where there is no such thing, or no more of it, nobody is told: who waits looks from time to
    time as well.
    """

    def __init__(self) -> None:
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._loop = asyncio.get_running_loop()
        self._file = -1
        self._is_closed = False
        self._told: dict[int, Watch] = {}
        """By the kernel's number of a watch, while it is one."""

    @contextlib.contextmanager
    def at(self, folder: Path, news: asyncio.Event) -> Iterator["Watch"]:
        """Have a watch on a folder, which sets ``news``."""
        watch = Watch(self, folder, news)
        try:
            yield watch
        finally:
            self.end(watch)

    def begin(self, watch: "Watch") -> None:
        """Have it told of what appears next."""
        if watch.number >= 0 or self._is_closed or not self._open():
            return
        number = self._libc.inotify_add_watch(
            ctypes.c_int(self._file), os.fsencode(watch.folder), ctypes.c_uint32(_MASK)
        )
        if number >= 0:
            watch.number = number
            self._told[number] = watch

    def end(self, watch: "Watch") -> None:
        """Tell it no more. Twice is fine."""
        number, watch.number = watch.number, -1
        if self._told.pop(number, None) is not None and self._file >= 0:
            self._libc.inotify_rm_watch(ctypes.c_int(self._file), ctypes.c_int(number))

    def _open(self) -> bool:
        if self._file < 0 and hasattr(self._libc, "inotify_init1"):
            self._file = self._libc.inotify_init1(ctypes.c_int(os.O_NONBLOCK | os.O_CLOEXEC))
            if self._file >= 0:
                self._loop.add_reader(self._file, self._read)
        return self._file >= 0

    def _read(self) -> None:
        try:
            data = os.read(self._file, _READ_BYTES)
        except BlockingIOError:
            return
        at = 0
        while at < len(data):
            number, _, _, length = _EVENT.unpack_from(data, at)
            at += _EVENT.size + length
            # The kernel has forgotten it, and tells that, too.
            if (watch := self._told.pop(number, None)) is not None:
                watch.number = -1
                watch.news.set()

    def close(self) -> None:
        """Tell nobody any more. Twice is fine."""
        self._is_closed = True
        if self._file >= 0:
            self._loop.remove_reader(self._file)
            os.close(self._file)
            self._file = -1
        self._told.clear()


class Watch:
    """A watch on one folder."""

    def __init__(self, all_of_them: Appearances, folder: Path, news: asyncio.Event) -> None:
        self._all = all_of_them
        self.folder = folder
        self.news = news
        self.number = -1

    def begin(self) -> None:
        """Be told once of the next thing that appears there."""
        self._all.begin(self)
