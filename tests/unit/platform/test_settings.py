"""All settings of the platform, from one environment."""

from pathlib import Path

import pytest

from trunkline.config import SettingsError, settable, variable_of
from trunkline.platform.settings import COMPONENTS, load_settings

STATE = Path("/state")


def problems_of(env: dict[str, str]) -> list[str]:
    with pytest.raises(SettingsError) as caught:
        load_settings(env, STATE)
    return caught.value.problems


def test_defaults() -> None:
    settings = load_settings({"PATH": "/bin"}, STATE)
    assert settings.process.state_dir == STATE
    assert settings.process.platform_environment == {"PATH": "/bin"}
    assert settings.gateway == COMPONENTS["gateway"]()
    assert settings.sessions == COMPONENTS["sessions"]()
    assert settings.auth == COMPONENTS["auth"]()


def test_each_component_gets_its_own() -> None:
    env = {
        "TRUNKLINE_GATEWAY_DRAIN_TIMEOUT_S": "3",
        "TRUNKLINE_GATEWAY_PROJECTS": "a,b",
        "TRUNKLINE_SESSIONS_IDLE_TIMEOUT_S": "4",
        "TRUNKLINE_AUTH_AUDIENCE": "me",
        "TRUNKLINE_PROCESS_RUN_DIR": "/run",
    }
    settings = load_settings(env, STATE)
    assert (settings.gateway.drain_timeout_s, settings.gateway.projects) == (3.0, ("a", "b"))
    assert settings.sessions.idle_timeout_s == 4.0
    assert settings.auth.audience == "me"
    assert settings.process.run_dir == Path("/run")


def test_everything_wrong_is_told_at_once() -> None:
    problems = problems_of(
        {
            "TRUNKLINE_GATEWAY_MAX_HEAD_BYTES": "many",
            "TRUNKLINE_SESSIONS_IDLE_TIMEOUT_S": "0",
            "TRUNKLINE_AUTH_LEEWAY_S": "1000",
            "TRUNKLINE_GATWAY_PROJECTS": "x",
        }
    )
    assert len(problems) == 4
    for words in (
        "MAX_HEAD_BYTES",
        "idle_timeout_s",
        "leeway_s",
        "mean TRUNKLINE_GATEWAY_PROJECTS",
    ):
        assert any(words in problem for problem in problems)


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("TRUNKLINE_GATEWAY_PROJECTS", " , "),
        ("TRUNKLINE_GATEWAY_MAX_HEAD_BYTES", "1023"),
        ("TRUNKLINE_GATEWAY_MAX_FRAME_BYTES", "124"),
        ("TRUNKLINE_GATEWAY_WRITE_BUFFER_BYTES", "0"),
        ("TRUNKLINE_GATEWAY_HEAD_TIMEOUT_S", "-1"),
        ("TRUNKLINE_SESSIONS_LOG_MAX_BYTES", "1"),
        ("TRUNKLINE_AUTH_AUDIENCE", ""),
    ],
)
def test_values_that_make_no_sense(variable: str, value: str) -> None:
    (problem,) = problems_of({variable: value})
    assert variable.partition("_")[2].partition("_")[2].lower() in problem


_SECONDS = [
    variable_of(component, name)
    for component, settings in COMPONENTS.items()
    for name in settable(settings)
    if name.endswith("_s")
]


@pytest.mark.parametrize("value", ["nan", "inf"])
def test_seconds_are_a_finite_number(value: str) -> None:
    told = "\n".join(problems_of(dict.fromkeys(_SECONDS, value)))
    assert [variable for variable in _SECONDS if variable not in told] == []
