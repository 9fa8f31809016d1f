"""Files beneath a home, whatever the path says and whatever is swapped meanwhile."""

import contextlib
import os
import shutil
import socket
import stat
import tempfile
import threading
from pathlib import Path, PurePosixPath
from urllib.parse import unquote_to_bytes

import pytest
from hypothesis import given, strategies as st

from trunkline.protocol.errors import (
    ConflictError,
    FileMissingError,
    InvalidRequestError,
    PathOutsideHomeError,
)
from trunkline.sessions.home_files import FileEntry, HomeFiles, parse_path
from trunkline.store.paging import Page, PageOf

SECRET = "not for you"


@pytest.fixture
def home(tmp_path: Path) -> Path:
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "secret").write_text(SECRET)
    (tmp_path / "home").mkdir()
    return tmp_path / "home"


@pytest.fixture
def files(home: Path) -> HomeFiles:
    return HomeFiles(home)


def read(files: HomeFiles, path: str) -> str:
    descriptor, size = files.open(path)
    try:
        return os.read(descriptor, size).decode()
    finally:
        os.close(descriptor)


def listed(files: HomeFiles, path: str) -> list[FileEntry]:
    return list(files.list(path, Page(limit=None, is_ascending=True)).items)


def put(files: HomeFiles, path: str, text: str, folder: Path) -> None:
    source = folder / "upload"
    source.write_text(text)
    files.put(path, source)


@pytest.mark.parametrize(
    ("path", "parts"),
    [("", ()), ("/", ()), (".", ()), ("a", ("a",)), ("/a//b/./c/", ("a", "b", "c")),
     ("a/../b", ("b",)), ("a/b/../..", ()), ("...", ("...",)), ("ä b\n", ("ä b\n",))],
)  # fmt: skip
def test_paths_start_at_the_home(path: str, parts: tuple[str, ...]) -> None:
    assert parse_path(path) == parts


@pytest.mark.parametrize("path", ["..", "/..", "a/../..", "../outside/secret", "a/../../outside"])
def test_paths_out_of_the_home(path: str) -> None:
    with pytest.raises(PathOutsideHomeError, match="leads out of the session's home") as caught:
        parse_path(path)
    assert caught.value.param == "path"


@pytest.mark.parametrize(
    "path", ["a\0b", "\ud800", "x" * 256, "ä" * 128, "/".join(["y" * 200] * 21)]
)
def test_paths_where_nothing_can_be(path: str) -> None:
    with pytest.raises(InvalidRequestError) as caught:
        parse_path(path)
    assert caught.value.param == "path"


@given(st.lists(st.sampled_from(["a", "b", "..", ".", "", "c d"]), max_size=8).map("/".join))
def test_a_path_leads_where_the_system_would_go(path: str) -> None:
    resolved = os.path.normpath(f"/x/y/home/{path}")
    try:
        parts = parse_path(path)
    except PathOutsideHomeError:
        # Somewhere on its way it was outside, even if it comes back.
        depths = [0]
        for part in path.split("/"):
            depths.append(depths[-1] + (-1 if part == ".." else part not in ("", ".")))
        assert min(depths) < 0
    else:
        assert str(PurePosixPath("/x/y/home", *parts)) == resolved


def test_up_and_down(files: HomeFiles, home: Path, tmp_path: Path) -> None:
    put(files, "/a/b/c.txt", "one", tmp_path)
    assert read(files, "a/b/c.txt") == "one"
    assert stat.S_IMODE((home / "a/b/c.txt").stat().st_mode) == 0o644
    put(files, "a/b/c.txt", "two", tmp_path)
    assert read(files, "a/b/c.txt") == "two"
    entry = files.stat("a/b/c.txt")
    assert (entry.name, entry.path, entry.size, entry.is_folder) == ("c.txt", "a/b/c.txt", 3, False)
    assert [(e.path, e.is_folder) for e in listed(files, "a")] == [("a/b", True)]
    assert files.stat(".").is_folder
    files.make_folder("d/e")
    files.make_folder("d/e")
    assert [e.name for e in listed(files, "")] == ["a", "d"]


