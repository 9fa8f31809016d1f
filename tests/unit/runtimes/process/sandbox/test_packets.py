"""Which packets get out of a session's interface, as the kernel would run the filter."""

import struct
from ipaddress import IPv4Address, IPv4Network, ip_address

import pytest
from hypothesis import given, strategies

from trunkline.runtimes.process.sandbox.addresses import NOT_PUBLIC, parse_networks, refusal
from trunkline.runtimes.process.sandbox.packets import packet_filter, refused_networks

NAMES = IPv4Address("198.18.0.3")
OWN = IPv4Network("8.8.8.8/32")
TCP, UDP, ICMP = 6, 17, 1
IPV4, IPV6, ARP, VLAN = 0x0800, 0x86DD, 0x0806, 0x8100


def run(program: bytes, frame: bytes) -> bool:
    """Run a filter as the kernel does: what reads past the end of a frame drops it."""
    steps = list(struct.iter_unpack("=HBBI", program))
    value, at = 0, 0
    while True:
        code, if_true, if_false, operand = steps[at]
        at += 1
        match code:
            case 0x20 | 0x28 | 0x30:
                size = {0x20: 4, 0x28: 2, 0x30: 1}[code]
                if operand + size > len(frame):
                    return False
                value = int.from_bytes(frame[operand : operand + size], "big")
            case 0x54:
                value &= operand
            case 0x15:
                at += if_true if value == operand else if_false
            case 0x25:
                at += if_true if value > operand else if_false
            case 0x35:
                at += if_true if value >= operand else if_false
            case 0x06:
                return operand > 0
            case _:
                raise AssertionError(hex(code))


def frame(
    to: str, *, kind: int = IPV4, protocol: int = TCP, port: int = 443, first: int = 0x45,
    fragment: int = 0,
) -> bytes:  # fmt: skip
    header = struct.pack(
        "!BBHHHBBH4s4s", first, 0, 40, 1, fragment, 64, protocol, 0, bytes(4),
        ip_address(to).packed,
    )  # fmt: skip
    return (
        bytes(12) + struct.pack("!H", kind) + header + struct.pack("!HH", 40000, port) + bytes(16)
    )


def passes(
    *arguments: str, private: tuple[str, ...] = (), names: bool = True, **facts: int
) -> bool:
    refused = refused_networks(parse_networks(private), [OWN])
    program = packet_filter(refused, names_at=NAMES if names else None)
    return run(program, frame(*arguments, **facts))


def test_public_addresses_are_reached_by_any_protocol() -> None:
    for protocol in (TCP, UDP, ICMP, 132):
        assert passes("1.1.1.1", protocol=protocol)
    assert passes("1.1.1.1", fragment=0x2000)


@given(strategies.ip_addresses(v=4))
def test_what_the_proxy_refuses_is_refused(address: IPv4Address) -> None:
    if address == NAMES or address in OWN:
        return
    assert passes(str(address)) == (refusal(address) != "isn't a public address")


@pytest.mark.parametrize("network", NOT_PUBLIC, ids=str)
def test_the_ends_of_what_is_refused(network: IPv4Network) -> None:
    assert not passes(str(network.network_address))
    assert not passes(str(network.broadcast_address))


def test_the_machines_own_addresses_are_refused_whatever_is_allowed() -> None:
    assert not passes("8.8.8.8")
    assert not passes("8.8.8.8", private=("8.8.8.0/24", "8.8.8.8/32"))
    assert passes("8.8.8.9")


def test_a_private_network_may_be_allowed() -> None:
    assert passes("10.1.2.3", private=("10.1.0.0/16",))
    assert not passes("10.2.2.3", private=("10.1.0.0/16",))
    assert passes("192.168.3.4", private=("192.0.0.0/8", "fd00::/8"))


def test_loopback_and_multicast_never_are() -> None:
    for address in ("127.0.0.1", "0.0.0.1", "224.0.0.251", "255.255.255.255"):
        assert not passes(address, private=("0.0.0.0/0",))
    assert passes("10.0.0.1", private=("0.0.0.0/0",))


def test_other_kinds_of_packets_do_not_get_out() -> None:
    assert passes("10.0.0.1", kind=ARP)
    for kind in (IPV6, VLAN, 0x8847, 0):
        assert not passes("1.1.1.1", kind=kind)


def test_packets_with_options_do_not_get_out() -> None:
    # They could say another way, and move what is looked at.
    for first in (0x46, 0x4F, 0x44, 0x65):
        assert not passes("1.1.1.1", first=first)


def test_short_packets_do_not_get_out() -> None:
    program = packet_filter(refused_networks((), ()), names_at=NAMES)
    assert not any(run(program, frame("1.1.1.1")[:size]) for size in range(34))


def test_of_the_gateway_names_are_asked_and_nothing_else() -> None:
    for protocol in (TCP, UDP):
        assert passes(str(NAMES), protocol=protocol, port=53)
        assert not passes(str(NAMES), protocol=protocol, port=8080)
        assert not passes(str(NAMES), protocol=protocol, port=53, fragment=0x2000)
        assert not passes(str(NAMES), protocol=protocol, port=53, fragment=7)
        assert not passes("198.18.0.2", protocol=protocol, port=53)
        assert not passes(str(NAMES), protocol=protocol, port=53, names=False)
    assert not passes(str(NAMES), protocol=ICMP, port=53)


def test_what_is_refused_is_said_once() -> None:
    networks = refused_networks((), [OWN, IPv4Network("10.0.0.7/32"), IPv4Network("127.0.0.1/32")])
    assert not [(a, b) for a in networks for b in networks if a != b and a.overlaps(b)]
    assert OWN in networks
    assert IPv4Network("224.0.0.0/3") in networks
