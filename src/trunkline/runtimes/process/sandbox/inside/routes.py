"""Gives a network its addresses and routes, as the kernel's netlink protocol has it.

Only what a session's interface needs, for IPv4, and in a network that we may change.
"""

import contextlib
import os
import socket
import struct
from collections.abc import Iterator
from ipaddress import IPv4Address, IPv4Network

_NEW_LINK, _NEW_ADDRESS, _NEW_ROUTE, _ERROR = 16, 20, 24, 2
_REQUEST, _ACKNOWLEDGE, _EXCLUSIVE, _CREATE = 0x1, 0x4, 0x200, 0x400
_HEADER = struct.Struct("=IHHII")
_ATTRIBUTE = struct.Struct("=HH")
_LINK = struct.Struct("=BxHiII")
_ADDRESS = struct.Struct("=BBBBI")
_ROUTE = struct.Struct("=BBBBBBBBI")
_LINK_MTU = 4
_ADDRESS_PEER, _ADDRESS_OWN = 1, 2
_ROUTE_TO, _ROUTE_INTERFACE, _ROUTE_GATEWAY = 1, 4, 5
_MAIN_TABLE, _BY_US = 254, 4
_EVERYWHERE, _ON_LINK = 0, 253
_UNICAST, _UNREACHABLE = 1, 7
_IS_UP = 0x1
_MAX_ANSWER_BYTES = 4096


class Routes:
    """The addresses and routes of the network that this process is in."""

    def __init__(self, sock: socket.socket) -> None:
        self._socket = sock
        self._number = 0

    def bring_up(self, interface: str, mtu: int) -> None:
        """Have an interface carry packets of up to so many bytes."""
        index = socket.if_nametoindex(interface)
        body = _LINK.pack(socket.AF_UNSPEC, 0, index, _IS_UP, _IS_UP)
        self._ask(_NEW_LINK, body + _attribute(_LINK_MTU, struct.pack("=I", mtu)))

    def add_address(self, interface: str, address: IPv4Address) -> None:
        """Give an interface an address, and no neighbours by it."""
        body = _ADDRESS.pack(socket.AF_INET, 32, 0, 0, socket.if_nametoindex(interface))
        packed = address.packed
        self._ask(
            _NEW_ADDRESS,
            body + _attribute(_ADDRESS_OWN, packed) + _attribute(_ADDRESS_PEER, packed),
        )

    def add_neighbour(self, interface: str, address: IPv4Address) -> None:
        """Say that an address is on the other side of an interface."""
        via = _attribute(_ROUTE_INTERFACE, struct.pack("=I", socket.if_nametoindex(interface)))
        self._add(IPv4Network(address), _UNICAST, _ON_LINK, via)

    def add_gateway(self, address: IPv4Address) -> None:
        """Send what has no other route to a neighbour."""
        via = _attribute(_ROUTE_GATEWAY, address.packed)
        self._add(IPv4Network("0.0.0.0/0"), _UNICAST, _EVERYWHERE, via)

    def refuse(self, network: IPv4Network) -> None:
        """Have who goes there be told at once that there is no way."""
        self._add(network, _UNREACHABLE, _EVERYWHERE, b"")

    def _add(self, to: IPv4Network, kind: int, scope: int, via: bytes) -> None:
        length = to.prefixlen
        body = _ROUTE.pack(socket.AF_INET, length, 0, 0, _MAIN_TABLE, _BY_US, scope, kind, 0)
        there = _attribute(_ROUTE_TO, to.network_address.packed) if length else b""
        self._ask(_NEW_ROUTE, body + there + via)

    def _ask(self, kind: int, body: bytes) -> None:
        self._number += 1
        flags = _REQUEST | _ACKNOWLEDGE | (0 if kind == _NEW_LINK else _CREATE | _EXCLUSIVE)
        size = _HEADER.size + len(body)
        self._socket.send(_HEADER.pack(size, kind, flags, self._number, 0) + body)
        answer = self._socket.recv(_MAX_ANSWER_BYTES)
        _, answered, _, number, _ = _HEADER.unpack_from(answer)
        assert (answered, number) == (_ERROR, self._number), "the kernel answers in turn"
        (error,) = struct.unpack_from("=i", answer, _HEADER.size)
        if error:
            raise OSError(-error, os.strerror(-error))


@contextlib.contextmanager
def open_routes() -> Iterator[Routes]:
    """Open the addresses and routes of the network that this process is in.

    Its methods raise OSError if the kernel refuses.
    """
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0) as sock:
        sock.bind((0, 0))
        yield Routes(sock)


def _attribute(kind: int, value: bytes) -> bytes:
    return _ATTRIBUTE.pack(_ATTRIBUTE.size + len(value), kind) + value
