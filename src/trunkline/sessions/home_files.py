"""A session's files, whoever else changes them meanwhile: nothing outside its home is touched.

A path is walked one component at a time, each opened relative to the one before and never
through a symbolic link. So it doesn't matter what the agent swaps for a link while that
happens: what is reached lies beneath the directory that was opened first. All of it blocks:
call it in a thread.
"""

import contextlib
import errno
import heapq
import os
import stat
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import quote_from_bytes, unquote_to_bytes

from trunkline.protocol.errors import (
    ConflictError,
    FileMissingError,
    InvalidRequestError,
    PathOutsideHomeError,
    UnavailableError,
)
from trunkline.sessions.removal import remove_tree
from trunkline.store.paging import Page, PageOf

_MAX_PATH_BYTES: Final = 4096
_MAX_NAME_BYTES: Final = 255
_FOLDER: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
#: A FIFO is opened without waiting for somebody to write to it.
_FILE: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_FOLDER_MODE: Final = 0o755
_FILE_MODE: Final = 0o644
#: What of a name its cursor has as it is.
_PLAIN: Final = " !\"#$&'()*+,:;<=>?@[\\]^`{|}"


@dataclass(frozen=True, slots=True, kw_only=True)
class FileEntry:
    """A file or folder.

    Attributes:
        path: From the home, with ``/`` between folders; ``.`` is the home itself.
        cursor: What a page of a list may begin after: the name, exactly, with what isn't plain
            text as ``%XX``.
        size: Bytes; 0 for what isn't a regular file.
        mode: Permission bits.
        modified_at: Whole Unix seconds.
    """

    path: str
    cursor: str
    size: int
    is_folder: bool
    mode: int
    modified_at: int

    @property
    def name(self) -> str:
        """The last part of the path."""
        return self.path.rpartition("/")[2]


def parse_path(path: str) -> tuple[str, ...]:
    """Return a path's components; none for the home itself. ``/`` at the front is the home.

    Raises:
        PathOutsideHomeError: If ``..`` leads out of it.
        InvalidRequestError: If nothing can be at the path.
    """
    if "\0" in path:
        raise InvalidRequestError("the path has a NUL in it", param="path")
    parts: list[str] = []
    # No link is ever followed, so `..` may be worked out without looking.
    for part in path.split("/"):
        if part == "..":
            if not parts:
                raise PathOutsideHomeError(
                    f"the path {path[:200]!r} leads out of the session's home"
                )
            parts.pop()
        elif part not in ("", "."):
            parts.append(part)
    try:
        sizes = [len(part.encode()) for part in parts]
    except UnicodeEncodeError:
        raise InvalidRequestError("the path isn't text", param="path") from None
    if sum(sizes) + len(sizes) > _MAX_PATH_BYTES or max(sizes, default=0) > _MAX_NAME_BYTES:
        raise InvalidRequestError(
            f"the path is too long: {_MAX_NAME_BYTES} bytes between two slashes, "
            f"{_MAX_PATH_BYTES} in all",
            param="path",
        )
    return tuple(parts)


def parse_file_path(path: str) -> tuple[str, ...]:
    """Return the components of a path that a file can be put at.

    Raises:
        InvalidRequestError: If it is the home, or says that it is a folder; or as for
            :func:`parse_path`.
    """
    parts = parse_path(path)
    _refuse_home(parts)
    if path.endswith(("/", "/.", "/..")):
        raise InvalidRequestError(
            f"the path {path[:200]!r} ends with a slash, as a folder's does; a file is put here",
            param="path",
        )
    return parts


