from pathlib import Path

import pytest

import settings


def test_everything_has_a_default() -> None:
    read = settings.read({})
    assert read.turn_rules.endpoint_silence_ms == 480
    assert read.memory_file == Path("conversation.json")
    assert read.session_id == "local"


def test_the_platform_names_home_and_session() -> None:
    read = settings.read({"HOME": "/home/session", "FOUNDRY_AGENT_SESSION_ID": "abc"})
    assert read.memory_file == Path("/home/session/conversation.json")
    assert read.session_id == "abc"


@pytest.mark.parametrize(("text", "value"), [("", 480), ("  ", 480), ("288", 288), (" 640 ", 640)])
def test_endpoint_silence(text: str, value: int) -> None:
    read = settings.read({"ENDPOINT_SILENCE_MS": text})
    assert read.turn_rules.endpoint_silence_ms == value
    assert read.turn_rules.whole_silence_ms == 320


def test_whole_silence() -> None:
    assert settings.read({"WHOLE_SILENCE_MS": "512"}).turn_rules.whole_silence_ms == 512


@pytest.mark.parametrize("text", ["0", "31", "5001", "-5", "416.0", "fast", "²"])
@pytest.mark.parametrize("name", ["ENDPOINT_SILENCE_MS", "WHOLE_SILENCE_MS"])
def test_a_bad_silence_names_the_variable(name: str, text: str) -> None:
    with pytest.raises(ValueError, match=name):
        settings.read({name: text})
