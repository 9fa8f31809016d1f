"""Tables of what others may have chosen."""

import pytest

from trunkline.cli.tables import put_fields, put_table

#: Clears a screen, sets a window's title, and turns the order of letters round.
EVIL = "a\x1b[2J\x1b]0;title\x07b\x9b\u202ec\x7f"


def test_what_would_steer_a_terminal_is_shown_instead(capsys: pytest.CaptureFixture[str]) -> None:
    put_table(("NAME", "VALUE"), [(EVIL, "ü\nx\ty")])
    put_fields([(EVIL, EVIL)])
    shown = capsys.readouterr().out
    assert not set(shown) & set("\x1b\x07\x9b\u202e\x7f")
    assert r"a\x1b[2J\x1b]0;title\x07b\x9b\u202ec\x7f" in shown
    # A row stays a row.
    assert "ü x y\n" in shown
