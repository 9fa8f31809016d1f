"""Tokens for one's own machine."""

import pytest

from trunkline.auth.local import user_name


def test_a_user_without_a_name(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> str:
        raise KeyError("getpwuid(): uid not found")

    monkeypatch.setattr("getpass.getuser", fail)
    assert user_name().startswith("uid-")