def test_deleting(files: HomeFiles, tmp_path: Path) -> None:
    put(files, "a/b.txt", "x", tmp_path)
    with pytest.raises(ConflictError, match="recursive=true"):
        files.delete("a", is_recursive=False)
    files.delete("a/b.txt", is_recursive=False)
    files.delete("a", is_recursive=False)
    put(files, "a/b/c.txt", "x", tmp_path)
    files.delete("a", is_recursive=True)
    assert listed(files, "") == []
    for path in ("", ".", "/", "a/.."):
        with pytest.raises(InvalidRequestError, match="the session's home itself"):
            files.delete(path, is_recursive=True)
    with pytest.raises(FileMissingError, match="nothing is at a"):
        files.delete("a", is_recursive=True)


def test_what_does_not_fit(files: HomeFiles, home: Path, tmp_path: Path) -> None:
    put(files, "f", "x", tmp_path)
    files.make_folder("d/e")
    for call in (
        lambda: put(files, "d", "x", tmp_path),
        lambda: put(files, "f/g", "x", tmp_path),
        lambda: files.open("d"),
        lambda: listed(files, "f"),
        lambda: files.make_folder("f"),
    ):
        with pytest.raises(ConflictError):
            call()
    for missing in (lambda: files.open("g"), lambda: listed(files, "g"), lambda: files.stat("g/h")):
        with pytest.raises(FileMissingError):
            missing()
    assert (home / "f").read_text() == "x"


def test_a_home_that_is_not_there_yet_is_empty(tmp_path: Path) -> None:
    files = HomeFiles(tmp_path / "nowhere")
    assert listed(files, "") == []
    with pytest.raises(FileMissingError):
        files.stat("a")


@pytest.mark.parametrize("target", ["../outside", "/etc", "inside"])
def test_no_link_is_followed(files: HomeFiles, home: Path, tmp_path: Path, target: str) -> None:
    (home / "inside").mkdir()
    (home / "inside" / "secret").write_text("in")
    (home / "link").symlink_to(target)
    (home / "file-link").symlink_to(f"{target}/secret")
    with pytest.raises(PathOutsideHomeError, match="link is a symbolic link"):
        files.open("link/secret")
    with pytest.raises(PathOutsideHomeError, match="is a symbolic link"):
        files.open("file-link")
    with pytest.raises(PathOutsideHomeError, match="link is a symbolic link"):
        listed(files, "link")
    with pytest.raises(PathOutsideHomeError, match="link is a symbolic link"):
        put(files, "link/new", "x", tmp_path)
    with pytest.raises(PathOutsideHomeError, match="link is a symbolic link"):
        files.delete("link/secret", is_recursive=True)
    put(files, "file-link", "mine", tmp_path)
    assert (home / "file-link").read_text() == "mine"
    assert not (home / "file-link").is_symlink()
    files.delete("link", is_recursive=True)
    assert not (home / "link").is_symlink()
    assert (tmp_path / "outside" / "secret").read_text() == SECRET
    assert [e.name for e in listed(files, "")] == ["file-link", "inside"]


def test_removing_a_folder_leaves_what_its_links_point_to(
    files: HomeFiles, home: Path, tmp_path: Path
) -> None:
    (home / "d").mkdir()
    (home / "d" / "out").symlink_to(tmp_path / "outside")
    files.delete("d", is_recursive=True)
    assert (tmp_path / "outside" / "secret").read_text() == SECRET


def test_what_is_no_regular_file_is_not_opened(files: HomeFiles, home: Path) -> None:
    os.mkfifo(home / "fifo")
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(str(home / "s"))
        for name in ("fifo", "s"):
            with pytest.raises(ConflictError, match="no regular file"):
                files.open(name)
        assert [(e.name, e.size) for e in listed(files, "")] == [("fifo", 0), ("s", 0)]


def test_names_that_are_no_text_are_shown(files: HomeFiles, home: Path) -> None:
    Path(os.fsdecode(os.fsencode(home) + b"/\xff")).write_text("x")
    assert [e.name for e in listed(files, "")] == ["\ufffd"]


