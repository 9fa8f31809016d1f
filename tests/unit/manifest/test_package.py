"""The zip of an agent's folder."""

import os
import shutil
import zipfile
from pathlib import Path

import pytest

from trunkline.manifest import package
from trunkline.manifest.errors import ManifestError, PackageError
from trunkline.manifest.package import package_folder
from trunkline.manifest.unpack import unpack_package


def put(folder: Path, *names: str, text: str = "x") -> None:
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def names_in(folder: Path) -> list[str]:
    with package_folder(folder) as made:
        with zipfile.ZipFile(made.file) as archive:
            assert archive.namelist() == [file.path for file in made.files]
        return [file.path for file in made.files]


def test_same_files_same_zip(tmp_path: Path) -> None:
    first, second = tmp_path / "a", tmp_path / "b"
    put(first, "main.py", "pkg/__init__.py", "pkg/x.py", "run.sh")
    (first / "run.sh").chmod(0o755)
    put(second, "run.sh", "pkg/x.py", "main.py", "pkg/__init__.py", "__pycache__/x.pyc")
    (second / "run.sh").chmod(0o700)
    (second / "main.py").chmod(0o600)
    os.utime(second / "main.py", (1, 1))
    with (
        package_folder(first) as one,
        package_folder(first) as again,
        package_folder(second) as two,
    ):
        assert one.sha256 == again.sha256 == two.sha256
        assert one.file.read() == two.file.read()
        assert one.size_bytes == one.file.tell()
        assert package.sha256_of(again.file) == one.sha256
        assert [(file.path, file.size_bytes) for file in one.files] == [
            ("main.py", 1),
            ("pkg/__init__.py", 1),
            ("pkg/x.py", 1),
            ("run.sh", 1),
        ]


def test_other_content_other_sha(tmp_path: Path) -> None:
    put(tmp_path, "main.py")
    with package_folder(tmp_path) as one:
        put(tmp_path, "main.py", text="y")
        with package_folder(tmp_path) as two:
            assert one.sha256 != two.sha256


def test_unpacks_to_the_same(tmp_path: Path) -> None:
    put(tmp_path / "in", "main.py", "deep/er/é.txt", text="text\n" * 100_000)
    (tmp_path / "in/main.py").chmod(0o755)
    with package_folder(tmp_path / "in") as made:
        unpacked = unpack_package(made.file, tmp_path / "out")
    assert sorted(unpacked.files) == ["deep/er/é.txt", "main.py"]
    assert unpacked.total_bytes == 1_000_000
    assert (tmp_path / "out/deep/er/é.txt").read_text() == "text\n" * 100_000
    assert (tmp_path / "out/main.py").stat().st_mode & 0o777 == 0o755
    assert (tmp_path / "out/deep/er/é.txt").stat().st_mode & 0o777 == 0o644


def test_default_excludes(tmp_path: Path) -> None:
    put(
        tmp_path,
        "main.py", "requirements.txt", "data/agent.yaml", ".env.example", "environment/x",
        # and what is left out:
        "agent.yaml", "agent.yml", "azure.yaml", ".agentignore", "Dockerfile", ".env", "sub/.env",
        ".env.local", ".azure/dev/.env", ".trunkline/config.json", ".git/HEAD", ".venv/bin/python",
        "venv/x", "my-env/pyvenv.cfg", "my-env/lib/x.py", "__pycache__/main.pyc", "sub/x.pyc",
        ".mypy_cache/x", ".ruff_cache/x", ".pytest_cache/x", "web/node_modules/x.js", ".DS_Store",
        text="",
    )  # fmt: skip
    assert names_in(tmp_path) == [
        ".env.example",
        "data/agent.yaml",
        "environment/x",
        "main.py",
        "requirements.txt",
    ]


def test_agentignore(tmp_path: Path) -> None:
    put(tmp_path, "main.py", "tests/x.py", "a/b.log", "keep.log", "Dockerfile", ".env", "é.txt")
    (tmp_path / ".agentignore").write_text(
        "# comment\r\n/tests/\r\n*.log\n!keep.log\n!Dockerfile\n!.env\né.txt\n"
    )
    assert names_in(tmp_path) == ["Dockerfile", "keep.log", "main.py"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"x\n!\n", r"\.agentignore:2:1: \"!\" is no pattern"),
        (b"\xff", "is not UTF-8"),
        (b"#" * (1024 * 1024 + 1), "larger than 1 MiB"),
    ],
)
def test_agentignore_mistake(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / ".agentignore").write_bytes(content)
    with pytest.raises(ManifestError, match=message):
        package_folder(tmp_path)


def test_agentignore_unreadable(tmp_path: Path) -> None:
    (tmp_path / ".agentignore").mkdir()
    with pytest.raises(ManifestError, match="can't be read"):
        package_folder(tmp_path)


def test_links_within_the_folder_are_followed(tmp_path: Path) -> None:
    put(tmp_path, "main.py", "shared/x.py")
    (tmp_path / "link.py").symlink_to("main.py")
    (tmp_path / "also").symlink_to("shared")
    link = tmp_path.with_name(tmp_path.name + "-link")
    link.symlink_to(tmp_path)
    assert names_in(link) == ["also/x.py", "link.py", "main.py", "shared/x.py"]
    with package_folder(tmp_path) as made, zipfile.ZipFile(made.file) as archive:
        assert archive.read("link.py") == b"x"


