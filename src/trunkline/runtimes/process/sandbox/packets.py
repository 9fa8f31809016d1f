"""Which packets of a session's interface get out: a program that the kernel runs for each.

It is attached to the interface itself, where nobody inside can change it, and the interface is the
only way out: routes only tell the agent sooner. A packet passes if it is one of IPv4, without
options, to an address that isn't refused. What passes, too, is the search for the gateway's
hardware address (ARP), and what is asked of the gateway's name server.
"""

import struct
from collections.abc import Iterable, Sequence
from ipaddress import IPv4Address, IPv4Network

from trunkline.runtimes.process.sandbox.addresses import NOT_PUBLIC, Network, subtract

_LOAD_WORD, _LOAD_HALF, _LOAD_BYTE = 0x20, 0x28, 0x30
_AND = 0x54
_IF_EQUAL, _IF_ABOVE, _IF_AT_LEAST = 0x15, 0x25, 0x35
_RETURN = 0x06
_PASS, _DROP = 0xFFFFFFFF, 0

# Places in an Ethernet frame that carries IPv4 without options.
_KIND, _VERSION_AND_SIZE, _FRAGMENT, _PROTOCOL, _TO, _TO_PORT = 12, 14, 20, 23, 30, 36
_ARP, _IPV4 = 0x0806, 0x0800
_NO_OPTIONS = 0x45
_IS_FRAGMENT = 0x3FFF
_TCP, _UDP = 6, 17
_NAMES_PORT = 53

#: What no setting opens: this network, loopback, multicast and above.
_NEVER = tuple(IPv4Network(text) for text in ("0.0.0.0/8", "127.0.0.0/8", "224.0.0.0/3"))


def refused_networks(
    private: Iterable[Network], own: Iterable[IPv4Network]
) -> tuple[IPv4Network, ...]:
    """Return the networks that an interface doesn't lead to, none inside another.

    Args:
        private: Those that may be reached although they aren't public.
        own: The machine's own addresses, which may not be in any case.
    """
    may_be_reached = [each for each in private if isinstance(each, IPv4Network)]
    refused = [*subtract(NOT_PUBLIC, may_be_reached), *own, *_NEVER]
    kept: list[IPv4Network] = []
    for network in sorted(refused):
        # A network sorts before those inside it.
        if not kept or not network.subnet_of(kept[-1]):
            kept.append(network)
    return tuple(kept)


def packet_filter(refused: Sequence[IPv4Network], *, names_at: IPv4Address | None) -> bytes:
    """Return the program as the kernel takes it.

    Args:
        refused: Where no packet may go.
        names_at: Who is asked for names, if that is the gateway's own server.
    """
    steps = [
        _step(_LOAD_HALF, _KIND),
        _step(_IF_EQUAL, _ARP, 0, 1),
        _step(_RETURN, _PASS),
        _step(_IF_EQUAL, _IPV4, 1, 0),
        _step(_RETURN, _DROP),
        _step(_LOAD_BYTE, _VERSION_AND_SIZE),
        _step(_IF_EQUAL, _NO_OPTIONS, 1, 0),
        _step(_RETURN, _DROP),
        _step(_LOAD_WORD, _TO),
    ]
    if names_at is not None:
        asks = _asks_for_names()
        steps += [_step(_IF_EQUAL, int(names_at), 0, len(asks)), *asks]
    for network in refused:
        first, last = int(network.network_address), int(network.broadcast_address)
        steps += [
            _step(_IF_AT_LEAST, first, 0, 2),
            _step(_IF_ABOVE, last, 1, 0),
            _step(_RETURN, _DROP),
        ]
    return b"".join((*steps, _step(_RETURN, _PASS)))


def _asks_for_names() -> list[bytes]:
    """Return what lets a packet through if it is whole and to the port of names, and no other."""
    return [
        _step(_LOAD_HALF, _FRAGMENT),
        _step(_AND, _IS_FRAGMENT),
        _step(_IF_EQUAL, 0, 1, 0),
        _step(_RETURN, _DROP),
        _step(_LOAD_BYTE, _PROTOCOL),
        _step(_IF_EQUAL, _UDP, 2, 0),
        _step(_IF_EQUAL, _TCP, 1, 0),
        _step(_RETURN, _DROP),
        _step(_LOAD_HALF, _TO_PORT),
        _step(_IF_EQUAL, _NAMES_PORT, 1, 0),
        _step(_RETURN, _DROP),
        _step(_RETURN, _PASS),
    ]


def _step(code: int, value: int, if_true: int = 0, if_false: int = 0) -> bytes:
    return struct.pack("=HBBI", code, if_true, if_false, value)
