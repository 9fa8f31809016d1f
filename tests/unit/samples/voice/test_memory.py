from pathlib import Path

import pytest

from memory import Memory, MemoryFile

FULL = Memory(name="Zoë", turns=4, volume=9, last_said="Hello.")


def test_nothing_is_known_at_first(tmp_path: Path) -> None:
    assert MemoryFile(tmp_path / "conversation.json").memory == Memory()
    assert list(tmp_path.iterdir()) == []


def test_what_is_kept_is_there_for_the_next_process(tmp_path: Path) -> None:
    path = tmp_path / "conversation.json"
    MemoryFile(path).keep(FULL)
    assert MemoryFile(path).memory == FULL
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    "text",
    ["", "{", "[]", "7", '{"unknown": 1}', '{"turns": "many"}', '{"name": 3}', '{"volume": null}'],
)
def test_a_file_that_makes_no_sense_is_a_fresh_start(
    tmp_path: Path, text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "conversation.json"
    path.write_text(text, encoding="utf-8")
    assert MemoryFile(path).memory == Memory()
    assert "starting afresh" in capsys.readouterr().out


def test_a_failed_write_leaves_the_old_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "conversation.json"
    file = MemoryFile(path)
    file.keep(FULL)

    def fail(self: Path, target: Path) -> Path:
        raise OSError("disk full")

    monkeypatch.setattr(Path, "replace", fail)
    with pytest.raises(OSError, match="disk full"):
        file.keep(Memory())
    assert MemoryFile(path).memory == FULL
    assert list(tmp_path.iterdir()) == [path]
