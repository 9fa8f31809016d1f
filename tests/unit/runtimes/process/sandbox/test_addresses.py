"""Which addresses are public, however they are written."""

import ipaddress
from pathlib import Path

import pytest
from hypothesis import given, strategies

from trunkline.runtimes.process.sandbox.addresses import (
    NOT_PUBLIC,
    machines_networks,
    parse_networks,
    refusal,
    subtract,
)


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1", "127.255.0.1", "0.0.0.0", "10.0.0.1", "172.16.0.1", "172.31.255.255",
        "192.168.1.1", "169.254.169.254", "100.64.0.1", "198.18.0.1", "192.0.0.8", "224.0.0.1",
        "240.0.0.1", "255.255.255.255",
        "::", "::1", "fe80::1", "fd00::1", "fc00::1", "ff02::1", "2001:db8::1",
        "::ffff:127.0.0.1", "::ffff:10.0.0.1", "::127.0.0.1", "64:ff9b::7f00:1",
        "64:ff9b::a00:1", "64:ff9b:1::a9fe:a9fe", "2002:7f00:1::", "2002:a00:1::1",
        "2001:0:7f00:1::", "fec0::1",
    ],
)  # fmt: skip
def test_refused(address: str) -> None:
    assert refusal(ipaddress.ip_address(address)) == "isn't a public address"


@pytest.mark.parametrize(
    "address",
    ["1.1.1.1", "8.8.8.8", "172.32.0.1", "2606:4700:4700::1111"],
)
def test_allowed(address: str) -> None:
    assert refusal(ipaddress.ip_address(address)) is None


def test_an_operator_may_add_networks() -> None:
    private = parse_networks(["10.1.0.0/16", "::1"])
    assert refusal(ipaddress.ip_address("10.1.2.3"), private) is None
    assert refusal(ipaddress.ip_address("::1"), private) is None
    assert refusal(ipaddress.ip_address("10.2.0.1"), private) is not None
    with pytest.raises(ValueError, match="'ten'"):
        parse_networks(["ten"])


def test_the_machines_own_public_address_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "trunkline.runtimes.process.sandbox.addresses._is_ours", lambda address: True
    )
    assert refusal(ipaddress.ip_address("1.1.1.1")) == "is this machine's own address"


@given(strategies.ip_addresses(v=4))
def test_the_list_is_what_is_not_public(address: ipaddress.IPv4Address) -> None:
    """The proxy goes by addresses, interfaces by the list: both have to say the same."""
    is_listed = any(address in network for network in NOT_PUBLIC)
    assert is_listed == (refusal(address) == "isn't a public address")


@pytest.mark.parametrize("network", NOT_PUBLIC, ids=str)
def test_the_list_ends_where_public_addresses_begin(network: ipaddress.IPv4Network) -> None:
    for address in (network.network_address, network.broadcast_address):
        assert refusal(address) == "isn't a public address"
        for beside in (int(address) - 1, int(address) + 1):
            if 0 <= beside < 2**32 and (one := ipaddress.IPv4Address(beside)) not in network:
                is_listed = any(one in other for other in NOT_PUBLIC)
                assert is_listed == (refusal(one) == "isn't a public address")


def test_networks_without_others() -> None:
    (ten, low, high) = (
        ipaddress.IPv4Network(t) for t in ("10.0.0.0/8", "10.0.0.0/9", "10.128.0.0/9")
    )
    assert subtract([ten], [low]) == [high]
    assert subtract([low, high], [ten]) == []
    assert subtract([low], [high]) == [low]
    assert subtract([ten], []) == [ten]


TABLES = """\
Main:
  +-- 0.0.0.0/0 3 0 5
     |-- 0.0.0.0
        /0 universe UNICAST
     +-- 192.0.2.0/24 2 0 2
           |-- 8.8.0.0
              /16 link UNICAST
              /24 host LOCAL
           |-- 8.8.0.7
              /32 host LOCAL
        |-- 8.8.255.255
           /32 link BROADCAST
"""


def test_the_machines_own_addresses(tmp_path: Path) -> None:
    tables = tmp_path / "fib_trie"
    tables.write_text(TABLES)
    found = [str(network) for network in machines_networks(tables)]
    assert found == ["8.8.0.0/24", "8.8.0.7/32", "8.8.255.255/32"]


def test_this_machine_has_loopback() -> None:
    assert ipaddress.IPv4Network("127.0.0.1/32") in machines_networks()
