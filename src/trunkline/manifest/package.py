"""Making the zip of an agent's folder.

The same files give the same bytes: sorted by name, with one date, two modes and nothing
about the machine in it, so that an unchanged agent can be told by its sha256.
"""

import hashlib
import os
import stat
import tempfile
import zipfile
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import IO, Final

import pathspec

from trunkline.manifest.errors import ManifestError, PackageError
from trunkline.manifest.unpack import MAX_ENTRIES, MAX_TOTAL_BYTES, entry_name_fault

IGNORE_FILE: Final = ".agentignore"
MAX_IGNORE_FILE_BYTES: Final = 1024 * 1024
MAX_PACKAGE_BYTES: Final = 250 * 1024 * 1024

#: Left out unless ``.agentignore`` takes them back in with ``!``.
DEFAULT_EXCLUDES: Final = (
    "/agent.yaml",
    "/agent.yml",
    "/azure.yaml",
    f"/{IGNORE_FILE}",
    "Dockerfile",
    ".dockerignore",
    ".env.*",
    "!.env.example",
    ".venv/",
    "venv/",
    "node_modules/",
    "__pycache__/",
    "*.pyc",
    ".mypy_cache/",
    ".ruff_cache/",
    ".pytest_cache/",
    ".DS_Store",
    "*.trk",
)
#: Left out whatever ``.agentignore`` says: they hold secrets, or a whole history.
ALWAYS_EXCLUDED: Final = (".env", ".azure", ".trunkline", ".git")

_DATE: Final = (1980, 1, 1, 0, 0, 0)
_COPY_BYTES: Final = 256 * 1024
_IN_MEMORY_BYTES: Final = 4 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class PackagedFile:
    """One file of a package."""

    path: str
    """Within the agent's folder, with ``/`` between folders."""
    size_bytes: int


class CodePackage:
    """The zip of an agent's folder, in a temporary file. Close it, or use it in ``with``."""

    def __init__(
        self, file: IO[bytes], sha256: str, size_bytes: int, files: tuple[PackagedFile, ...]
    ) -> None:
        self.file = file
        """Open for reading, at its start."""
        self.sha256 = sha256
        """Of the zip, in lower-case hex."""
        self.size_bytes = size_bytes
        """Of the zip."""
        self.files = files
        """Sorted by path; the sizes are uncompressed."""

    def close(self) -> None:
        """Give the temporary file back. Twice is fine."""
        self.file.close()

    def __enter__(self) -> "CodePackage":
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


@dataclass(frozen=True, slots=True)
class _Source:
    path: str
    file: Path
    size_bytes: int
    is_executable: bool


def package_folder(
    folder: Path, *, required: Iterable[str] = (), max_bytes: int = MAX_PACKAGE_BYTES
) -> CodePackage:
    """Make the zip of an agent's folder.

    Links are followed within the folder. Blocks until done.

    Args:
        folder: The agent's folder.
        required: Files that must be in the zip, such as the entry point.
        max_bytes: How large the zip may be.

    Raises:
        ManifestError: If ``.agentignore`` can't be used.
        PackageError: If the folder can't be packaged: a link out of it, a file that isn't
            one, too much of it, or a required file missing or left out.
    """
    sources = sorted(_Walk(folder).sources(), key=lambda source: source.path)
    _check(sources, required)
    output: IO[bytes] = tempfile.SpooledTemporaryFile(max_size=_IN_MEMORY_BYTES)  # noqa: SIM115
    try:
        _write(sources, output, max_bytes)
        size = output.tell()
        output.seek(0)
        digest = sha256_of(output)
        output.seek(0)
    except BaseException:
        output.close()
        raise
    files = tuple(PackagedFile(source.path, source.size_bytes) for source in sources)
    return CodePackage(output, digest, size, files)


def stamp_folder(folder: Path) -> tuple[tuple[str, int, int], ...]:
    """Return what changes when a file changes that would be packaged: paths, sizes, times.

    Raises:
        ManifestError: If ``.agentignore`` can't be used.
        PackageError: If the folder can't be packaged.
    """
    found = []
    for source in _Walk(folder).sources():
        # It may be gone by now: then it isn't there, which is a change as well.
        with suppress(FileNotFoundError):
            found.append((source.path, source.size_bytes, source.file.stat().st_mtime_ns))
    return tuple(sorted(found))


def sha256_of(file: IO[bytes]) -> str:
    """Return the sha256 of what is left to read of a file, in lower-case hex."""
    digest = hashlib.sha256()
    while chunk := file.read(_COPY_BYTES):
        digest.update(chunk)
    return digest.hexdigest()


def _check(sources: list[_Source], required: Iterable[str]) -> None:
    paths = {source.path for source in sources}
    for path in required:
        if path not in paths:
            raise PackageError(f'"{path}" isn\'t in the package; is it left out by {IGNORE_FILE}?')
    if not sources:
        raise PackageError("the folder has no files to package")
    total = sum(source.size_bytes for source in sources)
    if total > MAX_TOTAL_BYTES:
        limit = _megabytes(MAX_TOTAL_BYTES)
        raise _too_large(f"the files take {_megabytes(total)}, and {limit} are allowed", sources)


def _write(sources: list[_Source], output: IO[bytes], max_bytes: int) -> None:
    with zipfile.ZipFile(output, "w", zipfile.ZIP_DEFLATED, allowZip64=False) as archive:
        for source in sources:
            info = zipfile.ZipInfo(source.path, _DATE)
            info.create_system = 3  # Unix, wherever this runs: it says how to read the mode
            info.compress_type = zipfile.ZIP_DEFLATED
            mode = 0o755 if source.is_executable else 0o644
            info.external_attr = (stat.S_IFREG | mode) << 16
            with _open(source) as file, archive.open(info, "w") as packed:
                while chunk := file.read(_COPY_BYTES):
                    packed.write(chunk)
                    _check_written(output.tell(), max_bytes, sources)
    _check_written(output.tell(), max_bytes, sources)


