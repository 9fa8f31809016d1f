"""Whose address counts behind proxies."""

import pytest

from trunkline.gateway.addresses import TrustedProxies
from trunkline.gateway.settings import GatewaySettings


@pytest.mark.parametrize(
    ("trusted", "peer", "forwarded", "client"),
    [
        ((), "127.0.0.1", "1.2.3.4", "127.0.0.1"),
        (("10.0.0.0/8",), "192.0.2.1", "1.2.3.4", "192.0.2.1"),
        (("10.0.0.0/8",), "10.1.2.3", None, "10.1.2.3"),
        (("10.0.0.0/8",), "10.1.2.3", "1.2.3.4", "1.2.3.4"),
        # Whoever is nearest and isn't trusted is the client: what he wrote himself isn't believed.
        (("10.0.0.0/8",), "10.1.2.3", "9.9.9.9, 1.2.3.4", "1.2.3.4"),
        (("10.0.0.0/8",), "10.1.2.3", "9.9.9.9, 1.2.3.4, 10.0.0.7", "1.2.3.4"),
        (("10.0.0.0/8",), "10.1.2.3", "10.0.0.9, 10.0.0.7", "10.0.0.9"),
        (("10.0.0.0/8",), "10.1.2.3", "1.2.3.4, unknown", "10.1.2.3"),
        (("10.0.0.0/8",), "10.1.2.3", "1.2.3.4, unknown, 10.0.0.7", "10.0.0.7"),
        (("10.0.0.0/8",), "10.1.2.3", "", "10.1.2.3"),
        (("10.0.0.0/8",), "10.1.2.3", ",,", "10.1.2.3"),
        (("10.0.0.0/8",), "10.1.2.3", "1.2.3.4:4711", "1.2.3.4"),
        (("fd00::/8",), "fd00::1", "[2001:db8::1]:4711", "2001:db8::1"),
        (("fd00::/8",), "fd00::1", "2001:db8::1", "2001:db8::1"),
        (("10.0.0.0/8",), "::ffff:10.0.0.1", "1.2.3.4", "1.2.3.4"),
        (("10.0.0.0/8",), "", "1.2.3.4", ""),
    ],
)
def test_the_client_is_the_nearest_who_is_not_trusted(
    trusted: tuple[str, ...], peer: str, forwarded: str | None, client: str
) -> None:
    assert TrustedProxies(trusted).client_of(peer, forwarded) == client


@pytest.mark.parametrize("network", ["10.0.0.1/8", "proxy.example", "10.0.0.0/33", "*"])
def test_only_networks_can_be_trusted(network: str) -> None:
    with pytest.raises(ValueError, match="trusted_proxies"):
        GatewaySettings(trusted_proxies=(network,))
