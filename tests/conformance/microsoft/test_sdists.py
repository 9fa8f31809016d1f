"""Source distributions come from the configured index, and nothing else is taken for one."""

import functools
import hashlib
import http.server
import io
import socket
import tarfile
import threading
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from tests.conformance.microsoft.sdists import FetchError, Pin, fetch, read_pins, unpack

METADATA = "Metadata-Version: 2.1\nName: made-up\nVersion: 1.0\n"
BACKEND = "raise SystemExit('this package was built')"
FILES = {
    "PKG-INFO": METADATA,
    "pyproject.toml": '[build-system]\nrequires = []\nbuild-backend = "b"\nbackend-path = ["."]\n',
    "b.py": BACKEND,
    "made/__init__.py": "",
    "samples/one/sample.py": "print('sample')",
    "tests/test_it.py": "def test_it(): pass",
}


@dataclass
class Index:
    """A package index on loopback, with one package in it."""

    folder: Path
    pin: Pin

    @property
    def archive(self) -> Path:
        return self.folder / "made-up" / f"{self.pin.stem}.tar.gz"


class _Handler(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_args: object) -> None:
        pass


def _sdist(path: Path, files: dict[str, str]) -> None:
    with tarfile.open(path, "w:gz") as tar:
        for name, text in files.items():
            member = tarfile.TarInfo(f"made_up-1.0/{name}")
            member.size = len(text)
            tar.addfile(member, io.BytesIO(text.encode()))


def _wheel(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("made_up-1.0.dist-info/METADATA", METADATA)
        archive.writestr(
            "made_up-1.0.dist-info/WHEEL",
            "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        )
        archive.writestr("made_up-1.0.dist-info/RECORD", "")


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Index]:
    folder = tmp_path / "index"
    (folder / "made-up").mkdir(parents=True)
    _sdist(folder / "made-up" / "made_up-1.0.tar.gz", FILES)
    _wheel(folder / "made-up" / "made_up-1.0-py3-none-any.whl")
    content = (folder / "made-up" / "made_up-1.0.tar.gz").read_bytes()
    handler = functools.partial(_Handler, directory=folder)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        monkeypatch.setenv("UV_DEFAULT_INDEX", f"http://127.0.0.1:{server.server_port}/")
        monkeypatch.setenv("UV_CACHE_DIR", str(tmp_path / "uv"))
        monkeypatch.setenv("UV_HTTP_RETRIES", "0")
        yield Index(folder, Pin("made-up", "1.0", hashlib.sha256(content).hexdigest()))
        server.shutdown()
        thread.join()


def test_one_is_fetched_once_and_not_built(index: Index, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    archive = fetch(index.pin, cache)
    assert archive.read_bytes() == index.archive.read_bytes()
    assert list(cache.iterdir()) == [archive]
    index.archive.unlink()
    assert fetch(index.pin, cache) == archive


def test_a_damaged_one_in_the_cache_is_fetched_anew(index: Index, tmp_path: Path) -> None:
    archive = fetch(index.pin, tmp_path / "cache")
    archive.write_bytes(b"half of i")
    assert fetch(index.pin, tmp_path / "cache").read_bytes() == index.archive.read_bytes()


def test_another_file_than_the_pinned_one_is_refused_and_not_kept(
    index: Index, tmp_path: Path
) -> None:
    other = replace(index.pin, sha256="0" * 64)
    with pytest.raises(
        FetchError, match=rf"made-up 1.0 has SHA-256 {index.pin.sha256}; .* 0{{64}}"
    ):
        fetch(other, tmp_path / "cache")
    assert not (tmp_path / "cache").exists()


def test_what_the_index_has_not_is_named(index: Index, tmp_path: Path) -> None:
    with pytest.raises(FetchError, match=r"made-up 2.0 can't be found: (?s:.)*made-up"):
        fetch(replace(index.pin, version="2.0"), tmp_path / "cache")


def test_a_package_without_a_source_distribution_is_named(index: Index, tmp_path: Path) -> None:
    index.archive.unlink()
    with pytest.raises(FetchError, match=r"no source distribution of made-up 1.0"):
        fetch(index.pin, tmp_path / "cache")


def test_an_index_that_is_not_there_is_an_error(
    index: Index, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.socket() as deaf:
        deaf.bind(("127.0.0.1", 0))
        monkeypatch.setenv("UV_DEFAULT_INDEX", f"http://127.0.0.1:{deaf.getsockname()[1]}/")
        with pytest.raises(FetchError, match=r"made-up 1.0 can't be found"):
            fetch(index.pin, tmp_path / "cache")


def test_only_tests_and_samples_are_unpacked(index: Index, tmp_path: Path) -> None:
    folder = unpack(index.archive, tmp_path / "out")
    found = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    assert found == {"samples/one/sample.py", "tests/test_it.py"}


def test_the_pins_are_complete() -> None:
    pins = read_pins()
    assert set(pins) == {"azure-ai-agentserver-core", "azure-ai-agentserver-invocations"}
    assert all(name == pin.name for name, pin in pins.items())
