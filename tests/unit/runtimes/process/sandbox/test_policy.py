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


def test_an_interface_is_told_to_be_lacking() -> None:
    with pytest.raises(ValueError, match="an interface with NAT isn't built"):
        network("host", TRUNKLINE_NETWORK="direct")


def test_a_version_may_not_have_more() -> None:
    with pytest.raises(ValueError, match="asks for host, and this platform allows outbound"):
        network("outbound", TRUNKLINE_NETWORK="host")
    with pytest.raises(ValueError, match="'all'; give none, outbound or host"):
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
