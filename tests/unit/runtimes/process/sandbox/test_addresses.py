"""Which addresses are public, however they are written."""

import ipaddress

import pytest

from trunkline.runtimes.process.sandbox.addresses import parse_networks, refusal


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
