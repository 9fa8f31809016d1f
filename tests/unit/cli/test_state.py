"""The sessions that are remembered."""

import json
from pathlib import Path

import pytest

from trunkline.cli import state
from trunkline.cli.state import SessionMemory

HERE = "http://127.0.0.1:8080/api/projects/default"


def test_remembers_per_endpoint_and_agent(tmp_path: Path) -> None:
    memory = SessionMemory(tmp_path)
    memory.remember(HERE, "echo", "s1")
    memory.remember(HERE, "voice", "s2")
    memory.remember(HERE, "echo", "s3")
    assert SessionMemory(tmp_path).find(HERE, "echo") == "s3"
    assert memory.find(HERE, "voice") == "s2"
    assert memory.find("https://elsewhere/api/projects/default", "echo") is None
    path = tmp_path / "cli" / "sessions.json"
    assert path.stat().st_mode & 0o777 == 0o600
    assert [p.name for p in path.parent.iterdir()] == ["sessions.json"]


@pytest.mark.parametrize("text", ["", "{", "[]", '{"a": 1}'])
def test_a_broken_file_is_an_empty_one(tmp_path: Path, text: str) -> None:
    path = tmp_path / "cli" / "sessions.json"
    path.parent.mkdir()
    path.write_text(text)
    memory = SessionMemory(tmp_path)
    assert memory.find(HERE, "echo") is None
    memory.remember(HERE, "echo", "s1")
    assert memory.find(HERE, "echo") == "s1"


def test_a_directory_that_cant_be_written_is_no_failure(tmp_path: Path) -> None:
    (tmp_path / "cli").write_text("a file where a directory should be")
    SessionMemory(tmp_path).remember(HERE, "echo", "s1")


def test_it_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(state, "MAX_REMEMBERED", 2)
    memory = SessionMemory(tmp_path)
    for agent in ("a", "b", "a", "c"):
        memory.remember(HERE, agent, f"session-{agent}-{agent}")
    document = json.loads((tmp_path / "cli" / "sessions.json").read_text())
    assert len(document) == 2
    assert memory.find(HERE, "c") is not None
