"""Extracting the zip of an agent's code, which anybody may have made.

Nothing a zip says about itself is believed: names are checked before anything is written,
sizes are counted while extracting, and files are created new, following no link.
"""

import os
import re
import shutil
import stat
import struct
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Final

from trunkline.manifest.errors import InvalidCodePackageError

MAX_TOTAL_BYTES: Final = 1024**3
MAX_ENTRIES: Final = 20_000
MAX_PATH_BYTES: Final = 1024
MAX_NAME_BYTES: Final = 255

_COPY_BYTES: Final = 256 * 1024
_SYMLINK_HINT: Final = "is a link; put the file itself into the zip"
_DRIVE = re.compile(r"[A-Za-z]:")
# APPNOTE 4.3.16: the end of central directory record, and what may stand before it (4.3.15).
_END: Final = struct.Struct("<4s4H2LH")
_END_SIGNATURE: Final = b"PK\x05\x06"
_ZIP64_LOCATOR_SIGNATURE: Final = b"PK\x06\x07"
_ZIP64_LOCATOR_BYTES: Final = 20
_MAX_COMMENT_BYTES: Final = 65_535
#: What one entry takes in the directory: the fixed part, its name, and a little extra data.
_DIRECTORY_BYTES_PER_ENTRY: Final = 46 + 512


@dataclass(frozen=True, slots=True, kw_only=True)
class UnpackLimits:
    """How much a zip may hold."""

    max_total_bytes: int = MAX_TOTAL_BYTES
    """Of all its files together, uncompressed. A gibibyte is far above any agent's code."""
    max_entries: int = MAX_ENTRIES
    """Files and folders. Each costs an inode, and a large dependency tree has some thousands."""


@dataclass(frozen=True, slots=True)
class Unpacked:
    """What was extracted."""

    files: tuple[str, ...]
    """Paths within the folder, with ``/`` between folders, in the zip's order."""
    total_bytes: int


@dataclass(frozen=True, slots=True)
class _Entry:
    info: zipfile.ZipInfo
    path: str
    is_folder: bool


def unpack_package(
    source: Path | IO[bytes], destination: Path, limits: UnpackLimits | None = None
) -> Unpacked:
    """Extract a zip of an agent's code.

    Files get mode 0644, or 0755 if they were executable; nothing else of an entry's
    attributes counts. If the zip is refused, ``destination`` is left empty. Blocks until
    done: call it in a thread.

    Args:
        source: The zip: its path, or a file open for reading that can seek.
        destination: An empty folder that nobody else writes to. It is made if missing.
        limits: How much the zip may hold.

    Raises:
        InvalidCodePackageError: If the zip is broken or unsafe, naming the entry at fault.
        FileExistsError: If ``destination`` isn't empty.
    """
    limits = limits or UnpackLimits()
    destination.mkdir(parents=True, exist_ok=True)
    if any(destination.iterdir()):
        raise FileExistsError(f"{destination} isn't empty")
    if isinstance(source, Path):
        with source.open("rb") as file:
            return _unpack(file, destination, limits)
    return _unpack(source, destination, limits)


def check_package(source: Path, limits: UnpackLimits | None = None) -> None:
    """Check all that can be checked of a zip without extracting it.

    Sizes are believed here, and counted when it is extracted. Blocks: call it in a thread.

    Raises:
        InvalidCodePackageError: If the zip is broken or unsafe, naming the entry at fault.
    """
    limits = limits or UnpackLimits()
    with source.open("rb") as file:
        _check_directory_size(file, limits)
        with _broken_zips_translated(None), zipfile.ZipFile(file) as archive:
            _checked(archive.infolist(), limits)


def _unpack(file: IO[bytes], destination: Path, limits: UnpackLimits) -> Unpacked:
    try:
        _check_directory_size(file, limits)
        with _broken_zips_translated(None), zipfile.ZipFile(file) as archive:
            entries = _checked(archive.infolist(), limits)
            return _extract(archive, entries, destination, limits)
    except BaseException:
        for left in destination.iterdir():
            if left.is_dir() and not left.is_symlink():
                shutil.rmtree(left)
            else:
                left.unlink()
        raise


def _check_directory_size(file: IO[bytes], limits: UnpackLimits) -> None:
    """Refuse a directory of millions of entries before :mod:`zipfile` reads it into memory."""
    size = file.seek(0, os.SEEK_END)
    tail_bytes = min(size, _END.size + _MAX_COMMENT_BYTES + _ZIP64_LOCATOR_BYTES)
    file.seek(size - tail_bytes)
    tail = file.read(tail_bytes)
    file.seek(0)
    # zipfile looks for the record in this order, too: at the very end, then anywhere.
    at = len(tail) - _END.size
    if at < 0 or tail[at : at + 4] != _END_SIGNATURE or tail[-2:] != b"\0\0":
        at = tail.rfind(_END_SIGNATURE)
    if at < 0 or len(tail) - at < _END.size:
        raise InvalidCodePackageError("the code is not a zip file, or its end is missing")
    locator = at - _ZIP64_LOCATOR_BYTES
    if locator >= 0 and tail[locator : locator + 4] == _ZIP64_LOCATOR_SIGNATURE:
        raise InvalidCodePackageError("the zip is of the zip64 kind, for which it is too small")
    _, _, _, _, count, directory_bytes, _, _ = _END.unpack_from(tail, at)
    allowed_bytes = limits.max_entries * _DIRECTORY_BYTES_PER_ENTRY
    if count > limits.max_entries or directory_bytes > allowed_bytes:
        raise _too_many(limits)


