"""What is shown on a terminal, and that a pipe gets it plain."""

import pytest

from trunkline.cli.progress import Progress
from trunkline.cli.tables import protocols_text, put_fields, put_table, time_text
from trunkline.client import Version

ROWS = [("echo", "a, b"), ("a-longer-name", "c\nd")]


def test_a_pipe_gets_one_row_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    put_table(("NAME", "PROTOCOLS"), ROWS)
    assert capsys.readouterr().out == (
        "NAME           PROTOCOLS\necho           a, b\na-longer-name  c d\n"
    )


def test_a_terminal_gets_a_table(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "20")
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    put_table(("NAME", "PROTOCOLS"), [("echo", "x" * 40)])
    lines = capsys.readouterr().out.splitlines()
    assert "NAME" in lines[0]
    assert max(map(len, lines)) < 80 or "\x1b" in "".join(lines)
    assert sum(line.count("x") for line in lines) == 40


def test_fields_are_never_folded(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    put_fields([("Endpoint", "ws://" + "x" * 300)])
    assert "x" * 300 in capsys.readouterr().out


def test_progress_in_a_pipe_is_lines(capsys: pytest.CaptureFixture[str]) -> None:
    with Progress() as progress:
        for step in ("one", "one", "two"):
            progress.step(step)
    assert capsys.readouterr().err == "one\ntwo\n"


def test_progress_on_a_terminal_ends_clean(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    with Progress() as progress:
        progress.step("one")
    assert capsys.readouterr().out == ""


def test_cells() -> None:
    assert time_text(None) == "-"
    assert time_text(1767225600).startswith(("2025-12-31", "2026-01-01"))
    assert protocols_text(None) == "-"
    assert protocols_text(Version(name="a", version="1")) == "-"
