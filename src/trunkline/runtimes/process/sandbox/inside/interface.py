"""Gives a session's interface its filter, its routes and its address, before anybody uses it.

The interface is there because slirp4netns, outside, has made it in the session's network and holds
its other end. The filter is attached to that other end, which nobody in the session has, now or
later.
"""

import contextlib
import ctypes
import errno
import fcntl
import os
import struct
from collections.abc import Iterator, Mapping
from ipaddress import IPv4Address, IPv4Network
from typing import Any

from trunkline.runtimes.process.sandbox.inside import kernel
from trunkline.runtimes.process.sandbox.inside.routes import open_routes

NAME = "tap0"
DEVICE = "/dev/net/tun"

_WHICH_INTERFACE = 0x800454D2
_ATTACH_FILTER = 0x401054D5
_REQUEST = struct.Struct("16s24x")
_PROGRAM = struct.Struct("=H6xQ")
_STEP_BYTES = 8
#: Where among slirp4netns's few open files its end of the interface is.
_FILES = range(3, 64)
_NO_IPV6 = "/proc/sys/net/ipv6/conf/default/disable_ipv6"


def do_without_ipv6() -> None:
    """Have interfaces made from here on no IPv6: there is no filter for it, and nobody carries it.

    Python's own library may be out of reach by now, so nothing is used that loads more of it.
    """
    with contextlib.suppress(FileNotFoundError):
        file = os.open(_NO_IPV6, os.O_WRONLY)
        try:
            os.write(file, b"1")
        finally:
            os.close(file)


def set_up_interface(interface: Mapping[str, Any], carrier: int) -> None:
    """Make the interface in the network we are in usable, as far as it is to be.

    Args:
        interface: See ``direct.Reach``.
        carrier: The process that carries its packets, as a pidfd.

    Raises:
        OSError: If the kernel refuses. Nobody should run on then.
    """
    with _other_end(carrier) as device:
        _attach_filter(device, bytes.fromhex(interface["filter"]))
    gateway = IPv4Address(interface["gateway"])
    with open_routes() as routes:
        for network in interface["refused"]:
            routes.refuse(IPv4Network(network))
        routes.bring_up(NAME, interface["mtu"])
        routes.add_address(NAME, IPv4Address(interface["address"]))
        routes.add_neighbour(NAME, gateway)
        if interface["names_at"] is not None:
            routes.add_neighbour(NAME, IPv4Address(interface["names_at"]))
        routes.add_gateway(gateway)


@contextlib.contextmanager
def _other_end(carrier: int) -> Iterator[int]:
    for number in _FILES:
        try:
            file = kernel.file_of_process(carrier, number)
        except OSError as error:
            if error.errno != errno.EBADF:
                raise
            continue
        try:
            with contextlib.suppress(OSError):
                answer = fcntl.ioctl(file, _WHICH_INTERFACE, _REQUEST.pack(b""))
                if _REQUEST.unpack(answer)[0].rstrip(b"\0") == NAME.encode():
                    yield file
                    return
        finally:
            os.close(file)
    raise OSError(errno.ENODEV, "slirp4netns has no interface")


def _attach_filter(device: int, program: bytes) -> None:
    code = ctypes.create_string_buffer(program, len(program))
    described = _PROGRAM.pack(len(program) // _STEP_BYTES, ctypes.addressof(code))
    fcntl.ioctl(device, _ATTACH_FILTER, described)