class HomeFiles:
    """The files beneath one home. A home that isn't there yet is empty."""

    def __init__(self, home: Path) -> None:
        self._home = home

    def stat(self, path: str) -> FileEntry:
        """Return what is at a path.

        Raises:
            FileMissingError: If nothing is.
            InvalidRequestError: As for :func:`parse_path`.
        """
        parts = parse_path(path)
        with self._parent_of(parts) as parent:
            status = _stat_at(parent, parts)
            return _entry(parts or (".",), status, os.fsencode(parts[-1] if parts else "."))

    def list(self, path: str, page: Page) -> PageOf[FileEntry]:
        """Return a part of what is in a folder, by the bytes of the names.

        However much is in it, no more than a page of it is kept. ``after`` and ``before`` are
        cursors; what they name need not be there any more.

        Raises:
            FileMissingError: If there is none at the path.
            ConflictError: If what is there is no folder.
            InvalidRequestError: As for :func:`parse_path`.
        """
        parts = parse_path(path)
        if not parts and not self._home.is_dir():
            return PageOf([], has_more=False)
        found = []
        with self._folder(parts) as folder:
            with os.scandir(folder) as items:
                names, has_more = _choose((os.fsencode(item.name) for item in items), page)
            for name in names:
                # One may be gone by now.
                with contextlib.suppress(FileNotFoundError):
                    status = os.stat(name, dir_fd=folder, follow_symlinks=False)
                    found.append(_entry((*parts, _shown(name)), status, name))
        return PageOf(found, has_more)

    def open(self, path: str) -> tuple[int, int]:
        """Open a file for reading; return its descriptor, which is the caller's, and its size.

        Raises:
            FileMissingError: If there is none at the path.
            ConflictError: If what is there is no regular file.
            InvalidRequestError: As for :func:`parse_path`.
        """
        parts = parse_path(path)
        _refuse_home(parts)
        with self._parent_of(parts) as parent:
            status = _stat_at(parent, parts)
            if stat.S_ISREG(status.st_mode):
                with explained(parts):
                    descriptor = os.open(parts[-1], _FILE, dir_fd=parent)
                # It may be another one by now.
                status = os.fstat(descriptor)
                if stat.S_ISREG(status.st_mode):
                    return descriptor, status.st_size
                os.close(descriptor)
        if stat.S_ISLNK(status.st_mode):
            raise _through_link(parts)
        raise ConflictError(f"{'/'.join(parts)} is no regular file")

    def put(self, path: str, source: Path) -> None:
        """Move a file to a path, in one step, over what is there; folders are made as needed.

        Raises:
            ConflictError: If a folder is there, or a file where a folder should be.
            InvalidRequestError: If the path ends with a slash, or as for :func:`parse_path`.
        """
        parts = parse_file_path(path)
        with self._folder(parts[:-1], is_made=True) as parent:
            source.chmod(_FILE_MODE)
            owner = self._home.stat()
            if owner.st_uid != os.geteuid():
                # The agent's user is another one.
                os.chown(source, owner.st_uid, owner.st_gid)
            with explained(parts):
                # A link at the path is replaced and not followed.
                os.rename(source, parts[-1], dst_dir_fd=parent)

    def make_folder(self, path: str) -> None:
        """Make a folder and those above it; one that is there is fine.

        Raises:
            ConflictError: If something else is at the path.
            InvalidRequestError: As for :func:`parse_path`.
        """
        with self._folder(parse_path(path), is_made=True):
            pass

    def delete(self, path: str, *, is_recursive: bool) -> None:
        """Remove a file, or a folder; a link is removed and not followed.

        Raises:
            FileMissingError: If nothing is at the path.
            ConflictError: If a folder has something in it and the call isn't recursive.
            InvalidRequestError: If it is the home itself, or as for :func:`parse_path`.
        """
        parts = parse_path(path)
        _refuse_home(parts)
        with self._parent_of(parts) as parent, explained(parts):
            if not stat.S_ISDIR(_stat_at(parent, parts).st_mode):
                os.unlink(parts[-1], dir_fd=parent)
            elif is_recursive:
                remove_tree(parent, os.fsencode(parts[-1]))
            else:
                os.rmdir(parts[-1], dir_fd=parent)

    @contextmanager
    def _parent_of(self, parts: tuple[str, ...]) -> Iterator[int]:
        with self._folder(parts[:-1]) as folder:
            yield folder

    @contextmanager
    def _folder(self, parts: tuple[str, ...], *, is_made: bool = False) -> Iterator[int]:
        with explained(()):
            folder = os.open(self._home, _FOLDER)
        owner = os.fstat(folder)
        try:
            for count, part in enumerate(parts, 1):
                with explained(parts[:count]):
                    if is_made:
                        with contextlib.suppress(FileExistsError):
                            os.mkdir(part, _FOLDER_MODE, dir_fd=folder)
                            _give_to(owner, folder, part)
                    inner = _enter(folder, part)
                os.close(folder)
                folder = inner
            yield folder
        finally:
            os.close(folder)


