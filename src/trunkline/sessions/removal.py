"""Removes what agents left, however deep it is and whatever changes meanwhile."""

import contextlib
import errno
import os
import secrets
import stat
from collections import deque

#: Enough to know a directory by, and to change its permissions.
_HOLD = getattr(os, "O_PATH", os.O_RDONLY) | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
#: Directories that are to be read, and no links to them.
_READ = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
#: A descriptor is open for each level; what is deeper is moved up first.
_MAX_OPEN_LEVELS = 32
#: How often a directory may be found filled again before it is left as it is.
_TRIES = 16


def remove_tree(directory: int, name: bytes) -> None:
    """Remove a file, or a directory with all that is in it. Nothing there is fine.

    Links are removed, never followed: every step is a single name in a directory that is open.

    Args:
        directory: A descriptor of the directory it is in.
        name: Its name there.

    Raises:
        OSError: If it can't be removed, or is filled as fast as it is emptied (``ENOTEMPTY``).
    """
    names = deque([name])
    while names:
        _remove(directory, names.popleft(), names)


def _remove(directory: int, name: bytes, moved_up: deque[bytes]) -> None:
    for _ in range(_TRIES):
        if not _unlink(directory, name):
            _empty(directory, name, _Higher(directory, moved_up), 0)
            with contextlib.suppress(FileNotFoundError, NotADirectoryError):
                if not _rmdir(directory, name):
                    continue
        return
    raise OSError(errno.ENOTEMPTY, os.strerror(errno.ENOTEMPTY))


class _Higher:
    """Where directories that are too deep are moved to, and which were."""

    def __init__(self, directory: int, moved_up: deque[bytes]) -> None:
        self._directory = directory
        self._moved_up = moved_up

    def take(self, directory: int, name: bytes) -> None:
        as_name = f".removed-{secrets.token_hex(8)}".encode()
        with contextlib.suppress(FileNotFoundError):
            os.rename(name, as_name, src_dir_fd=directory, dst_dir_fd=self._directory)
            self._moved_up.append(as_name)


def _empty(directory: int, name: bytes, higher: _Higher, level: int) -> None:
    try:
        inside = _open_for_removal(directory, name)
    except (FileNotFoundError, NotADirectoryError):
        return
    try:
        with os.scandir(inside) as entries:
            names = [os.fsencode(entry.name) for entry in entries]
        for each in names:
            if _unlink(inside, each):
                continue
            if level == _MAX_OPEN_LEVELS:
                higher.take(inside, each)
                continue
            _empty(inside, each, higher, level + 1)
            with contextlib.suppress(FileNotFoundError, NotADirectoryError):
                _rmdir(inside, each)
    finally:
        os.close(inside)


def _open_for_removal(directory: int, name: bytes) -> int:
    """Open a directory, with the permissions it takes to empty it."""
    try:
        inside = os.open(name, _READ, dir_fd=directory)
    except PermissionError:
        held = os.open(name, _HOLD, dir_fd=directory)
        try:
            # fchmod() doesn't take such a descriptor; its name in /proc can't be swapped.
            os.chmod(f"/proc/self/fd/{held}", stat.S_IRWXU)
        except FileNotFoundError:
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES)) from None
        finally:
            os.close(held)
        return os.open(name, _READ, dir_fd=directory)
    if os.fstat(inside).st_mode & stat.S_IRWXU != stat.S_IRWXU:
        with contextlib.suppress(PermissionError):
            os.fchmod(inside, stat.S_IRWXU)
    return inside


def _unlink(directory: int, name: bytes) -> bool:
    """Unlink what is no directory; tell whether it is gone."""
    try:
        os.unlink(name, dir_fd=directory)
    except FileNotFoundError:
        return True
    except (IsADirectoryError, PermissionError):
        # POSIX has EPERM for a directory, Linux EISDIR.
        try:
            os.close(os.open(name, _HOLD, dir_fd=directory))
        except FileNotFoundError:
            return True
        except NotADirectoryError:
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES)) from None
        return False
    return True


def _rmdir(directory: int, name: bytes) -> bool:
    """Remove an empty directory; tell whether it was empty."""
    try:
        os.rmdir(name, dir_fd=directory)
    except OSError as exc:
        if exc.errno in (errno.ENOTEMPTY, errno.EEXIST):
            return False
        raise
    return True
