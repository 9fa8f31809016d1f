"""Where a project is."""

import pytest

from trunkline.client import (
    DEFAULT_ENDPOINT,
    Endpoint,
    EndpointError,
    parse_agent_address,
    resolve_endpoint,
)


@pytest.mark.parametrize(
    ("text", "url"),
    [
        (
            "http://127.0.0.1:8080/api/projects/default",
            "http://127.0.0.1:8080/api/projects/default",
        ),
        ("https://host/api/projects/demo/", "https://host/api/projects/demo"),
        ("https://host:443/api/projects/demo", "https://host/api/projects/demo"),
        ("http://[::1]:9000/api/projects/demo", "http://[::1]:9000/api/projects/demo"),
        ("http://localhost:8080", "http://localhost:8080/api/projects/default"),
        (" https://HOST/ ", "https://host/api/projects/default"),
    ],
)
def test_parses(text: str, url: str) -> None:
    assert Endpoint.parse(text).url == url


@pytest.mark.parametrize(
    "text",
    [
        "",
        "host:8080",
        "ftp://host/api/projects/x",
        "https:///api/projects/x",
        "https://host/api/projects/",
        "https://host/api/projects/x/agents/y",
        "https://host/elsewhere",
        "https://host/api/projects/x?api-version=v1",
        "https://host:port/api/projects/x",
        "https://[::1/api/projects/x",
    ],
)
def test_says_what_an_endpoint_looks_like(text: str) -> None:
    with pytest.raises(EndpointError, match="an endpoint looks like https://HOST"):
        Endpoint.parse(text)


def test_never_repeats_a_password() -> None:
    with pytest.raises(EndpointError) as raised:
        Endpoint.parse("https://user:geheim@host/api/projects/x")
    assert "geheim" not in str(raised.value)


@pytest.mark.parametrize(
    ("host", "is_loopback"),
    [
        ("127.0.0.1", True),
        ("127.8.8.8", True),
        ("[::1]", True),
        ("localhost", True),
        ("demo.localhost", True),
        ("10.0.0.1", False),
        ("localhost.example.com", False),
        ("0.0.0.0", False),
    ],
)
def test_knows_this_machine(host: str, is_loopback: bool) -> None:
    assert Endpoint.parse(f"http://{host}:1/api/projects/x").is_loopback is is_loopback


def test_addresses_below() -> None:
    endpoint = Endpoint.parse("https://host/api/projects/demo")
    assert (
        endpoint.websocket_url("echo", {"agent_session_id": "a:b"})
        == "wss://host/api/projects/demo/agents/echo/endpoint/protocols/invocations_ws"
        "?api-version=v1&agent_session_id=a%3Ab"
    )
    assert (
        endpoint.log_stream_url("echo", "a:b")
        == "https://host/api/projects/demo/agents/echo/sessions/a:b:logstream"
    )
    assert Endpoint.parse("http://http/").websocket_url("echo").startswith("ws://http/")


@pytest.mark.parametrize("agent", ["", "..", "a/b", "-a", "a" * 64, "a?b"])
def test_refuses_names_that_would_change_the_address(agent: str) -> None:
    with pytest.raises(EndpointError, match="can't be an agent's name"):
        Endpoint.parse(DEFAULT_ENDPOINT).agent_url(agent)


def test_resolution_order() -> None:
    ours, theirs, flag = (f"https://{name}/api/projects/x" for name in ("ours", "theirs", "flag"))
    both = {"TRUNKLINE_ENDPOINT": ours, "FOUNDRY_PROJECT_ENDPOINT": theirs}
    assert resolve_endpoint(flag, both).host == "flag"
    assert resolve_endpoint(None, both).host == "ours"
    assert resolve_endpoint(None, {"FOUNDRY_PROJECT_ENDPOINT": theirs}).host == "theirs"
    assert resolve_endpoint(None, {"TRUNKLINE_ENDPOINT": ""}).url == DEFAULT_ENDPOINT


@pytest.mark.parametrize(
    ("text", "url", "agent", "session"),
    [
        (
            "ws://127.0.0.1:8080/api/projects/default/agents/echo/endpoint/protocols/"
            "invocations_ws?api-version=v1",
            "http://127.0.0.1:8080/api/projects/default",
            "echo",
            None,
        ),
        (
            "wss://acct.services.ai.azure.com/api/projects/p/agents/voice/endpoint/protocols/"
            "invocations_ws?api-version=v1&agent_session_id=s-1",
            "https://acct.services.ai.azure.com/api/projects/p",
            "voice",
            "s-1",
        ),
        (
            "wss://host/api/projects/agents/endpoint/protocols/invocations_ws"
            "?project_name=p&agent_name=voice&foundry_features=HostedAgents=V1Preview",
            "https://host/api/projects/p",
            "voice",
            None,
        ),
        ("https://host/api/projects/p/agents/a", "https://host/api/projects/p", "a", None),
    ],
)
def test_an_agents_address(text: str, url: str, agent: str, session: str | None) -> None:
    address = parse_agent_address(text)
    assert (address.endpoint.url, address.agent, address.session_id) == (url, agent, session)


@pytest.mark.parametrize(
    "text",
    [
        "https://host/api/projects/p",
        "https://host/api/projects/p/agents/",
        "https://host/api/projects/p/agents/bad_name!",
        "https://host/api/projects/agents/endpoint/protocols/invocations_ws?project_name=p",
        "ftp://host/api/projects/p/agents/a",
        "https://user:secret@host/api/projects/p/agents/a",
    ],
)
def test_no_agents_address(text: str) -> None:
    with pytest.raises(EndpointError) as raised:
        parse_agent_address(text)
    assert "secret" not in str(raised.value)
