"""What is kept for a secret, only whoever has the secret reads."""

import json
from pathlib import Path

import pytest

from trunkline.console.kept import Held, Secrets


@pytest.fixture
def kept(tmp_path: Path) -> Secrets:
    return Secrets(tmp_path / "kept", lambda: 1000.0)


def test_what_is_kept_is_read_with_its_secret_alone(kept: Secrets, tmp_path: Path) -> None:
    one, two = kept.make("olga", 10, kept="for olga"), kept.make("otto", 10, kept="for otto")
    assert kept.find(one) == Held("olga", 1010, "for olga")
    # Whoever may write to the directory puts one's file in the other's place.
    files = {json.loads(p.read_text())["user"]: p for p in (tmp_path / "kept").iterdir()}
    assert "for" not in files["olga"].read_text()
    files["otto"].write_bytes(files["olga"].read_bytes())
    assert kept.find(two) is None


def test_something_else_can_be_kept_and_the_time_stays(kept: Secrets) -> None:
    secret = kept.make("olga", 10, kept="one")
    held = kept.find(secret)
    assert held is not None
    kept.change(secret, Held(held.user, held.until, "two"))
    assert kept.find(secret) == Held("olga", 1010, "two")
    assert kept.take(secret) == Held("olga", 1010, "two")
    assert kept.find(secret) is None


@pytest.mark.parametrize("sealed", ["", "AA==", "!", "é", 5, ["x"]])
def test_a_broken_file_is_none(kept: Secrets, tmp_path: Path, sealed: object) -> None:
    secret = kept.make("olga", 10, kept="one")
    (path,) = (tmp_path / "kept").iterdir()
    path.write_text(json.dumps({**json.loads(path.read_text()), "sealed": sealed}))
    found = kept.find(secret)
    assert found is None or found.kept == ""
