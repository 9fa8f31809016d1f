"""A wheel of the running trunkline, to install in agents' environments.

It is made of the installed files, without a network, a build backend or a checkout, so that an
agent's host is always the one its platform was made with.
"""

import base64
import hashlib
import importlib.metadata
import importlib.resources
import os
import tempfile
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from trunkline.runtimes.interface import BuildFailedError

DISTRIBUTION = "trunkline"
_TAG = "py3-none-any"
_WHEEL = f"Wheel-Version: 1.0\nGenerator: {DISTRIBUTION}\nRoot-Is-Purelib: true\nTag: {_TAG}\n"
_EPOCH = (1980, 1, 1, 0, 0, 0)
_FILE_MODE = 0o100644
#: The console's files are for browsers: changing one must not change an agent's environment.
_LEFT_OUT = frozenset({"__pycache__", "static"})


@dataclass(frozen=True, slots=True)
class OwnWheel:
    """The wheel's place and what it is known by."""

    path: Path
    digest: str
    """Of all that is in it: the same for the same files, whenever it is made."""


def make_own_wheel(wheels_dir: Path) -> OwnWheel:
    """Return the wheel, made if it isn't there yet. Any number of processes may call this.

    Raises:
        BuildFailedError: If this trunkline isn't installed, so that its requirements are unknown.
    """
    try:
        distribution = importlib.metadata.distribution(DISTRIBUTION)
    except importlib.metadata.PackageNotFoundError as error:
        msg = "trunkline isn't installed in the Python it runs on: run 'pip install trunkline'"
        raise BuildFailedError(msg) from error
    version = distribution.version
    files = dict(_package_files()) | dict(_metadata_files(distribution))
    digest = _digest(files)
    path = wheels_dir / digest / f"{DISTRIBUTION}-{version}-{_TAG}.whl"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        _write(path, files, f"{DISTRIBUTION}-{version}.dist-info/RECORD")
    return OwnWheel(path, digest)


def _package_files() -> Iterator[tuple[str, bytes]]:
    with importlib.resources.as_file(importlib.resources.files(DISTRIBUTION)) as package:
        for path in sorted(package.rglob("*")):
            # What is compiled is the gateway's, and an agent may have another Python.
            is_left_out = "__pycache__" in path.parts or path.suffix in (".so", ".c")
            if path.is_file() and not is_left_out:
                yield f"{DISTRIBUTION}/{path.relative_to(package).as_posix()}", path.read_bytes()


def _metadata_files(
    distribution: importlib.metadata.Distribution,
) -> Iterator[tuple[str, bytes]]:
    folder = f"{DISTRIBUTION}-{distribution.version}.dist-info"
    for name in ("METADATA", "entry_points.txt"):
        if (text := distribution.read_text(name)) is not None:
            yield f"{folder}/{name}", text.encode()
    yield f"{folder}/WHEEL", _WHEEL.encode()


def _digest(files: dict[str, bytes]) -> str:
    total = hashlib.sha256()
    for name in sorted(files):
        total.update(f"{name}\0{len(files[name])}\0".encode() + files[name])
    return total.hexdigest()[:32]


def _record_line(name: str, data: bytes) -> str:
    digest = base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()
    return f"{name},sha256={digest},{len(data)}\n"


def _write(path: Path, files: dict[str, bytes], record_name: str) -> None:
    # Under another name first: whoever finds the wheel finds all of it.
    handle, temporary = tempfile.mkstemp(dir=path.parent, suffix=".tmp")
    try:
        with os.fdopen(handle, "wb") as file, zipfile.ZipFile(file, "w") as archive:
            for name in sorted(files):
                _add(archive, name, files[name])
            record = "".join(_record_line(name, files[name]) for name in sorted(files))
            _add(archive, record_name, f"{record}{record_name},,\n".encode())
        Path(temporary).replace(path)
    finally:
        Path(temporary).unlink(missing_ok=True)


def _add(archive: zipfile.ZipFile, name: str, data: bytes) -> None:
    info = zipfile.ZipInfo(name, _EPOCH)
    info.external_attr = _FILE_MODE << 16
    info.compress_type = zipfile.ZIP_DEFLATED
    archive.writestr(info, data)
