"""What does the compiled pump cost on its own, without the gateway around it?

What nginx costs: 0.90 times its CPU at 640 bytes and 0.93 at 16 KiB with 32 connections, 1.18 and
0.76 with one; 0.2 KiB per idle connection. The same system calls as nginx's, counted: 6,000 recv,
6,000 send, 204 waits for 3,000 round trips. The whole gateway had 0.96 and 1.01 in the same run.
A thread of its own rather than a call from the event loop, for two reasons: there is no second
epoll to be woken through (see relay_epoll, one connection), and frames don't wait while Python
verifies a token.
"""

import socket

from benchmarks.experiments.serving import serve_sockets
from trunkline.gateway._pump import Pump

PUMP = Pump(max_frame_bytes=2**20, read_bytes=65536)
KEPT: list[socket.socket] = []


def pass_heads(down: socket.socket, up: socket.socket) -> None:
    """Bring the upgrade behind us: its two heads must not be taken for frames."""
    for source, target in ((down, up), (up, down)):
        source.setblocking(True)
        head = b""
        while not head.endswith(b"\r\n\r\n"):
            part = source.recv(65536)
            if not part:
                break
            head += part
        target.sendall(head)
    for sock in (down, up):
        sock.setblocking(False)


def join(down: socket.socket, up: socket.socket) -> None:
    pass_heads(down, up)
    KEPT.extend((down, up))
    PUMP.add((down.fileno(), 0, 0, 0), (up.fileno(), 0, 0, 0))


if __name__ == "__main__":
    serve_sockets(join)
