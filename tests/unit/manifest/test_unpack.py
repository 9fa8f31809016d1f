"""Extracting zips, most of them hostile."""

import io
import stat
import struct
import zipfile
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given, settings, strategies as st

from trunkline.manifest.errors import InvalidCodePackageError
from trunkline.manifest.unpack import UnpackLimits, check_package, unpack_package


def entry(name: str, mode: int = 0) -> zipfile.ZipInfo:
    info = zipfile.ZipInfo("x")
    # Set past the constructor, which cuts and mends names.
    info.filename = name
    info.external_attr = mode << 16
    info.compress_type = zipfile.ZIP_DEFLATED
    return info


def make(*entries: zipfile.ZipInfo | str, data: bytes = b"data") -> io.BytesIO:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for info in entries:
            archive.writestr(entry(info) if isinstance(info, str) else info, data)
    return file


def refused(file: io.BytesIO, folder: Path, limits: UnpackLimits | None = None) -> str:
    with pytest.raises(InvalidCodePackageError) as caught:
        unpack_package(file, folder, limits)
    assert list(folder.iterdir()) == []
    assert (caught.value.status, caught.value.code) == (400, "invalid_code_package")
    return str(caught.value)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "out"


def test_good(folder: Path) -> None:
    file = make("main.py", "a/", "a/b/c.txt", entry("run.sh", stat.S_IFREG | 0o4777))
    unpacked = unpack_package(file, folder)
    assert unpacked.files == ("main.py", "a/b/c.txt", "run.sh")
    assert unpacked.total_bytes == 12
    assert (folder / "a/b/c.txt").read_bytes() == b"data"
    assert (folder / "main.py").stat().st_mode & 0o7777 == 0o644
    assert (folder / "run.sh").stat().st_mode & 0o7777 == 0o755


def test_from_a_path_into_an_empty_folder(folder: Path, tmp_path: Path) -> None:
    path = tmp_path / "code.zip"
    path.write_bytes(make("main.py").getvalue())
    folder.mkdir()
    assert unpack_package(path, folder).files == ("main.py",)
    with pytest.raises(FileExistsError):
        unpack_package(path, folder)
    assert (folder / "main.py").exists()


@pytest.mark.parametrize(
    ("name", "fault"),
    [
        ("/etc/passwd", "absolute path"),
        ("//x", "absolute path"),
        ("C:/x", "absolute path"),
        ("../x", '".."'),
        ("a/../../x", '".."'),
        ("..", '".."'),
        ("./x", '"." or nothing'),
        ("a//x", '"." or nothing'),
        ("a\\..\\x", "characters that aren't allowed"),
        ("a\nb", "characters that aren't allowed"),
        ("a\x1b[2J", "characters that aren't allowed"),
        ("a\0.py", "characters that aren't allowed"),
        ("a\u202eyp.exe", "characters that aren't allowed"),
        ("x" * 256, "a name over 255"),
        ("é" * 128, "a name over 255"),
        ("/".join(["x" * 200] * 6), "a path over 1024 bytes"),
    ],
)
def test_names(folder: Path, tmp_path: Path, name: str, fault: str) -> None:
    message = refused(make("good.py", name), folder)
    assert fault in message
    assert ascii(name)[1:-1][:200] in message
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


@pytest.mark.parametrize(
    ("mode", "fault"),
    [
        (stat.S_IFLNK | 0o777, "is a link"),
        (stat.S_IFIFO | 0o644, "is neither a file nor a folder"),
        (stat.S_IFCHR | 0o644, "is neither a file nor a folder"),
        (stat.S_IFBLK | 0o644, "is neither a file nor a folder"),
        (stat.S_IFSOCK | 0o644, "is neither a file nor a folder"),
        (stat.S_IFDIR | 0o755, "is neither a file nor a folder"),
    ],
)
def test_special_files(folder: Path, mode: int, fault: str) -> None:
    assert f'"odd" in the zip {fault}' in refused(make("a", entry("odd", mode)), folder)


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_names_given_twice(folder: Path) -> None:
    assert '"a" in the zip is in the zip twice' in refused(make("a", "a"), folder)
    assert "twice" in refused(make("a", "a/"), folder)
    assert 'lies in "a", which is a file' in refused(make("a", "a/b"), folder)
    assert 'lies in "a", which is a file' in refused(make("a/b/c", "a"), folder)


