"""What does an epoll of our own cost, in plain Python, watched by uvloop through its descriptor?"""

import asyncio
import select
import socket

from benchmarks.experiments.serving import serve_sockets

EPOLL = select.epoll()
PEERS: dict[int, tuple[object, object, socket.socket]] = {}


def ready() -> None:
    for number, events in EPOLL.poll(0):
        receive, send, mine = PEERS[number]
        if events & select.EPOLLIN:
            data = receive(65536)
            if data:
                send(data)
                continue
        EPOLL.unregister(number)
        mine.shutdown(socket.SHUT_WR)


def join(down: socket.socket, up: socket.socket) -> None:
    loop = asyncio.get_running_loop()
    if not PEERS:
        loop.add_reader(EPOLL.fileno(), ready)
    for one, other in ((down, up), (up, down)):
        PEERS[one.fileno()] = one.recv, other.send, other
        EPOLL.register(one.fileno(), select.EPOLLIN)


if __name__ == "__main__":
    serve_sockets(join)
