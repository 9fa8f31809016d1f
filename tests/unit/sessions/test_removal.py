"""Trees are removed whole, whatever is in them and whoever moves it about."""

import contextlib
import errno
import itertools
import os
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from trunkline.sessions import removal
from trunkline.sessions.homes import SessionHomes
from trunkline.sessions.removal import remove_tree


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[int]:
    descriptor = os.open(tmp_path, os.O_RDONLY)
    yield descriptor
    os.close(descriptor)


def deep(path: Path, levels: int) -> None:
    """Make directories in one another, deeper than a path can say."""
    path.mkdir()
    at = os.open(path, os.O_RDONLY)
    for _ in range(levels):
        os.mkdir("d", dir_fd=at)
        inside = os.open("d", os.O_RDONLY, dir_fd=at)
        os.close(at)
        at = inside
    os.close(at)


def test_whatever_it_is(folder: int, tmp_path: Path) -> None:
    (tmp_path / "kept").mkdir()
    (tmp_path / "kept" / "file").write_text("kept")
    tree = tmp_path / "tree"
    (tree / "a" / "b").mkdir(parents=True)
    (tree / "a" / "link").symlink_to(tmp_path / "kept")
    (tree / "gone").symlink_to("nowhere")
    os.mkfifo(tree / "a" / "fifo")
    os.link(tmp_path / "kept" / "file", tree / "hard")
    (tmp_path / "file").touch()
    (tmp_path / "link").symlink_to("kept")
    for name in (b"tree", b"file", b"link", b"nothing"):
        remove_tree(folder, name)
    assert [path.name for path in tmp_path.iterdir()] == ["kept"]
    assert (tmp_path / "kept" / "file").read_text() == "kept"


@pytest.mark.parametrize("levels", [31, 32, 33, 34, 70, 3000])
def test_however_deep(folder: int, tmp_path: Path, levels: int) -> None:
    deep(tmp_path / "tree", levels)
    descriptors = len(os.listdir("/dev/fd"))
    remove_tree(folder, b"tree")
    assert list(tmp_path.iterdir()) == []
    assert len(os.listdir("/dev/fd")) == descriptors


def test_without_permissions(folder: int, tmp_path: Path) -> None:
    inside = tmp_path / "tree" / "inside"
    inside.mkdir(parents=True)
    (inside / "file").touch()
    inside.chmod(0)
    inside.parent.chmod(0o400)
    remove_tree(folder, b"tree")
    assert list(tmp_path.iterdir()) == []


def test_what_fills_as_fast_as_it_is_emptied_is_given_up(
    folder: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "tree").mkdir()
    numbers = itertools.count()
    real = os.rmdir

    def filled_first(name: bytes, *, dir_fd: int) -> None:
        (tmp_path / "tree" / str(next(numbers))).touch()
        real(name, dir_fd=dir_fd)

    monkeypatch.setattr(removal.os, "rmdir", filled_first)
    with pytest.raises(OSError, match="not empty") as caught:
        remove_tree(folder, b"tree")
    assert caught.value.errno == errno.ENOTEMPTY


def test_while_somebody_swaps_what_is_in_it_for_links(folder: int, tmp_path: Path) -> None:
    outside, tree, is_over = tmp_path / "outside", tmp_path / "tree", threading.Event()
    (outside / "in").mkdir(parents=True)
    (outside / "in" / "canary").write_text("alive")

    def swap() -> None:
        while not is_over.is_set():
            with contextlib.suppress(OSError):
                (tree / "d" / "in").mkdir(parents=True)
                (tree / "d" / "in" / "canary").touch()
                (tree / "d").rename(tree / "e")
                (tree / "d").symlink_to(outside)
                (tree / "d").unlink()

    swapping = threading.Thread(target=swap)
    swapping.start()
    removed = 0
    try:
        for _ in range(1000):
            # Filled as fast as it is emptied, at times.
            with contextlib.suppress(OSError):
                remove_tree(folder, b"tree")
                removed += 1
    finally:
        is_over.set()
        swapping.join()
    remove_tree(folder, b"tree")
    assert removed
    assert (outside / "in" / "canary").read_text() == "alive"
    assert [path.name for path in tmp_path.iterdir()] == ["outside"]


def test_a_home_its_agent_made_deep_is_removed(tmp_path: Path) -> None:
    homes = SessionHomes(tmp_path / "sessions")
    deep(homes.prepare("h") / "tree", 3000)
    homes.remove("h")
    assert list((tmp_path / "sessions" / ".trash").iterdir()) == []
    deep(tmp_path / "sessions" / ".trash" / "left", 3000)
    homes.empty_trash(is_alone=True)
    assert list((tmp_path / "sessions" / ".trash").iterdir()) == []
