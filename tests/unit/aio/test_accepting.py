"""Connections are accepted by the handful, and what can't be accepted is waited for."""

import asyncio
import errno
import logging
import os
import socket
from collections.abc import Callable
from typing import Any

import pytest

from trunkline.aio import accepting
from trunkline.aio.accepting import Acceptor
from trunkline.aio.light import LightTransport, Lookout


class Greeted(asyncio.Protocol):
    """Keeps who has connected, and answers what came first."""

    def __init__(self, world: "World") -> None:
        self.world = world
        self.transport: Any = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport
        self.world.made.append(transport.get_extra_info("peername"))
        self.world.turns.append(self.world.turn)
        self.world.changed.set()

    def data_received(self, data: bytes) -> None:
        self.transport.write(data.upper())


class World:
    """A listening socket, whoever accepts from it, and what it accepted."""

    def __init__(self, *, backlog: int = 128, listening: Any = None) -> None:
        self.made: list[Any] = []
        self.turns: list[int] = []
        self.turn = 0
        self.changed = asyncio.Event()
        self.lookout = Lookout()
        self.listening = listening or socket.socket()
        self.listening.bind(("127.0.0.1", 0))
        self.acceptor = Acceptor(
            self.listening, lambda: Greeted(self), self.lookout, backlog=backlog
        )
        self.place = self.listening.getsockname()
        self.clients: list[socket.socket] = []

    def connect(self, say: bytes = b"") -> socket.socket:
        client = socket.create_connection(self.place)
        client.setblocking(False)
        self.clients.append(client)
        if say:
            client.send(say)
        return client

    async def until_made(self, count: int) -> None:
        while len(self.made) < count:
            await self.changed.wait()
            self.changed.clear()

    def count_turns(self) -> None:
        self.turn += 1
        if not self.acceptor.is_serving():
            return
        asyncio.get_running_loop().call_soon(self.count_turns)

    def __enter__(self) -> "World":
        return self

    def __exit__(self, *_: object) -> None:
        self.acceptor.close()
        for client in self.clients:
            client.close()


class Scarce(socket.socket):
    """A listening socket of a system that has nothing left for a while."""

    def __init__(self, *errors: int) -> None:
        super().__init__()
        self.errors = list(errors)
        self.asked = 0
        self.was_asked = asyncio.Event()

    def _accept(self) -> tuple[int, Any]:
        self.asked += 1
        self.was_asked.set()
        if self.errors:
            number = self.errors.pop(0)
            raise OSError(number, os.strerror(number))
        accept: Callable[[], tuple[int, Any]] = super()._accept  # type: ignore[misc]
        return accept()


async def answer(client: socket.socket) -> bytes:
    return await asyncio.get_running_loop().sock_recv(client, 100)


async def test_who_connects_is_known_and_answered() -> None:
    with World() as world:
        client = world.connect(b"hello")
        assert await answer(client) == b"HELLO"
        assert world.made == [client.getsockname()]
        assert world.acceptor.is_serving()
        assert world.acceptor.sockets == (world.listening,)


async def test_a_burst_is_accepted_in_few_turns_and_never_all_at_once() -> None:
    with World() as world:
        clients = [world.connect(b"x") for _ in range(80)]
        world.count_turns()
        await world.until_made(80)
        assert {await answer(client) for client in clients} == {b"X"}
        each = [world.turns.count(turn) for turn in sorted(set(world.turns))]
        assert each == [32, 32, 16]


async def test_what_is_accepted_sends_at_once_and_is_nobody_elses() -> None:
    transports: list[LightTransport] = []
    with World() as world:
        world.connect()
        await world.until_made(1)
    with World() as world:
        made = asyncio.get_running_loop().create_future()

        class Looked(asyncio.Protocol):
            def connection_made(self, transport: Any) -> None:
                transports.append(transport)
                made.set_result(None)

        world.acceptor._new_protocol = Looked
        world.connect()
        await made
        (transport,) = transports
        connected = transport.get_extra_info("socket")
        assert connected.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
        assert connected.gettimeout() == 0
        assert not os.get_blocking(connected.fileno())
        assert not os.get_inheritable(connected.fileno())
        transport.abort()


@pytest.mark.parametrize("number", [errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM])
async def test_where_the_system_has_nothing_left_it_is_asked_seldom(
    number: int, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(accepting, "_PAUSE_S", 0.02)
    scarce = Scarce(number, number, number)
    with World(listening=scarce) as world, caplog.at_level(logging.ERROR):
        began = asyncio.get_running_loop().time()
        client = world.connect(b"hello")
        assert await answer(client) == b"HELLO"
        assert asyncio.get_running_loop().time() - began > 0.05
        # Three times in vain, once with success, and once more for the next.
        assert scarce.asked == 5
        (record,) = caplog.records
        assert os.strerror(number) in record.getMessage()
        # What is to be done about it is said where something can be.
        is_limit = number in (errno.EMFILE, errno.ENFILE)
        assert ("ulimit -n" in record.getMessage()) == is_limit
        # Who comes later doesn't pay for it, and the next time it is said again.
        scarce.errors = [number]
        assert await answer(world.connect(b"again")) == b"AGAIN"
        assert len(caplog.records) == 2


async def test_a_connection_that_ended_in_the_queue_keeps_nobody_waiting(
    caplog: pytest.LogCaptureFixture,
) -> None:
    scarce = Scarce(errno.ECONNABORTED, errno.EPROTO)
    with World(listening=scarce) as world, caplog.at_level(logging.ERROR):
        assert await answer(world.connect(b"hello")) == b"HELLO"
        assert not caplog.records


async def test_the_end_is_for_new_connections_only() -> None:
    with World() as world:
        client = world.connect(b"one")
        assert await answer(client) == b"ONE"
        world.acceptor.close()
        world.acceptor.close()
        await world.acceptor.wait_closed()
        assert not world.acceptor.is_serving()
        assert world.acceptor.sockets == ()
        with pytest.raises(ConnectionRefusedError):
            world.connect()
        client.send(b"two")
        assert await answer(client) == b"TWO"
    scarce = Scarce(errno.EMFILE)
    with World(listening=scarce) as world:
        world.connect()
        await scarce.was_asked.wait()
        world.acceptor.close()
        assert world.acceptor._pause is not None
        assert world.acceptor._pause.cancelled()
        assert scarce.asked == 1


async def test_one_that_closes_the_socket_is_the_last() -> None:
    with World() as world:

        class Closing(Greeted):
            def connection_made(self, transport: asyncio.BaseTransport) -> None:
                super().connection_made(transport)
                world.acceptor.close()

        world.acceptor._new_protocol = lambda: Closing(world)
        for _ in range(3):
            world.connect()
        await world.until_made(1)
        await asyncio.sleep(0.01)
        assert len(world.made) == 1
