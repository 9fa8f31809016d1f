"""What does the compiled pump cost on its own, without the gateway around it?"""

import socket

from benchmarks.experiments.serving import serve_sockets
from trunkline.gateway._pump import Pump

PUMP = Pump(max_frame_bytes=2**20, read_bytes=65536)
KEPT: list[socket.socket] = []


def join(down: socket.socket, up: socket.socket) -> None:
    # The two heads must not be taken for frames.
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        down.setblocking(True)
        head += down.recv(65536)
    up.setblocking(True)
    up.sendall(head)
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        head += up.recv(65536)
    down.sendall(head)
    for sock in (down, up):
        sock.setblocking(False)
        KEPT.append(sock)
    PUMP.add(down.fileno(), up.fileno(), 0, 0)


if __name__ == "__main__":
    serve_sockets(join)