def test_links_that_are_left_out_may_lead_anywhere(tmp_path: Path) -> None:
    put(tmp_path, "main.py")
    (tmp_path / ".venv").symlink_to("/nowhere")
    (tmp_path / "venv").symlink_to("/tmp")
    (tmp_path / ".env").symlink_to("/etc/passwd")
    assert names_in(tmp_path) == ["main.py"]


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ("/etc/passwd", '"link" is a link out of the agent\'s folder, to /etc/passwd'),
        ("..", '"link" is a link out of'),
        ("../{name}-sibling", '"link" is a link out of'),
        ("nowhere", '"link" is a link that leads nowhere'),
        ("link", '"link" is a link that leads nowhere'),
        (".", '"link" is a link to a folder it lies in'),
        (".env", r'"link" is a link to "\.env", which is left out'),
        ("__pycache__/x", '"link" is a link to "__pycache__/x", which is left out'),
    ],
)
def test_refused_links(tmp_path: Path, target: str, message: str) -> None:
    folder = tmp_path / "agent"
    put(folder, "main.py", ".env", "__pycache__/x")
    # A sibling whose name begins with the folder's own isn't within it.
    put(tmp_path / "agent-sibling", "x")
    (folder / "link").symlink_to(target.format(name="agent"))
    with pytest.raises(PackageError, match=message) as caught:
        package_folder(folder)
    assert caught.value.code == "invalid_agent_folder"


def test_link_loop_through_two_folders(tmp_path: Path) -> None:
    put(tmp_path, "a/x", "b/x")
    (tmp_path / "a/to-b").symlink_to("../b")
    (tmp_path / "b/to-a").symlink_to("../a")
    with pytest.raises(PackageError, match="is a link to a folder it lies in"):
        package_folder(tmp_path)


def test_special_files_are_refused(tmp_path: Path) -> None:
    put(tmp_path, "main.py")
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(PackageError, match='"pipe" is not a file but a socket, pipe or device'):
        package_folder(tmp_path)
    put(tmp_path, ".agentignore", text="pipe\n")
    assert names_in(tmp_path) == ["main.py"]


def test_too_large_names_the_largest(tmp_path: Path) -> None:
    put(tmp_path, "main.py")
    for number in range(6):
        (tmp_path / f"{number}.bin").write_bytes(os.urandom(100_000 * (number + 1)))
    with pytest.raises(PackageError) as caught:
        package_folder(tmp_path, max_bytes=1024 * 1024)
    message = str(caught.value)
    assert message.startswith("the zip is larger than the 1.0 MiB allowed; leave files out with")
    assert message.endswith(
        "The largest: 5.bin (0.6 MiB), 4.bin (0.5 MiB), 3.bin (0.4 MiB), "
        "2.bin (0.3 MiB), 1.bin (0.2 MiB)"
    )


def test_too_much_uncompressed(tmp_path: Path) -> None:
    put(tmp_path, "main.py")
    with (tmp_path / "huge.bin").open("wb") as file:
        file.truncate(1024**3)
    with pytest.raises(PackageError, match=r"and 1024\.0 MiB are allowed.*huge\.bin"):
        package_folder(tmp_path)


def test_too_many_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(package, "MAX_ENTRIES", 3)
    put(tmp_path, "a/b", "c", ".git/x")
    assert names_in(tmp_path) == ["a/b", "c"]
    put(tmp_path, "d")
    with pytest.raises(PackageError, match="more than 3 files"):
        package_folder(tmp_path)


def test_required_files(tmp_path: Path) -> None:
    put(tmp_path, "main.py", "app/run.py")
    put(tmp_path, ".agentignore", text="app/\n")
    package_folder(tmp_path, required=["main.py"]).close()
    with pytest.raises(PackageError, match=r'"app/run.py" isn\'t in the package'):
        package_folder(tmp_path, required=["app/run.py"])


def test_names_the_platform_would_refuse(tmp_path: Path) -> None:
    for name in ["a\\b", "a\nb", os.fsdecode(b"\xff")]:
        folder = tmp_path / "agent"
        put(folder, name)
        with pytest.raises(PackageError, match="rename it"):
            package_folder(folder)
        shutil.rmtree(folder)


def test_empty_and_missing_folder(tmp_path: Path) -> None:
    with pytest.raises(PackageError, match="no files to package"):
        package_folder(tmp_path)
    with pytest.raises(PackageError, match="is not a folder"):
        package_folder(tmp_path / "nowhere")


def test_close_twice(tmp_path: Path) -> None:
    put(tmp_path, "main.py")
    made = package_folder(tmp_path)
    made.close()
    made.close()
    assert made.file.closed


def test_unreadable_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put(tmp_path, "main.py")
    original = Path.open

    def fail(self: Path, *args: object) -> object:
        if self.name == "main.py":
            raise PermissionError(13, "Permission denied")
        return original(self, *args)  # type: ignore[call-overload]

    monkeypatch.setattr(Path, "open", fail)
    with pytest.raises(PackageError, match=r'"main\.py" can\'t be read: Permission denied'):
        package_folder(tmp_path)
