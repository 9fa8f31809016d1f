import pytest

from trunkline.agentserver._config import AgentConfig, check_grace, check_seconds


def test_an_empty_environment_gives_the_defaults():
    config = AgentConfig.from_env({})
    assert config.port == 8088
    assert config.ws_ping_interval == 0.0
    assert config.ws_keepalive_interval_s == 30.0
    assert config.sse_keepalive_interval == 0
    assert config.graceful_shutdown_timeout == 30
    assert config.agent_socket == ""
    assert config.is_hosted is False
    assert config.capture_message_content is True


@pytest.mark.parametrize(
    "name",
    [
        "PORT",
        "WS_KEEPALIVE_INTERVAL",
        "SSE_KEEPALIVE_INTERVAL",
        "AGENTSERVER_GRACEFUL_SHUTDOWN_TIMEOUT_SECONDS",
    ],
)
def test_an_empty_number_is_an_unset_one(name):
    assert AgentConfig.from_env({name: " "}) == AgentConfig.from_env({})


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("PORT", "0"),
        ("PORT", "70000"),
        ("PORT", "abc"),
        ("PORT", "1.5"),
        ("WS_KEEPALIVE_INTERVAL", "-1"),
        ("WS_KEEPALIVE_INTERVAL", "nan"),
        ("WS_KEEPALIVE_INTERVAL", "inf"),
        ("WS_KEEPALIVE_INTERVAL", "soon"),
        ("SSE_KEEPALIVE_INTERVAL", "1.5"),
        ("AGENTSERVER_GRACEFUL_SHUTDOWN_TIMEOUT_SECONDS", "abc"),
    ],
)
def test_a_bad_number_is_refused_by_name(name, value):
    with pytest.raises(ValueError, match=name):
        AgentConfig.from_env({name: value})


def test_an_explicit_zero_turns_pings_off():
    config = AgentConfig.from_env({"WS_KEEPALIVE_INTERVAL": "0"})
    assert config.ws_ping_interval == 0.0
    assert config.ws_keepalive_interval_s == 0.0


def test_a_set_interval_is_the_interval():
    config = AgentConfig.from_env({"WS_KEEPALIVE_INTERVAL": " 1e1 "})
    assert config.ws_ping_interval == config.ws_keepalive_interval_s == 10.0


def test_negative_numbers_that_may_be_zero_are_zero():
    config = AgentConfig.from_env(
        {"SSE_KEEPALIVE_INTERVAL": "-3", "AGENTSERVER_GRACEFUL_SHUTDOWN_TIMEOUT_SECONDS": "-3"}
    )
    assert config.sse_keepalive_interval == 0
    assert config.graceful_shutdown_timeout == 0


@pytest.mark.parametrize(
    ("name", "version", "expected"),
    [("weather", "3", "weather:3"), ("weather", "", "weather"), ("", "3", ""), ("", "", "")],
)
def test_the_agent_id_is_made_of_name_and_version(name, version, expected):
    env = {"FOUNDRY_AGENT_NAME": name, "FOUNDRY_AGENT_VERSION": version}
    assert AgentConfig.from_env(env).agent_id == expected


@pytest.mark.parametrize("guid", ["A" * 32, "a" * 31, "g" * 32])
def test_a_hosted_session_guid_is_checked(guid):
    env = {"FOUNDRY_AGENT_SESSION_GUID": guid}
    assert AgentConfig.from_env(env).session_guid == guid
    with pytest.raises(ValueError, match="FOUNDRY_AGENT_SESSION_GUID"):
        AgentConfig.from_env({**env, "FOUNDRY_HOSTING_ENVIRONMENT": "yes"})


@pytest.mark.parametrize("value", [True, 1.0, "1"])
def test_the_grace_period_is_an_integer(value):
    with pytest.raises(ValueError, match="expected an integer"):
        check_grace(value)


def test_seconds_are_checked():
    assert check_seconds("x", 0, allow_zero=True) == 0.0
    with pytest.raises(ValueError, match="x must be a finite, positive"):
        check_seconds("x", 0, allow_zero=False)
    with pytest.raises(ValueError, match="non-negative"):
        check_seconds("x", -1, allow_zero=True)
    with pytest.raises(TypeError, match="number of seconds"):
        check_seconds("x", "1", allow_zero=True)
