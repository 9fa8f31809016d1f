"""What the operator allows and what a version asks for."""

import pytest

from trunkline.runtimes.process.sandbox.egress import EgressPolicy
from trunkline.runtimes.process.sandbox.policy import NetworkPolicy, session_network


def network(operator: str, *, allow: tuple[str, ...] = (), **environment: str):
    return session_network(NetworkPolicy(operator), environment, allow=allow, private=())


def test_a_version_may_have_less() -> None:
    assert network("outbound").policy is NetworkPolicy.OUTBOUND
    assert network("outbound", TRUNKLINE_NETWORK="none").policy is NetworkPolicy.NONE
    assert network("host", TRUNKLINE_NETWORK="outbound").policy is NetworkPolicy.OUTBOUND


def test_an_interface_is_more_than_a_proxy_and_less_than_the_machines_network() -> None:
    assert network("host", TRUNKLINE_NETWORK="direct").policy is NetworkPolicy.DIRECT
    assert network("direct", TRUNKLINE_NETWORK="outbound").policy is NetworkPolicy.OUTBOUND
    with pytest.raises(ValueError, match="asks for direct, and this platform allows outbound"):
        network("outbound", TRUNKLINE_NETWORK="direct")


def test_an_interface_does_not_go_with_names() -> None:
    with pytest.raises(ValueError, match="TRUNKLINE_EGRESS_ALLOW names hosts, and the network is"):
        network("direct", TRUNKLINE_EGRESS_ALLOW="api.example.com")
    with pytest.raises(ValueError, match="TRUNKLINE_PROCESS_EGRESS_ALLOW names hosts"):
        network("host", allow=("api.example.com",), TRUNKLINE_NETWORK="direct")
    less = network("direct", TRUNKLINE_EGRESS_ALLOW="api.example.com", TRUNKLINE_NETWORK="outbound")
    assert not less.egress.allows_host("other.example.com")


def test_a_version_may_not_have_more() -> None:
    with pytest.raises(ValueError, match="asks for host, and this platform allows outbound"):
        network("outbound", TRUNKLINE_NETWORK="host")
    with pytest.raises(ValueError, match="'all'; give none, outbound, direct or host"):
        network("outbound", TRUNKLINE_NETWORK="all")


@pytest.mark.parametrize(
    ("patterns", "host", "expected"),
    [
        ((), "anything.example", True),
        (("api.example.com",), "api.example.com", True),
        (("api.example.com",), "API.example.com.", True),
        (("api.example.com",), "xapi.example.com", False),
        (("*.example.com",), "a.b.example.com", True),
        (("*.example.com",), "example.com", False),
        (("*.example.com",), "badexample.com", False),
        (("*.example.com",), "example.com.evil.net", False),
    ],
)
def test_hosts(patterns: tuple[str, ...], host: str, expected: bool) -> None:
    assert EgressPolicy(allow=patterns).allows_host(host) is expected


def test_both_lists_have_to_agree() -> None:
    egress = network(
        "outbound", allow=("*.example.com",), TRUNKLINE_EGRESS_ALLOW="api.example.com, evil.net"
    ).egress
    assert egress.allows_host("api.example.com")
    assert not egress.allows_host("other.example.com")
    assert not egress.allows_host("evil.net")


def test_lists_without_anything_in_common_allow_nothing() -> None:
    egress = network("outbound", allow=("a.com",), TRUNKLINE_EGRESS_ALLOW="b.com").egress
    assert not egress.allows_host("a.com")
    assert not egress.allows_host("b.com")
