"""Whom people sign in with, as settings say it."""

from pathlib import Path
from typing import Any

import pytest

from trunkline.console.settings import ConsoleSettings

WITH = {"issuer": "https://login.example.com", "client_id": "console"}


@pytest.mark.parametrize(
    ("settings", "why"),
    [
        ({"issuer": "https://login.example.com"}, "go together"),
        ({"client_id": "console"}, "go together"),
        (WITH | {"scopes": ("profile",)}, "must have openid"),
        (WITH | {"call_with": "refresh_token"}, "access_token or id_token"),
        (WITH | {"parameters": ("audience",)}, "NAME=VALUE"),
    ],
)
def test_what_cant_be_meant_is_refused(settings: dict[str, Any], why: str) -> None:
    with pytest.raises(ValueError, match=why):
        ConsoleSettings(**settings)


def test_a_client_is_public_unless_it_has_a_secret() -> None:
    assert ConsoleSettings(**WITH).client_secret_file is None  # type: ignore[arg-type]
    given = ConsoleSettings(**WITH, client_secret_file=Path("secret"))  # type: ignore[arg-type]
    assert given.client_secret_file == Path("secret")
