from pathlib import Path

import pytest

from trunkline.runtimes.interface import BuildFailedError
from trunkline.runtimes.process.entry_point import parse_entry_point


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "agent"
    (folder / "app").mkdir(parents=True)
    (folder / "main.py").touch()
    (folder / "app" / "run.py").touch()
    (tmp_path / "outside.py").touch()
    return folder


@pytest.mark.parametrize(
    ("words", "arguments", "file"),
    [
        ((), ("main.py",), "main.py"),
        (("main.py",), ("main.py",), "main.py"),
        (("app/run.py", "--x"), ("app/run.py", "--x"), "app/run.py"),
        (("python",), ("main.py",), "main.py"),
        (("python", "main.py"), ("main.py",), "main.py"),
        (("python3", "-u", "main.py", "a"), ("-u", "main.py", "a"), "main.py"),
        (("python3.13", "-X", "dev", "main.py"), ("-X", "dev", "main.py"), "main.py"),
        (("python", "-m", "app", "x.py"), ("-m", "app", "x.py"), None),
        (("python", "-c", "print()"), ("-c", "print()"), None),
        (("python", "-V"), ("-V",), None),
    ],
)
def test_python_is_the_environments(
    folder: Path, words: tuple[str, ...], arguments: tuple[str, ...], file: str | None
) -> None:
    entry = parse_entry_point(words, folder)
    assert entry.command(Path("/env")) == ("/env/bin/python", *arguments)
    assert entry.file == file


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("other.py",), "the entry point 'other.py' isn't in the agent's folder"),
        (("python", "other.py"), "the entry point 'other.py' isn't in the agent's folder"),
        (("../outside.py",), "the entry point '../outside.py' is outside the agent's folder"),
        (("/bin/sh",), "the entry point '/bin/sh' isn't a Python file"),
        (("./run.sh",), "the entry point './run.sh' isn't a Python file"),
    ],
)
def test_what_is_not_there_is_told(folder: Path, words: tuple[str, ...], message: str) -> None:
    with pytest.raises(BuildFailedError) as caught:
        parse_entry_point(words, folder)
    assert str(caught.value) == message


def test_missing_default_is_told(tmp_path: Path) -> None:
    with pytest.raises(BuildFailedError, match=r"'main.py' isn't in the agent's folder"):
        parse_entry_point((), tmp_path)


def test_command_of_a_package(tmp_path: Path) -> None:
    entry = parse_entry_point(("uvicorn", "app:app"), tmp_path)
    with pytest.raises(BuildFailedError, match="'uvicorn' isn't in the environment"):
        entry.command(tmp_path)
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "uvicorn").touch()
    assert entry.command(tmp_path) == (f"{tmp_path}/bin/uvicorn", "app:app")