def test_file_that_is_there_already(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # What a file system that ignores case does.
    def fail(*args: object) -> int:
        raise FileExistsError

    monkeypatch.setattr("os.open", fail)
    assert "but for its case" in refused(make("A"), folder)


def test_bomb_is_counted_not_believed(folder: Path) -> None:
    file = make("main.py", "bomb", data=b"\0" * 1_000_000)
    assert len(file.getvalue()) < 10_000
    limits = UnpackLimits(max_total_bytes=1_500_000)
    message = refused(file, folder, limits)
    assert message.startswith('"bomb" in the zip takes the files over 1500000 bytes')
    # The same, with headers that say each file has one byte.
    lying = file.getvalue().replace(struct.pack("<L", 1_000_000), struct.pack("<L", 1))
    assert '"main.py" in the zip is broken' in refused(io.BytesIO(lying), folder, limits)
    assert unpack_package(file, folder, UnpackLimits(max_total_bytes=2_000_000)).total_bytes


def test_a_bomb_that_says_so_is_refused_before_it_is_kept(folder: Path) -> None:
    archive = folder.with_name("a.zip")
    archive.write_bytes(make("main.py", "bomb", data=b"\0" * 1_000_000).getvalue())
    with pytest.raises(InvalidCodePackageError, match='"bomb" in the zip takes the files over'):
        check_package(archive, UnpackLimits(max_total_bytes=1_500_000))
    check_package(archive, UnpackLimits(max_total_bytes=2_000_000))


def test_too_many_entries(folder: Path) -> None:
    names = [f"{number}" for number in range(11)]
    limits = UnpackLimits(max_entries=10)
    assert "more than 10 entries" in refused(make(*names), folder, limits)
    assert len(unpack_package(make(*names[:10]), folder, limits).files) == 10


def test_entry_count_that_lies(folder: Path) -> None:
    data = bytearray(make(*[f"{number}" for number in range(11)]).getvalue())
    struct.pack_into("<HH", data, len(data) - 14, 1, 1)
    assert "more than 10 entries" in refused(io.BytesIO(data), folder, UnpackLimits(max_entries=10))


def test_large_directory_is_not_read(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    limits = UnpackLimits(max_entries=10)
    data = bytearray(make("a").getvalue())
    monkeypatch.setattr(zipfile, "ZipFile", None)
    struct.pack_into("<L", data, len(data) - 10, 10 * 558 + 1)
    assert "more than 10 entries" in refused(io.BytesIO(data), folder, limits)


def test_zip64_is_refused(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(zipfile, "ZIP_FILECOUNT_LIMIT", 1)
    assert "zip64" in refused(make("a", "b"), folder)


@pytest.mark.parametrize("data", [b"", b"PK", b"not a zip" * 100, b"PK\x05\x06"])
def test_no_zip(folder: Path, data: bytes) -> None:
    assert "not a zip file" in refused(io.BytesIO(data), folder)


def test_truncated_and_damaged(folder: Path) -> None:
    data = make("main.py", data=bytes(range(256)) * 50).getvalue()
    assert "not a zip file" in refused(io.BytesIO(data[:-30]), folder)
    damaged = bytearray(data)
    damaged[80] ^= 0xFF
    assert '"main.py" in the zip is broken' in refused(io.BytesIO(damaged), folder)


def test_encrypted_and_other_methods(folder: Path) -> None:
    data = bytearray(make("main.py").getvalue())
    data[data.index(b"PK\x01\x02") + 8] |= 1
    assert "is encrypted" in refused(io.BytesIO(data), folder)
    info = entry("main.py")
    info.compress_type = zipfile.ZIP_LZMA
    assert "other than deflate" in refused(make(info), folder)


def test_comment_is_fine(folder: Path) -> None:
    file = make("main.py")
    with zipfile.ZipFile(file, "a") as archive:
        archive.comment = b"made by hand"
    assert unpack_package(file, folder).files == ("main.py",)


@settings(max_examples=200, deadline=None)
@given(
    changes=st.lists(st.tuples(st.integers(0, 400), st.integers(0, 255)), max_size=6),
    cut=st.integers(0, 400),
)
def test_whatever_is_damaged_nothing_escapes(
    tmp_path_factory: pytest.TempPathFactory, changes: list[tuple[int, int]], cut: int
) -> None:
    data = bytearray(make("main.py", "a/b.txt", entry("run.sh", 0o100755)).getvalue())
    for position, value in changes:
        data[position % len(data)] = value
    if cut > 350:
        del data[cut:]
    root = tmp_path_factory.mktemp("unpack")
    with suppress(InvalidCodePackageError):
        unpack_package(io.BytesIO(data), root / "out")
    assert [path.name for path in root.iterdir()] == ["out"]
    assert not any(path.is_symlink() for path in root.rglob("*"))
