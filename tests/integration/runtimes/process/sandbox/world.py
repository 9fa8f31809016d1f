"""Makes a machine with a network around it, of namespaces, and runs a program there.

Run as root in namespaces of one's own: ``unshare -n -m``. Nothing of it is connected to this
machine's network, and the kernel removes it when the last process in there has ended.

The machine has the address `OWN`, and on the other side of its only cable is a peer that has public
addresses and ones that agents mustn't reach, and answers at all of them: so what isn't reached is
refused, and not just absent. The peer is also the machine's name server.

Arguments: a folder for files, and the program.
"""

import contextlib
import ctypes
import os
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path

OWN, PEER = "11.0.0.1", "11.0.0.2"
#: More of the peer's, each standing for a range that agents are kept from.
FORBIDDEN = (
    "10.9.9.9", "172.20.1.1", "192.168.7.7", "169.254.169.254", "100.64.0.9", "198.19.0.9",
    "192.0.2.9", "198.51.100.9", "203.0.113.9", "192.88.99.9", "192.0.0.9",
)  # fmt: skip
#: Private, and allowed by a setting.
PRIVATE = "10.1.2.3"
PORT = 7007
#: A datagram that is answered from another port than it was sent to.
ELSEWHERE = b"elsewhere"
NAMES = {"peer.test": PEER, "inside.test": "10.9.9.9"}
_CLONE_NEWNET = 0x40000000


def ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True)


def answer_names(sock: socket.socket) -> None:
    while True:
        query, sender = sock.recvfrom(512)
        labels, at = [], 12
        while size := query[at]:
            labels.append(query[at + 1 : at + 1 + size].decode())
            at += size + 1
        question, kind = query[12 : at + 5], query[at + 1 : at + 3]
        address = NAMES.get(".".join(labels))
        if address is None:
            reply = query[:2] + b"\x81\x83\0\1\0\0\0\0\0\0" + question
        elif kind != b"\0\1":
            reply = query[:2] + b"\x81\x80\0\1\0\0\0\0\0\0" + question
        else:
            record = b"\xc0\x0c\0\1\0\1\0\0\0\x3c\0\4" + socket.inet_aton(address)
            reply = query[:2] + b"\x81\x80\0\1\0\1\0\0\0\0" + question + record
        sock.sendto(reply, sender)


def echo_datagrams(sock: socket.socket) -> None:
    while True:
        data, sender = sock.recvfrom(65535)
        if data == ELSEWHERE:
            # As who learns of a caller's address from somebody else, in WebRTC.
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other:
                other.sendto(data, sender)
        else:
            sock.sendto(data, sender)


def echo(connection: socket.socket) -> None:
    with connection, contextlib.suppress(OSError):
        while data := connection.recv(65536):
            connection.sendall(data)


def be_peer(ready: int) -> None:
    """Answer at every address, from a network of its own."""
    for work, port in ((echo_datagrams, PORT), (answer_names, 53)):
        sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        sock.bind(("0.0.0.0" if port == PORT else PEER, port))
        threading.Thread(target=work, args=(sock,), daemon=True).start()
    with socket.create_server(("0.0.0.0", PORT), backlog=64) as server:
        os.write(ready, b"1")
        while True:
            connection, _ = server.accept()
            threading.Thread(target=echo, args=(connection,), daemon=True).start()


def main() -> None:
    folder, *command = sys.argv[1:]
    subprocess.run(["mount", "--make-rprivate", "/"], check=True)
    ip("link", "set", "lo", "up")
    told, ready = os.pipe()
    moved, move = os.pipe()
    pid = os.fork()
    if pid == 0:
        if ctypes.CDLL(None, use_errno=True).unshare(_CLONE_NEWNET):
            sys.exit(f"unshare: {os.strerror(ctypes.get_errno())}")
        os.write(ready, b"0")
        os.read(moved, 1)
        ip("link", "set", "lo", "up")
        for address in (*FORBIDDEN, PRIVATE):
            ip("address", "add", f"{address}/32", "dev", "lo")
        ip("address", "add", f"{PEER}/24", "dev", "far")
        ip("link", "set", "far", "up")
        be_peer(ready)
    os.read(told, 1)
    ip("link", "add", "near", "type", "veth", "peer", "name", "far", "netns", str(pid))
    ip("address", "add", f"{OWN}/24", "dev", "near")
    ip("link", "set", "near", "up")
    ip("route", "add", "default", "via", PEER)
    os.write(move, b"1")
    os.read(told, 1)
    names = Path(folder) / "resolv.conf"
    names.write_text(f"nameserver {PEER}\n")
    subprocess.run(["mount", "--bind", names, os.path.realpath("/etc/resolv.conf")], check=True)
    # As on most machines; on some it is root's alone.
    subprocess.run(["mount", "-t", "tmpfs", "tmpfs", "/dev/net"], check=True)
    os.mknod("/dev/net/tun", 0o20666, os.makedev(10, 200))
    os.chmod("/dev/net/tun", 0o600 if os.environ.get("TUN_IS_ROOTS") else 0o666)
    try:
        code = subprocess.run(command, check=False).returncode
    finally:
        os.kill(pid, signal.SIGKILL)
    sys.exit(code)


if __name__ == "__main__":
    main()
