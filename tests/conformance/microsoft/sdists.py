"""Microsoft's source distributions: fetched by version, checked by hash, and only looked into.

Nothing of them is kept in the repository. ``requirements/conformance.txt`` says which ones, uv
finds out where its configured index keeps them, and the files go into ``.cache/``, where they stay.
What is unpacked are tests and samples: the packages themselves are neither unpacked, nor built, nor
installed.

pip can't do this: ``pip download`` of a source distribution runs the package's build backend.
"""

import contextlib
import hashlib
import os
import re
import subprocess
import sys
import tarfile
import tempfile
import tomllib
import urllib.request
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import uv

ROOT = Path(__file__).parents[3]
PINS = ROOT / "requirements" / "conformance.txt"
CACHE = ROOT / ".cache" / "microsoft"
_UNPACKED = ("tests", "samples")
_TIMEOUT_S = 60
_ATTEMPTS = 3


class FetchError(Exception):
    """A source distribution can't be had, or isn't the one that is pinned."""


@dataclass(frozen=True)
class Pin:
    """One line of the pins: which file, and what is in it."""

    name: str
    version: str
    sha256: str

    @property
    def stem(self) -> str:
        """Name of the folder in the archive, and of the archive without its ending."""
        return f"{self.name.replace('-', '_')}-{self.version}"

    def __str__(self) -> str:
        return f"{self.name} {self.version}"


def read_pins(path: Path = PINS) -> dict[str, Pin]:
    """Return the pins by name."""
    found = re.findall(
        r"^([\w-]+)==(\S+) \\\n +--hash=sha256:([0-9a-f]{64})$", path.read_text(), re.MULTILINE
    )
    return {name: Pin(name, version, sha256) for name, version, sha256 in found}


def fetch(pin: Pin, cache: Path = CACHE) -> Path:
    """Return the archive, from the cache if it is there and is what its pin says.

    Processes that fetch the same one at the same time don't disturb each other.

    Raises:
        FetchError: If it can't be had, or isn't what its pin says.
    """
    archive = cache / f"{pin.stem}.tar.gz"
    if archive.exists() and _sha256(archive.read_bytes()) == pin.sha256:
        return archive
    content = _download(pin, _locate(pin))
    if (found := _sha256(content)) != pin.sha256:
        raise FetchError(f"{pin} has SHA-256 {found}; {PINS.name} says {pin.sha256}")
    cache.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(dir=cache, delete=False) as file:
        file.write(content)
    os.replace(file.name, archive)
    return archive


def unpack(archive: Path, into: Path) -> Path:
    """Unpack tests and samples of an archive, and return the folder they are in."""
    # Not `extractall` with its filter: Debian's Python 3.11.2 has none.
    with tarfile.open(archive) as tar:
        for member in tar:
            parts = PurePosixPath(member.name).parts
            if not member.isfile() or parts[1:2] not in [(name,) for name in _UNPACKED]:
                continue
            content = tar.extractfile(member)
            if content is None or ".." in parts or parts[0] == "/":
                raise FetchError(f"{archive.name} has a file outside of its folder: {member.name}")
            path = into.joinpath(*parts)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content.read())
    return into / archive.name.removesuffix(".tar.gz")


def _locate(pin: Pin) -> str:
    """Ask uv where the index keeps the file.

    uv reads the metadata of the wheel beside it, so nothing is built; a standard lock file has the
    addresses of both.
    """
    command = [
        uv.find_uv_bin(), "pip", "compile", "-", "--quiet", "--no-deps", "--no-header",
        "--format", "pylock.toml", "--python", sys.executable,
    ]  # fmt: skip
    done = subprocess.run(
        command, input=f"{pin.name}=={pin.version}", capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        raise FetchError(f"{pin} can't be found: {done.stderr.strip()}")
    with contextlib.suppress(LookupError):
        return str(tomllib.loads(done.stdout)["packages"][0]["sdist"]["url"])
    raise FetchError(f"the index has no source distribution of {pin}")


def _download(pin: Pin, url: str) -> bytes:
    for attempt in range(_ATTEMPTS):
        try:
            with urllib.request.urlopen(url, timeout=_TIMEOUT_S) as answer:
                return bytes(answer.read())
        except OSError as error:
            if attempt == _ATTEMPTS - 1:
                raise FetchError(f"{pin} can't be fetched: {error}") from error
    raise AssertionError


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
