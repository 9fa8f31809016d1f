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
        "TRUNKLINE_SESSIONS_IDLE_TIMEOUT_S=0 must be more than 0",
        "TRUNKLINE_AUTH_LEEWAY_S=1000 must be between 0 and 300",
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
    assert problem.startswith(variable)


@pytest.mark.parametrize(
    ("variable", "value", "problem"),
    [
        ("GATEWAY_ALLOWED_ORIGINS", "*", "'*' isn't an origin"),
        ("GATEWAY_TRUSTED_PROXIES", "proxy", "give networks like 10.0.0.0/8"),
        ("AUTH_DEVELOPMENT_ROLES", "boss", "'boss' isn't a grant"),
        ("PROCESS_DIRECT_RESOLVERS", "dns", "has 'dns'; give IPv4 addresses such as 9.9.9.9"),
        ("PROCESS_EGRESS_PRIVATE", "lan", "has 'lan'; give networks such as 10.1.0.0/16"),
        ("PROCESS_SANDBOX", "on", "is 'on'; give off, auto or required"),
        ("GATEWAY_PROJECTS", "team a", "has 'team a'; give names of 1 to 64 letters"),
        ("GATEWAY_ON_EXPIRY", "shut", "must be ignore, close or refresh"),
    ],
)
def test_what_is_wrong_with_a_word_is_said_of_its_variable(
    variable: str, value: str, problem: str
) -> None:
    (told,) = problems_of({f"TRUNKLINE_{variable}": value})
    assert told.startswith(f"TRUNKLINE_{variable}")
    assert problem in told


def test_two_wrong_values_of_one_component_are_both_told() -> None:
    problems = problems_of(
        {
            "TRUNKLINE_SESSIONS_IDLE_TIMEOUT_S": "15m",
            "TRUNKLINE_SESSIONS_READY_TIMEOUT_S": "-1",
            "TRUNKLINE_SESSIONS_NODE_TIMEOUT_S": "1",
        }
    )
    assert problems == [
        "TRUNKLINE_SESSIONS_IDLE_TIMEOUT_S='15m': give a number of seconds without a unit: 900",
        "TRUNKLINE_SESSIONS_READY_TIMEOUT_S=-1 must be more than 0",
        "TRUNKLINE_SESSIONS_NODE_TIMEOUT_S=1 must be at least three times "
        "TRUNKLINE_SESSIONS_UPKEEP_INTERVAL_S",
    ]


def test_a_password_in_a_wrong_value_is_not_repeated() -> None:
    (told,) = problems_of({"TRUNKLINE_STORE_URL": "mysql://me:hush@db/x"})
    assert told.startswith("TRUNKLINE_STORE_URL must begin with postgresql://")
    assert "hush" not in told


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
