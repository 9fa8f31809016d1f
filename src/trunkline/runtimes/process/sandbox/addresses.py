"""Which addresses agents may reach: public ones, and what an operator adds."""

import ipaddress
import socket
from collections.abc import Iterable, Sequence
from pathlib import Path

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network

_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")
_NAT64_LOCAL = ipaddress.IPv6Network("64:ff9b:1::/48")
_COMPATIBLE = ipaddress.IPv6Network("::/96")
#: The IPv4 addresses that aren't public: of this network, private, of carriers, loopback,
#: link-local, of protocols, of documents and benchmarks, relays to IPv6, multicast, and reserved.
NOT_PUBLIC: tuple[ipaddress.IPv4Network, ...] = tuple(
    ipaddress.IPv4Network(text)
    for text in (
        "0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16",
        "172.16.0.0/12", "192.0.0.0/24", "192.0.2.0/24", "192.88.99.0/24", "192.168.0.0/16",
        "198.18.0.0/15", "198.51.100.0/24", "203.0.113.0/24", "224.0.0.0/4", "240.0.0.0/4",
    )
)  # fmt: skip
#: What Python's tables take for public, or have taken for it in some version.
_NEVER: tuple[Network, ...] = (*NOT_PUBLIC, ipaddress.IPv6Network("fec0::/10"))


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


def subtract(
    networks: Iterable[ipaddress.IPv4Network], without: Iterable[ipaddress.IPv4Network]
) -> list[ipaddress.IPv4Network]:
    """Return networks without those addresses that are also in others."""
    left = list(networks)
    for other in without:
        kept: list[ipaddress.IPv4Network] = []
        for network in left:
            if not network.overlaps(other):
                kept.append(network)
            elif other != network and other.subnet_of(network):
                kept += network.address_exclude(other)
        left = kept
    return left


def machines_networks(tables: Path = Path("/proc/net/fib_trie")) -> list[ipaddress.IPv4Network]:
    """Return the IPv4 addresses that are this machine's own, as far as its network is ours.

    Raises:
        OSError: If the kernel doesn't say.
    """
    found: set[ipaddress.IPv4Network] = set()
    address = ""
    for line in tables.read_text(encoding="ascii").splitlines():
        match line.split():
            case ["|--", address]:
                pass
            case [length, "host", "LOCAL"] | [length, "link", "BROADCAST"]:
                found.add(ipaddress.IPv4Network(address + length, strict=False))
            case _:
                pass
    return sorted(found)


def _is_ours(address: Address) -> bool:
    # Only an address of the machine's own can be bound.
    family = socket.AF_INET if address.version == 4 else socket.AF_INET6
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as sock:
            sock.bind((str(address), 0))
    except OSError:
        return False
    return True