def _open(source: _Source) -> IO[bytes]:
    try:
        return source.file.open("rb")
    except OSError as exc:
        raise PackageError(f'"{source.path}" can\'t be read: {exc.strerror}') from exc


def _check_written(written: int, max_bytes: int, sources: list[_Source]) -> None:
    if written > max_bytes:
        raise _too_large(f"the zip is larger than the {_megabytes(max_bytes)} allowed", sources)


def _too_large(what: str, sources: list[_Source]) -> PackageError:
    largest = sorted(sources, key=lambda source: (-source.size_bytes, source.path))[:5]
    named = ", ".join(f"{source.path} ({_megabytes(source.size_bytes)})" for source in largest)
    return PackageError(f"{what}; leave files out with {IGNORE_FILE}. The largest: {named}")


def _megabytes(size: int) -> str:
    return f"{size / 1024**2:.1f} MiB"


def _read_ignore_file(folder: Path) -> list[str]:
    path = folder / IGNORE_FILE
    try:
        with path.open("rb") as file:
            data = file.read(MAX_IGNORE_FILE_BYTES + 1)
    except FileNotFoundError:
        return []
    except OSError as exc:
        raise ManifestError.of_file(path, f"can't be read: {exc.strerror}") from exc
    if len(data) > MAX_IGNORE_FILE_BYTES:
        raise ManifestError.of_file(path, "is larger than 1 MiB")
    try:
        lines = data.decode("utf-8-sig").split("\n")
    except UnicodeDecodeError as exc:
        raise ManifestError.of_file(path, "is not UTF-8; save it as UTF-8") from exc
    lines = [line.removesuffix("\r") for line in lines]
    for number, line in enumerate(lines, 1):
        try:
            pathspec.GitIgnoreSpec.from_lines([line])
        except ValueError as exc:
            raise ManifestError.of_file(path, f'"{line}" is no pattern', line=number) from exc
    return lines


class _Walk:
    """A walk over an agent's folder that leaves out what isn't packaged."""

    def __init__(self, folder: Path) -> None:
        if not folder.is_dir():
            raise PackageError(f"{folder} is not a folder")
        self._root = folder.resolve()
        self._excluded = pathspec.GitIgnoreSpec.from_lines(
            [*DEFAULT_EXCLUDES, *_read_ignore_file(folder)]
        )
        self._count = 0

    def sources(self) -> Iterator[_Source]:
        yield from self._folder(self._root, "", (self._root,))

    def _folder(self, folder: Path, prefix: str, above: tuple[Path, ...]) -> Iterator[_Source]:
        for entry in sorted(os.scandir(folder), key=lambda entry: entry.name):
            path = f"{prefix}{entry.name}"
            if self._is_excluded(path, entry.is_symlink(), Path(entry.path)):
                continue
            self._count += 1
            if self._count > MAX_ENTRIES:
                raise PackageError(
                    f"the folder has more than {MAX_ENTRIES} files; leave some out "
                    f"with {IGNORE_FILE}"
                )
            target = self._target(path, Path(entry.path)) if entry.is_symlink() else entry.path
            target = Path(target)
            if target.is_dir():
                # A link to a folder around it would be followed for ever.
                if target in above:
                    raise PackageError(f'"{path}" is a link to a folder it lies in; remove it')
                yield from self._folder(target, f"{path}/", (*above, target))
            else:
                yield self._source(path, target)

    def _is_excluded(self, path: str, is_link: bool, file: Path) -> bool:
        name = path.rpartition("/")[2]
        if name in ALWAYS_EXCLUDED:
            return True
        if file.is_dir():
            # A virtual environment, whatever it is called; often a link to one elsewhere.
            if (file / "pyvenv.cfg").is_file():
                return True
            return self._excluded.match_file(f"{path}/")
        # ".venv/" is meant for a link, too, even one that leads nowhere.
        return self._excluded.match_file(path) or (
            is_link and self._excluded.match_file(f"{path}/")
        )

    def _target(self, path: str, link: Path) -> Path:
        try:
            target = link.resolve(strict=True)
        except (OSError, RuntimeError) as exc:
            raise PackageError(f'"{path}" is a link that leads nowhere; remove it') from exc
        if not target.is_relative_to(self._root):
            raise PackageError(
                f'"{path}" is a link out of the agent\'s folder, to {target}; copy the file there, '
                f"or leave it out with {IGNORE_FILE}"
            )
        inner = target.relative_to(self._root).parts
        for end in range(1, len(inner) + 1):
            around = self._root.joinpath(*inner[:end])
            if self._is_excluded("/".join(inner[:end]), False, around):
                raise PackageError(
                    f'"{path}" is a link to "{"/".join(inner)}", which is left out of the '
                    f"package; leave the link out with {IGNORE_FILE}, too"
                )
        return target

    def _source(self, path: str, file: Path) -> _Source:
        # What the platform would refuse to unpack isn't worth sending.
        if fault := entry_name_fault(path):
            raise PackageError(f"{path!a} {fault}; rename it, or leave it out")
        status = file.stat()
        if not stat.S_ISREG(status.st_mode):
            raise PackageError(
                f'"{path}" is not a file but a socket, pipe or device; '
                f"leave it out with {IGNORE_FILE}"
            )
        return _Source(path, file, status.st_size, bool(status.st_mode & 0o111))
