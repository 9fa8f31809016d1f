"""Which addresses agents may reach: public ones, and what an operator adds."""

import ipaddress
import socket
from collections.abc import Sequence

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network

_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")
_NAT64_LOCAL = ipaddress.IPv6Network("64:ff9b:1::/48")
_COMPATIBLE = ipaddress.IPv6Network("::/96")
#: What Python's tables take for public, or have taken for it in some version.
_NEVER: tuple[Network, ...] = (
    ipaddress.IPv4Network("192.0.0.0/24"),
    ipaddress.IPv6Network("fec0::/10"),
)


def parse_networks(texts: Sequence[str]) -> tuple[Network, ...]:
    """Read networks such as ``10.1.0.0/16``.

    Raises:
        ValueError: If one isn't a network.
    """
    return tuple(ipaddress.ip_network(text, strict=False) for text in texts)


def refusal(address: Address, private: Sequence[Network] = ()) -> str | None:
    """Say why an address may not be reached, or None if it may."""
    if any(address in network for network in private if network.version == address.version):
        return None
    for one in (address, *_embedded(address)):
        is_public = one.is_global and not (one.is_multicast or one.is_reserved)
        if not is_public or any(one in net for net in _NEVER if net.version == one.version):
            return "isn't a public address"
    if _is_ours(address):
        return "is this machine's own address"
    return None


def _embedded(address: Address) -> list[Address]:
    """Return the IPv4 addresses that an IPv6 address may lead to."""
    if isinstance(address, ipaddress.IPv4Address):
        return []
    found: list[Address] = [one for one in (address.ipv4_mapped, address.sixtofour) if one]
    if address.teredo:
        found += address.teredo
    if any(address in network for network in (_NAT64, _NAT64_LOCAL, _COMPATIBLE)):
        found.append(ipaddress.IPv4Address(int(address) & 0xFFFFFFFF))
    return found


def _is_ours(address: Address) -> bool:
    # Only an address of the machine's own can be bound.
    family = socket.AF_INET if address.version == 4 else socket.AF_INET6
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as sock:
            sock.bind((str(address), 0))
    except OSError:
        return False
    return True
