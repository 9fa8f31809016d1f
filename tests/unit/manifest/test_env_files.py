"""Environments and their .env files."""

import json
import stat
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given, settings, strategies as st

from trunkline.manifest.env_files import (
    Environments,
    find_project_root,
    format_line,
    parse_assignment,
    parse_env,
)
from trunkline.manifest.errors import ManifestError
from trunkline.protocol.errors import InvalidRequestError

KEYS = st.from_regex(r"[A-Za-z_][A-Za-z0-9_]{0,8}", fullmatch=True)
VALUES = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"])) | st.text(
    alphabet="\"'\\$`#= \n\r\t\u2028\x85na"
)


@pytest.mark.parametrize("marker", [".trunkline/x", "azure.yaml", "agent.yaml", "agent.yml"])
def test_root_is_the_nearest_marked_folder(tmp_path: Path, marker: str) -> None:
    (tmp_path / "agent.yaml").touch()
    path = tmp_path / "project" / marker
    path.parent.mkdir(parents=True)
    path.touch()
    deep = tmp_path / "project/a/b"
    deep.mkdir(parents=True)
    assert find_project_root(deep) == tmp_path / "project"
    assert find_project_root(tmp_path) == tmp_path


def test_root_without_marker_is_the_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert find_project_root(Path()) == Path().absolute()


def test_set_get_and_order(tmp_path: Path) -> None:
    environments = Environments(tmp_path)
    assert environments.selected == "dev"
    assert environments.names() == ("dev",)
    assert environments.values() == {}
    environments.set({"B": "1", "A": 'say "hi"\n$HOME'})
    environments.set({"C": "", "B": "2"})
    assert environments.lines() == ('B="2"', 'A="say \\"hi\\"\\n\\$HOME"', 'C=""')
    assert list(environments.values()) == ["B", "A", "C"]
    environments.unset(["B", "nothing"])
    assert environments.values() == {"A": 'say "hi"\n$HOME', "C": ""}
    path = tmp_path / ".trunkline/dev/.env"
    assert environments.file() == path
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [p.name for p in path.parent.iterdir()] == [".env"]
    assert (tmp_path / ".trunkline/.gitignore").read_text() == "*\n"


def test_setting_keeps_comments(tmp_path: Path) -> None:
    environments = Environments(tmp_path)
    environments.set({"A": "0"})
    environments.file().write_text("# first\nA=1 # one\n\nexport B='2'\nA=3\n# last")
    environments.set({"A": "4", "C": "5"})
    assert environments.file().read_text() == (
        '# first\nA=1 # one\n\nexport B=\'2\'\nA="4"\n# last\nC="5"\n'
    )
    environments.unset(["A"])
    assert environments.file().read_text() == "# first\n\nexport B='2'\n# last\nC=\"5\"\n"


def test_select(tmp_path: Path) -> None:
    environments = Environments(tmp_path)
    environments.set({"A": "1"})
    (tmp_path / ".trunkline/config.json").write_text('{"other": 1}')
    environments.select("prod")
    assert environments.selected == "prod"
    assert environments.names() == ("dev", "prod")
    assert environments.values() == {}
    assert environments.values("dev") == {"A": "1"}
    config = json.loads((tmp_path / ".trunkline/config.json").read_text())
    assert config == {"other": 1, "environment": "prod"}


@pytest.mark.parametrize("name", ["", ".", "..", "../x", "a/b", ".hidden", "a" * 65, "a b"])
def test_bad_environment_name(tmp_path: Path, name: str) -> None:
    with pytest.raises(InvalidRequestError, match="is not an environment's name"):
        Environments(tmp_path).select(name)
    with pytest.raises(InvalidRequestError):
        Environments(tmp_path).set({"A": "1"}, name)