def _checked(infos: Iterable[zipfile.ZipInfo], limits: UnpackLimits) -> list[_Entry]:
    """Check every name before the first byte is written."""
    entries: dict[str, _Entry] = {}
    announced = 0
    for info in infos:
        if len(entries) >= limits.max_entries:
            raise _too_many(limits)
        entry = _entry(info)
        announced += info.file_size
        if announced > limits.max_total_bytes:
            raise _too_large(info, limits)
        if entry.path in entries:
            raise _refusal(info, "is in the zip twice")
        entries[entry.path] = entry
    for entry in entries.values():
        parent = entry.path
        while parent := parent.rpartition("/")[0]:
            if parent in entries and not entries[parent].is_folder:
                raise _refusal(entry.info, f'lies in "{parent}", which is a file')
    return list(entries.values())


def _entry(info: zipfile.ZipInfo) -> _Entry:
    # zipfile cuts a name at its first NUL; the name as it stands in the zip is this one.
    name = info.orig_filename
    if fault := entry_name_fault(name):
        raise _refusal(info, fault)
    kind = stat.S_IFMT(info.external_attr >> 16)
    is_folder = name.endswith("/")
    if kind == stat.S_IFLNK:
        raise _refusal(info, _SYMLINK_HINT)
    if kind not in (0, stat.S_IFDIR if is_folder else stat.S_IFREG):
        raise _refusal(info, "is neither a file nor a folder")
    if info.flag_bits & 0x1:
        raise _refusal(info, "is encrypted")
    if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise _refusal(info, "is compressed by a method other than deflate")
    return _Entry(info, name.rstrip("/"), is_folder)


def entry_name_fault(name: str) -> str | None:
    """Tell what is wrong with the path of a file in a zip."""
    if not name or not name.isprintable() or "\\" in name:
        return "has a name with characters that aren't allowed"
    if name.startswith("/") or _DRIVE.match(name):
        return "has an absolute path"
    parts = name.removesuffix("/").split("/")
    if ".." in parts:
        return 'has ".." in its path'
    if "" in parts or "." in parts:
        return 'has "." or nothing between two slashes of its path'
    longest = max(len(part.encode()) for part in parts)
    if longest > MAX_NAME_BYTES or len(name.encode()) > MAX_PATH_BYTES:
        return f"has a path over {MAX_PATH_BYTES} bytes, or a name over {MAX_NAME_BYTES}"
    return None


def _extract(
    archive: zipfile.ZipFile, entries: Iterable[_Entry], destination: Path, limits: UnpackLimits
) -> Unpacked:
    total = 0
    files: list[str] = []
    for entry in entries:
        target = destination / entry.path
        if entry.is_folder:
            target.mkdir(parents=True, exist_ok=True)
            continue
        target.parent.mkdir(parents=True, exist_ok=True)
        with _broken_zips_translated(entry.info), _create(entry, target) as output:
            with archive.open(entry.info) as packed:
                while chunk := packed.read(_COPY_BYTES):
                    total += len(chunk)
                    if total > limits.max_total_bytes:
                        raise _too_large(entry.info, limits)
                    output.write(chunk)
        files.append(entry.path)
    return Unpacked(tuple(files), total)


def _create(entry: _Entry, target: Path) -> IO[bytes]:
    mode = 0o755 if (entry.info.external_attr >> 16) & 0o111 else 0o644
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
    try:
        descriptor = os.open(target, flags, mode)
    except FileExistsError as exc:
        # Where the file system ignores case, names that differ can be one file.
        raise _refusal(entry.info, "has the name of another entry but for its case") from exc
    # The mode above goes through the umask. An agent may run as another user.
    os.fchmod(descriptor, mode)
    return os.fdopen(descriptor, "wb")


@contextmanager
def _broken_zips_translated(info: zipfile.ZipInfo | None) -> Iterator[None]:
    try:
        yield
    except InvalidCodePackageError:
        raise
    except (zipfile.BadZipFile, zlib.error, EOFError, struct.error) as exc:
        raise _broken(info, exc) from exc
    # What zipfile raises for headers that make no sense: bad offsets, unknown versions.
    except (NotImplementedError, RuntimeError, ValueError, OverflowError) as exc:
        raise _broken(info, exc) from exc


def _broken(info: zipfile.ZipInfo | None, exc: Exception) -> InvalidCodePackageError:
    if info is None:
        return InvalidCodePackageError(f"the code is not a zip file that can be read: {exc}")
    return _refusal(info, f"is broken: {exc}")


def _refusal(info: zipfile.ZipInfo, fault: str) -> InvalidCodePackageError:
    name = ascii(info.orig_filename)[1:-1][:200]
    return InvalidCodePackageError(f'"{name}" in the zip {fault}', entry=name)


def _too_large(info: zipfile.ZipInfo, limits: UnpackLimits) -> InvalidCodePackageError:
    limit = limits.max_total_bytes
    return _refusal(info, f"takes the files over {limit} bytes, the limit for all together")


def _too_many(limits: UnpackLimits) -> InvalidCodePackageError:
    return InvalidCodePackageError(
        f"the zip has more than {limits.max_entries} entries; leave out what the agent "
        "doesn't need with .agentignore"
    )