def test_a_folder_swapped_for_a_link_all_the_time_leads_nowhere(
    files: HomeFiles, home: Path, tmp_path: Path
) -> None:
    """The agent does its worst: now a folder, now a link to outside, as fast as it can."""
    outside, is_over = tmp_path / "outside", threading.Event()
    folder = home / "d"

    def swap() -> None:
        while not is_over.is_set():
            # Uploads make the folder, too, and get in the way.
            with contextlib.suppress(OSError):
                folder.mkdir(exist_ok=True)
                (folder / "secret").write_text("in")
                shutil.rmtree(folder)
                folder.symlink_to(outside)
            with contextlib.suppress(OSError):
                folder.unlink()

    swapping = threading.Thread(target=swap)
    swapping.start()
    seen: set[str] = set()
    try:
        for turn in range(1500):
            for call in (
                lambda: seen.add(read(files, "d/secret")),
                lambda turn=turn: put(files, f"d/new-{turn % 3}", "x", tmp_path),
                lambda: seen.update(e.name for e in listed(files, "d")),
                lambda: files.delete("d/secret-2", is_recursive=True),
            ):
                try:
                    call()
                except (FileMissingError, PathOutsideHomeError, ConflictError):
                    continue
    finally:
        is_over.set()
        swapping.join()
    assert SECRET not in seen
    assert [path.name for path in outside.iterdir()] == ["secret"]
    assert (outside / "secret").read_text() == SECRET
    assert "in" in seen


def test_a_path_of_a_folder_is_none_of_a_file(files: HomeFiles, tmp_path: Path) -> None:
    for path in ("a/", "a/b/.", "a/b/.."):
        with pytest.raises(InvalidRequestError, match="ends with a slash"):
            put(files, path, "x", tmp_path)
    assert listed(files, "") == []


def test_a_tree_too_deep_to_walk_is_removed(files: HomeFiles) -> None:
    # Far deeper than there are descriptors, or calls that may be nested.
    files.make_folder("/".join("a" * 2000))
    files.make_folder("/".join("a" * 1500 + "b" * 500))
    files.delete("a", is_recursive=True)
    assert listed(files, "") == []


NAMES = st.lists(
    st.binary(min_size=1, max_size=6).filter(
        lambda name: name not in (b".", b"..") and not {0, 47} & set(name)
    ),
    unique=True,
    max_size=12,
)


@given(
    names=NAMES,
    limit=st.integers(1, 5),
    is_ascending=st.booleans(),
    is_backwards=st.booleans(),
)
def test_pages_have_every_file_once_and_in_order(
    names: list[bytes],
    limit: int,
    is_ascending: bool,
    is_backwards: bool,
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        for name in names:
            (Path(folder) / os.fsdecode(name)).touch()
        files = HomeFiles(Path(folder))
        everything = files.list("", Page(limit=None, is_ascending=is_ascending)).items
        assert [unquote_to_bytes(entry.cursor) for entry in everything] == sorted(
            names, reverse=not is_ascending
        )
        pages: list[FileEntry] = []
        page: PageOf[FileEntry] = PageOf([], has_more=True)
        while page.has_more:
            after = pages[-1].cursor if pages and not is_backwards else None
            # Going backwards, the first page is the last: nothing is behind it.
            before = pages[0].cursor if pages and is_backwards else None
            if is_backwards and not pages:
                before = "%FF" * 7 if is_ascending else "%00"
            page = files.list(
                "", Page(limit=limit, is_ascending=is_ascending, after=after, before=before)
            )
            assert len(page.items) <= limit
            pages = [*page.items, *pages] if is_backwards else [*pages, *page.items]
    assert pages == list(everything)


def test_a_page_of_a_large_folder_looks_at_no_more_than_the_page(
    files: HomeFiles, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(5000):
        (home / f"{number:05}").touch()
    looked_at = []
    real = os.stat

    def counting(path: object, **how: object) -> os.stat_result:
        looked_at.append(path)
        return real(path, **how)  # type: ignore[arg-type]

    monkeypatch.setattr(os, "stat", counting)
    page = files.list("", Page(limit=10, is_ascending=True, after="01234"))
    monkeypatch.undo()
    assert [entry.name for entry in page.items] == [f"{n:05}" for n in range(1235, 1245)]
    assert page.has_more
    assert len(looked_at) < 20


def test_moving_aside_leaves_nothing(home: Path) -> None:
    files = HomeFiles(home)
    shutil.rmtree(home)
    with pytest.raises(FileMissingError):
        files.make_folder("a")
    assert not home.exists()