def _give_to(owner: os.stat_result, folder: int, part: str) -> None:
    if owner.st_uid != os.geteuid():
        os.chown(part, owner.st_uid, owner.st_gid, dir_fd=folder, follow_symlinks=False)


def _enter(folder: int, part: str) -> int:
    try:
        return os.open(part, _FOLDER, dir_fd=folder)
    except NotADirectoryError:
        # Linux says so of a link, too, when a folder is asked for.
        if stat.S_ISLNK(os.stat(part, dir_fd=folder, follow_symlinks=False).st_mode):
            raise OSError(errno.ELOOP, os.strerror(errno.ELOOP)) from None
        raise


def _choose(names: Iterable[bytes], page: Page) -> tuple[list[bytes], bool]:
    first = None if page.after is None else unquote_to_bytes(page.after)
    last = None if page.before is None else unquote_to_bytes(page.before)
    # A page that only has an end is the one right in front of that end.
    is_from_end = last is not None and first is None
    if not page.is_ascending:
        first, last = last, first
    wanted = (
        name for name in names if (first is None or name > first) and (last is None or name < last)
    )
    if page.limit is None:
        return sorted(wanted, reverse=not page.is_ascending), False
    pick = heapq.nsmallest if page.is_ascending != is_from_end else heapq.nlargest
    chosen = pick(page.limit + 1, wanted)
    has_more = len(chosen) > page.limit
    del chosen[page.limit :]
    if is_from_end:
        chosen.reverse()
    return chosen, has_more


def _stat_at(parent: int, parts: tuple[str, ...]) -> os.stat_result:
    if not parts:
        return os.fstat(parent)
    with explained(parts):
        return os.stat(parts[-1], dir_fd=parent, follow_symlinks=False)


def _entry(parts: tuple[str, ...], status: os.stat_result, name: bytes) -> FileEntry:
    return FileEntry(
        path="/".join(parts),
        cursor=quote_from_bytes(name, safe=_PLAIN),
        size=status.st_size if stat.S_ISREG(status.st_mode) else 0,
        is_folder=stat.S_ISDIR(status.st_mode),
        mode=stat.S_IMODE(status.st_mode),
        modified_at=int(status.st_mtime),
    )


def _shown(name: bytes) -> str:
    # A name need not be text; it is shown as nearly as text can.
    return name.decode("utf-8", "replace")


def _refuse_home(parts: tuple[str, ...]) -> None:
    if not parts:
        raise InvalidRequestError("the path is the session's home itself", param="path")


def _through_link(parts: tuple[str, ...]) -> PathOutsideHomeError:
    return PathOutsideHomeError(
        f"{'/'.join(parts)} is a symbolic link, and links aren't followed here"
    )


@contextmanager
def explained(parts: tuple[str, ...]) -> Iterator[None]:
    """Turn what the system says about a path into an error for the caller."""
    what = "/".join(parts) or "the session's home"
    try:
        yield
    except FileNotFoundError:
        raise FileMissingError(f"nothing is at {what}") from None
    except OSError as exc:
        match exc.errno:
            case errno.ELOOP:
                raise _through_link(parts) from None
            case errno.ENOTDIR:
                raise ConflictError(f"{what} is no folder") from None
            case errno.EISDIR | errno.ENOTEMPTY | errno.EEXIST:
                raise ConflictError(
                    f"{what} is a folder with something in it; recursive=true removes it whole"
                    if exc.errno in (errno.ENOTEMPTY, errno.EEXIST)
                    else f"{what} is a folder"
                ) from None
            case errno.ENXIO | errno.ENODEV:
                raise ConflictError(f"{what} is no regular file") from None
            case errno.ENAMETOOLONG:
                raise InvalidRequestError(f"{what} is too long a path", param="path") from None
            case errno.ENOSPC | errno.EDQUOT | errno.EMFILE | errno.ENFILE:
                raise UnavailableError(
                    f"the platform can't take this at the moment: {exc.strerror}"
                ) from exc
            case errno.EACCES | errno.EPERM | errno.EBUSY:
                raise ConflictError(f"{what} can't be used: {exc.strerror}") from None
            case _:
                raise