@pytest.mark.parametrize("text", ["{", "[]", '{"environment": "../x"}', '{"environment": 1}'])
def test_bad_config(tmp_path: Path, text: str) -> None:
    (tmp_path / ".trunkline").mkdir()
    (tmp_path / ".trunkline/config.json").write_text(text)
    with pytest.raises(ManifestError, match=r"config\.json"):
        _ = Environments(tmp_path).selected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("A=1", {"A": "1"}),
        ("A = 1 2  # note\r\nB=x#y\r\n", {"A": "1 2", "B": "x#y"}),
        ("  export A=1\n\n  # comment\n", {"A": "1"}),
        ("A='$x \\n'", {"A": "$x \\n"}),
        ('A="two\nlines" # note', {"A": "two\nlines"}),
        ('A="\\t\\q\\\\"', {"A": "\t\\q\\"}),
        ("A=\nB=#c\n", {"A": "", "B": ""}),
        ("A=1\nA=2", {"A": "2"}),
        ("\ufeffA=1".removeprefix("\ufeff"), {"A": "1"}),
        ("", {}),
    ],
)
def test_parse(text: str, expected: dict[str, str]) -> None:
    assert parse_env(text) == expected


@pytest.mark.parametrize(
    ("text", "place", "message"),
    [
        ("A=1\nhello\n", ".env:2:1", "is not KEY=VALUE"),
        ("A=1\n2B=1\n", ".env:2:1", '"2B" is not a variable\'s name'),
        ('A="x\nB=1', ".env:1:1", 'the quote " is never closed'),
        ("\nA='x", ".env:2:1", "the quote ' is never closed"),
        ('A="x"y', ".env:1:1", "has text after the closing quote"),
    ],
)
def test_parse_mistake(text: str, place: str, message: str) -> None:
    with pytest.raises(ManifestError) as caught:
        parse_env(text)
    assert str(caught.value).startswith(f"{place}: {message}")


def test_unreadable_files(tmp_path: Path) -> None:
    environments = Environments(tmp_path)
    path = environments.file()
    path.parent.mkdir(parents=True)
    path.write_bytes(b"A=\xff")
    with pytest.raises(ManifestError, match="is not UTF-8"):
        environments.values()
    path.write_bytes(b"#" * (1024 * 1024 + 1))
    with pytest.raises(ManifestError, match="larger than 1 MiB"):
        environments.values()
    path.unlink()
    path.mkdir()
    with pytest.raises(ManifestError, match="can't be read"):
        environments.values()
    with pytest.raises(ManifestError):
        environments.set({"A": "1"})


def test_failed_write_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    environments = Environments(tmp_path)
    environments.set({"A": "1"})

    def fail(self: Path, target: Path) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(Path, "replace", fail)
    with pytest.raises(OSError, match="disk full"):
        environments.set({"A": "2"})
    assert environments.values() == {"A": "1"}
    assert [p.name for p in environments.file().parent.iterdir()] == [".env"]


def test_assignment() -> None:
    assert parse_assignment("A=b=c ") == ("A", "b=c ")
    for text, message in [
        ("A", 'has no "="'),
        ("a-b=1", 'for example "a_b"'),
        ("A=\0", "NUL"),
        ("A=\ud800", "surrogate"),
        ("A=" + "x" * 65_537, "65537 bytes"),
    ]:
        with pytest.raises(InvalidRequestError, match=message):
            parse_assignment(text)


@given(st.dictionaries(KEYS, VALUES))
def test_round_trip(values: dict[str, str]) -> None:
    text = "".join(format_line(key, value) + "\n" for key, value in values.items())
    assert parse_env(text) == values
    assert text.count("\n") == len(values)


@settings(max_examples=50)
@given(before=st.dictionaries(KEYS, VALUES), after=st.dictionaries(KEYS, VALUES))
def test_set_round_trip(
    tmp_path_factory: pytest.TempPathFactory, before: dict[str, str], after: dict[str, str]
) -> None:
    environments = Environments(tmp_path_factory.mktemp("project"))
    environments.set(before)
    environments.set(after)
    assert environments.values() == before | after
    assert list(environments.values()) == list(before | after)


@given(st.text(alphabet="A=\"'\\# \n\r\t$x") | st.text())
def test_parsing_ends(text: str) -> None:
    with suppress(ManifestError):
        parse_env(text)
