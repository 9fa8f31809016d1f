from pathlib import Path

import pytest

from trunkline.runtimes.interface import BuildFailedError
from trunkline.runtimes.process.requirements import (
    FOREIGN_HOSTS,
    Requirements,
    logical_lines,
    read_requirements,
)


def read(folder: Path, text: str, **others: str) -> Requirements:
    (folder / "requirements.txt").write_text(text)
    for name, content in others.items():
        path = folder / name.replace("__", "/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.with_suffix(".txt").write_text(content)
    return read_requirements(folder)


def names(found: Requirements) -> set[str]:
    return set(found.names_for("3.13"))


@pytest.mark.parametrize(
    ("line", "name"),
    [
        ("trunkline", "trunkline"),
        ("Trunk_Line.X >= 1, <2", "trunk-line-x"),
        ("trunkline[platform]==0.1", "trunkline"),
        ("trunkline  # comment", "trunkline"),
        ("trunkline==1 --hash=sha256:abc", "trunkline"),
        ("trunkline==1 \\\n  --hash=sha256:abc \\\n  --hash=sha256:def", "trunkline"),
        ("trunkline; python_version >= '3.11'", "trunkline"),
        ("trunkline @ https://example.org/x-1-py3-none-any.whl", "trunkline"),
        ("git+https://example.org/x.git#egg=trunkline", "trunkline"),
        ("-e git+https://example.org/x.git#egg=trunkline", "trunkline"),
        ("trunkline >>= 3", "trunkline"),
        ("\ufefftrunkline", "trunkline"),
    ],
)
def test_name_is_read(tmp_path: Path, line: str, name: str) -> None:
    found = read(tmp_path, line)
    assert names(found) == {name}
    assert not found.is_local or line.startswith("-e")


@pytest.mark.parametrize(
    "line",
    [
        "",
        "# trunkline",
        "trunkline; python_version < '3.12'",
        "--index-url https://trunkline",
        "   ",
    ],
)
def test_no_name_is_read(tmp_path: Path, line: str) -> None:
    assert names(read(tmp_path, line)) == set()


def test_marker_depends_on_the_python(tmp_path: Path) -> None:
    found = read(tmp_path, "trunkline; python_version < '3.12'")
    assert found.names_for("3.11") == {"trunkline"}
    assert found.names_for("3.12") == frozenset()


@pytest.mark.parametrize(
    "line",
    [
        "./lib",
        "../lib",
        "/srv/lib",
        "lib/mine",
        "mine-1-py3-none-any.whl",
        "-e .",
        "-e.",
        "--editable=./lib",
        "mine @ file:///srv/mine",
        "file:///srv/mine",
        "--find-links ./wheels",
        "-f wheels/more",
    ],
)
def test_local_reference_is_seen(tmp_path: Path, line: str) -> None:
    assert read(tmp_path, line).is_local


@pytest.mark.parametrize(
    "line",
    [
        "six",
        "six>=1/0",
        "mine @ https://example.org/mine.whl",
        "--find-links https://example.org/wheels",
        "git+ssh://git@example.org/x/y.git",
    ],
)
def test_remote_is_not_local(tmp_path: Path, line: str) -> None:
    assert not read(tmp_path, line).is_local


@pytest.mark.parametrize(
    "option", ["-r more.txt", "-rmore.txt", "--requirement more.txt", "--requirement=more.txt"]
)
def test_nested_file_counts(tmp_path: Path, option: str) -> None:
    found = read(tmp_path, f"six\n{option}\n", more="trunkline\n-r requirements.txt\n")
    assert names(found) == {"six", "trunkline"}
    assert found.files == {
        "requirements.txt": f"six\n{option}\n".encode(),
        "more.txt": b"trunkline\n-r requirements.txt\n",
    }


def test_nested_file_is_found_beside_its_parent(tmp_path: Path) -> None:
    found = read(tmp_path, "-r deep/a.txt", deep__a="-r b.txt", deep__b="six")
    assert names(found) == {"six"}
    assert set(found.files) == {"requirements.txt", "deep/a.txt", "deep/b.txt"}


def test_constraints_decide_but_require_nothing(tmp_path: Path) -> None:
    found = read(tmp_path, "six\n-c pins.txt", pins="trunkline==0.1\n-r more.txt", more="idna")
    assert names(found) == {"six"}
    assert set(found.files) == {"requirements.txt", "pins.txt", "more.txt"}


def test_nested_address_is_left_to_uv(tmp_path: Path) -> None:
    assert set(read(tmp_path, "-r https://example.org/r.txt").files) == {"requirements.txt"}


def test_missing_nested_file_is_told(tmp_path: Path) -> None:
    with pytest.raises(BuildFailedError, match=r"^more.txt, which .* No such file"):
        read(tmp_path, "-r more.txt")


@pytest.mark.parametrize("way", ["-r ../secret.txt", "-r link.txt", "-r {root}/secret.txt"])
def test_file_outside_is_refused(tmp_path: Path, way: str) -> None:
    (tmp_path / "secret.txt").write_text("hunter2")
    folder = tmp_path / "agent"
    folder.mkdir()
    (folder / "link.txt").symlink_to(tmp_path / "secret.txt")
    with pytest.raises(BuildFailedError, match="outside the agent's folder") as caught:
        read(folder, way.format(root=tmp_path))
    assert "hunter2" not in str(caught.value)


def test_hash_mode_is_seen(tmp_path: Path) -> None:
    assert read(tmp_path, "--require-hashes\nsix==1 --hash=sha256:a").requires_hashes
    assert not read(tmp_path, "six==1 --hash=sha256:a").requires_hashes


def test_nothing_is_required_by_an_empty_folder(tmp_path: Path) -> None:
    assert read_requirements(tmp_path) == Requirements()


def test_pyproject_is_second_choice(tmp_path: Path) -> None:
    project = tmp_path / "pyproject.toml"
    project.write_text('[project]\nname = "x"\ndependencies = ["trunkline>=0.1", "six"]\n')
    found = read_requirements(tmp_path)
    assert found.main == project
    assert names(found) == {"trunkline", "six"}
    assert not found.is_local
    (tmp_path / "requirements.txt").write_text("idna")
    assert names(read_requirements(tmp_path)) == {"idna"}


@pytest.mark.parametrize(
    "text",
    [
        '[project]\nname = "x"\n[tool.uv.sources]\nsix = {path = "six"}\n',
        '[project]\nname = "x"\ndynamic = ["dependencies"]\n',
        '[project]\nname = "x"\ndependencies = ["mine @ file:///srv/mine"]\n',
    ],
)
def test_pyproject_may_refer_to_the_folder(tmp_path: Path, text: str) -> None:
    (tmp_path / "pyproject.toml").write_text(text)
    assert read_requirements(tmp_path).is_local


def test_pyproject_without_a_project_is_no_requirement(tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").write_text("[tool.ruff]\n")
    assert read_requirements(tmp_path) == Requirements()


def test_broken_pyproject_is_told(tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").write_text("[project\n")
    with pytest.raises(BuildFailedError, match="isn't valid TOML"):
        read_requirements(tmp_path)


def test_lines_are_joined_and_cleaned() -> None:
    text = b"a \\\r\n b\r\n\r\n # c\nd#e # f\n"
    assert list(logical_lines(text)) == ["a   b", "d#e"]


@pytest.mark.parametrize(
    ("name", "is_host"),
    [("azure-ai-agentserver-invocations", True), ("azure-ai-agents", False), ("azure", False)],
)
def test_foreign_hosts(name: str, is_host: bool) -> None:
    assert bool(FOREIGN_HOSTS.fullmatch(name)) is is_host
