"""What an agent with an interface reaches, and what it doesn't: writes it down, and stays.

Its argument is JSON: the peer's address and port, the addresses to be refused, and the port of
something that the platform's machine listens at.
"""

import contextlib
import fcntl
import json
import os
import socket
import struct
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

FACTS = json.loads(sys.argv[1])
PEER, PORT = FACTS["peer"], FACTS["port"]
TIMEOUT_S = 0.5
INTERFACE = b"tap0"


def echoes(address, port, *, device=None, options=None):
    """Return what comes back by TCP."""
    with socket.socket() as sock:
        sock.settimeout(TIMEOUT_S)
        if device is not None:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, device)
        if options is not None:
            sock.setsockopt(socket.IPPROTO_IP, socket.IP_OPTIONS, options)
        sock.connect((address, port))
        sock.sendall(b"hello")
        return sock.recv(5).decode()


def echoes_datagrams(address, port, *, device=None):
    """Return what comes back by UDP."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.settimeout(TIMEOUT_S)
        if device is not None:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, device)
        sock.sendto(b"hello", (address, port))
        return sock.recv(5).decode()


def hears_from_elsewhere():
    """Return what comes from a port that nothing was sent to."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.settimeout(TIMEOUT_S)
        sock.sendto(b"elsewhere", (PEER, PORT))
        data, (address, port) = sock.recvfrom(9)
        return [data.decode(), address, port != PORT]


def echoes_over_ipv6(address, port):
    with socket.socket(socket.AF_INET6) as sock:
        sock.settimeout(TIMEOUT_S)
        sock.connect((address, port))
        sock.sendall(b"hello")
        return sock.recv(5).decode()


def echoes_much():
    """Return how many bytes came back of many."""
    size = 4 * 1024**2
    with socket.create_connection((PEER, PORT), timeout=10) as sock, ThreadPoolExecutor() as pool:
        sending = pool.submit(sock.sendall, bytes(size))
        left = size
        while left and (data := sock.recv(65536)):
            left -= len(data)
        sending.result()
    return size - left


def by_a_source_route(address):
    """Have the peer pass it on."""
    route = struct.pack("!BBB4s", 131, 7, 4, socket.inet_aton(address)) + b"\0"
    return echoes(PEER, PORT, options=route)


def change_a_route():
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0) as sock:
        body = struct.pack("=BBBBBBBBI", 2, 8, 0, 0, 254, 4, 0, 1, 0)
        to = struct.pack("=HH4s", 8, 1, socket.inet_aton("10.0.0.0"))
        through = struct.pack("=HH4s", 8, 5, socket.inet_aton("198.18.0.2"))
        data = body + to + through
        sock.send(struct.pack("=IHHII", 16 + len(data), 24, 0x505, 1, 0) + data)
        (error,) = struct.unpack_from("=i", sock.recv(4096), 16)
        if error:
            raise OSError(-error, os.strerror(-error))


def attach_to_the_interface():
    device = os.open("/dev/net/tun", os.O_RDWR)
    fcntl.ioctl(device, 0x400454CA, struct.pack("16sH22x", INTERFACE, 0x1002))


def make_the_device():
    path = os.path.join(os.environ["HOME"], "tun")
    os.mknod(path, 0o20666, os.makedev(10, 200))
    os.open(path, os.O_RDWR)


def see_frames():
    socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))


def write_headers():
    socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW)


def name(host):
    return socket.getaddrinfo(host, PORT, socket.AF_INET, socket.SOCK_STREAM)[0][4][0]


def probes():
    """Return all there are, by name; those that must not succeed begin with ``no``."""
    found = {
        "tcp": lambda: echoes(PEER, PORT),
        "udp": lambda: echoes_datagrams(PEER, PORT),
        "udp from elsewhere": hears_from_elsewhere,
        "much": echoes_much,
        "a name": lambda: name("peer.test"),
        "a private name": lambda: name("inside.test"),
        "tcp to an allowed network": lambda: echoes(FACTS["private"], PORT),
        "udp to an allowed network": lambda: echoes_datagrams(FACTS["private"], PORT),
        "no route of its own": change_a_route,
        "no interface of its own": attach_to_the_interface,
        "no device of its own": make_the_device,
        "no frames": see_frames,
        "no headers": write_headers,
        "no source route": lambda: by_a_source_route("10.9.9.9"),
        "no name server's other port": lambda: echoes("198.18.0.3", FACTS["platform_port"]),
        "no ipv6": lambda: echoes_over_ipv6("2001:4860:4860::8888", PORT),
    }
    for address in FACTS["refused"]:
        port = PORT if address in FACTS["peers"] else FACTS["platform_port"]
        for device in (None, INTERFACE):
            # Who names an interface isn't held to routes.
            by = " by the interface" if device else ""
            found[f"no tcp to {address}{by}"] = lambda a=address, p=port, d=device: echoes(
                a, p, device=d
            )
            found[f"no udp to {address}{by}"] = lambda a=address, p=port, d=device: (
                echoes_datagrams(a, p, device=d)
            )
        found[f"no tcp to ::ffff:{address}"] = lambda a=address, p=port: echoes_over_ipv6(
            f"::ffff:{a}", p
        )
    return found


def outcome(probe):
    try:
        return [True, probe()]
    except (OSError, ValueError) as error:
        return [False, f"{type(error).__name__}: {error}"]


def main():
    # What a session before this one might answer at.
    neighbour = socket.socket()
    neighbour.bind(("0.0.0.0", FACTS["neighbours_port"]))
    neighbour.listen()
    all_probes = probes() if FACTS["tries"] else {"tcp": lambda: echoes(PEER, PORT)}
    with ThreadPoolExecutor(len(all_probes)) as pool:
        results = dict(zip(all_probes, pool.map(outcome, all_probes.values()), strict=True))
    results["name servers"] = [True, Path("/etc/resolv.conf").read_text()]
    results["routes"] = [True, Path("/proc/net/route").read_text()]
    results["interfaces"] = [True, sorted(name for _, name in socket.if_nameindex())]
    (Path(os.environ["HOME"]) / "results.json").write_text(json.dumps(results))
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(os.environ["TRUNKLINE_AGENT_SOCKET"])
        server.listen()
        while True:
            connection, _ = server.accept()
            with connection, contextlib.suppress(OSError):
                connection.recv(4096)
                connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")


main()
