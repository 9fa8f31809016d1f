"""Which user a session's agent is: one of its own, which no other session ever is.

A session's home belongs to its user, and that is how it is remembered.
"""

import errno
import fcntl
import os
import secrets
import stat
from pathlib import Path

#: Above what distributions, systemd and user namespaces give out.
FIRST_UID = 2_000_000_000
UID_COUNT = 100_000_000
_COUNTER = "next-user"
_OPEN_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


class Accounts:
    """Gives each home a user of its own. For root only."""

    def __init__(self, state_dir: Path, *, first: int, count: int) -> None:
        self._state_dir = state_dir
        self._first = first
        self._count = count

    def owner(self, home: Path) -> int | None:
        """Return the user a home belongs to; None: it has none yet, or isn't there."""
        try:
            owner = os.lstat(home).st_uid
        except OSError:
            return None
        return owner if self._is_ours(owner) else None

    def _is_ours(self, uid: int) -> bool:
        return self._first <= uid < self._first + self._count

    def own(self, home: Path) -> int:
        """Return the user a home belongs to, making it and all in it theirs if it has none yet.

        Nothing may run in the home meanwhile.
        """
        owner = self.owner(home)
        if owner is None:
            owner = self.next()
            self.give(home, owner)
        return owner

    def give(self, home: Path, uid: int) -> None:
        """Make a home that has no user, and all in it, a user's whose nothing is yet.

        Nothing may run in the home meanwhile.
        """
        folder = os.open(home, _OPEN_FOLDER)
        try:
            try:
                _give(folder, uid)
            except RecursionError:
                raise OSError(errno.ELOOP, "the folders in $HOME are nested too deep") from None
            # Last, so that an interrupted one is begun anew.
            os.fchown(folder, uid, uid)
        finally:
            os.close(folder)

    @property
    def range(self) -> tuple[int, int]:
        """The first of them, and how many there are."""
        return self._first, self._count

    def next(self) -> int:
        """Return a user that nobody is yet."""
        self._state_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC
        descriptor = os.open(self._state_dir / _COUNTER, flags, 0o600)
        with open(descriptor, "r+") as file:
            # Several platforms may share the directory.
            fcntl.flock(file, fcntl.LOCK_EX)
            # Two that don't share it should not give out the same numbers, either.
            number = int(file.read() or secrets.randbelow(self._count))
            file.seek(0)
            file.truncate()
            file.write(str((number + 1) % self._count))
        return self._first + number


def _give(folder: int, uid: int) -> None:
    """Give all that is in a folder to a user, following no link."""
    with os.scandir(folder) as entries:
        for entry in entries:
            os.chown(entry.name, uid, uid, dir_fd=folder, follow_symlinks=False)
            if stat.S_ISDIR(entry.stat(follow_symlinks=False).st_mode):
                inner = os.open(entry.name, _OPEN_FOLDER, dir_fd=folder)
                try:
                    _give(inner, uid)
                finally:
                    os.close(inner)
