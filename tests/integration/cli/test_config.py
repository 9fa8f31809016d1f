"""config: whether the settings here are good, and what they are."""

from pathlib import Path

import pytest

from tests.integration.cli.conftest import Run


@pytest.fixture(autouse=True)
def here(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRUNKLINE_GATEWAY_MAX_CONNECTIONS", "50")


def test_good_settings_are_nothing_to_speak_of(cli: Run) -> None:
    done = cli("config", "check")
    assert (done.code, done.out, done.err) == (0, "", "")


def test_all_that_is_wrong_is_told(cli: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRUNKLINE_GATEWAY_HEAD_TIMEOUT_S", "10s")
    monkeypatch.setenv("TRUNKLINE_SESSION_IDLE_TIMEOUT_S", "10")
    for what in ("check", "show"):
        done = cli("config", what)
        assert (done.code, done.out) == (2, "")
        assert "TRUNKLINE_GATEWAY_HEAD_TIMEOUT_S='10s': give a number of seconds" in done.err
        assert "did you mean TRUNKLINE_SESSIONS_IDLE_TIMEOUT_S?" in done.err


@pytest.mark.parametrize(
    ("variable", "words"),
    [
        ("TRUNKLINE_AUTH_PROVIDERS_FILE", "can't read"),
        ("TRUNKLINE_GATEWAY_TLS_CERTIFICATE", "can't be used"),
        ("TRUNKLINE_STORE_URL_FILE", "can't read"),
    ],
)
def test_a_file_that_a_setting_names_is_looked_at(
    variable: str, words: str, cli: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv(variable, str(tmp_path / "none"))
    done = cli("config", "check")
    assert done.code in (1, 2)
    assert variable in done.err
    assert words in done.err


def test_what_is_set_is_shown_beside_its_default(cli: Run) -> None:
    header, row = cli("config", "show").out.splitlines()
    assert header.split() == ["VARIABLE", "VALUE", "DEFAULT"]
    assert row.split() == ["TRUNKLINE_GATEWAY_MAX_CONNECTIONS", "50", "20000"]


def test_all_settings_are_shown_as_they_would_be_written(cli: Run) -> None:
    found = {
        each["variable"]: each for each in cli("config", "show", "--defaults", "-o", "json").json
    }
    assert found["TRUNKLINE_GATEWAY_MAX_CONNECTIONS"]["is_set"] is True
    assert found["TRUNKLINE_GATEWAY_HEAD_TIMEOUT_S"] == {
        "variable": "TRUNKLINE_GATEWAY_HEAD_TIMEOUT_S",
        "value": "10",
        "default": "10",
        "is_set": False,
    }
    assert found["TRUNKLINE_GATEWAY_ALLOWED_ORIGINS"]["value"] == "same-origin,loopback"
    assert found["TRUNKLINE_GATEWAY_COMPILED_RELAY"]["value"] == "true"
    assert found["TRUNKLINE_GATEWAY_TLS_KEY"]["value"] == ""


def test_a_password_is_not_shown(cli: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRUNKLINE_STORE_URL", "postgresql://me:hush@db.example/x")
    done = cli("config", "show")
    assert "hush" not in done.out
    assert "(set)" in done.out
