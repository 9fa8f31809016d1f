"""A transport that the loop has little to do with does what any transport does."""

import asyncio
import contextlib
import socket
import struct
from collections.abc import Iterator
from typing import Any

import pytest

from trunkline.aio.light import LightTransport, Lookout


class Told(asyncio.Protocol):
    """Keeps what it is told."""

    def __init__(self, *, stays_open: bool = False) -> None:
        self.stays_open = stays_open
        self.transport: Any = None
        self.data = bytearray()
        self.ends = 0
        self.is_full = False
        self.lost: asyncio.Future[Exception | None] = asyncio.get_running_loop().create_future()
        self.changed = asyncio.Event()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.data += data
        self.changed.set()

    def eof_received(self) -> bool:
        self.ends += 1
        self.changed.set()
        return self.stays_open

    def pause_writing(self) -> None:
        self.is_full = True

    def resume_writing(self) -> None:
        self.is_full = False

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost.set_result(exc)

    async def wait_for(self, data: bytes) -> None:
        while self.data != data:
            await self.changed.wait()
            self.changed.clear()


@contextlib.contextmanager
def connected(protocol: Told) -> Iterator[tuple[LightTransport, socket.socket]]:
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    theirs.setblocking(False)
    with theirs:
        transport = LightTransport(ours, protocol, Lookout())
        assert protocol.transport is transport
        yield transport, theirs
        transport.abort()


async def read(sock: socket.socket, size: int) -> int:
    got = 0
    while got < size:
        part = await asyncio.get_running_loop().sock_recv(sock, 65536)
        assert part, "it ended"
        got += len(part)
    return got


async def test_what_comes_is_told_unless_reading_is_paused() -> None:
    told = Told()
    with connected(told) as (transport, theirs):
        theirs.send(b"one")
        await told.wait_for(b"one")
        transport.pause_reading()
        transport.pause_reading()
        assert not transport.is_reading()
        theirs.send(b"two")
        await asyncio.sleep(0.01)
        assert told.data == b"one"
        transport.resume_reading()
        transport.resume_reading()
        await told.wait_for(b"onetwo")


async def test_a_slow_reader_is_told_of_and_gets_everything_before_the_end() -> None:
    told, size = Told(), 3_000_000
    with connected(told) as (transport, theirs):
        transport.set_write_buffer_limits(high=100_000)
        transport.write(b"x" * size)
        transport.write(b"y" * 10)
        assert told.is_full
        waiting = transport.get_write_buffer_size()
        assert 100_000 < waiting < size
        assert await read(theirs, size - 10_000) >= size - 10_000
        assert not told.is_full
        transport.write(b"z" * size)
        assert told.is_full
        transport.close()
        transport.write(b"too late")
        assert transport.is_closing()
        left = 0
        while part := await asyncio.get_running_loop().sock_recv(theirs, 65536):
            left += len(part)
        assert left >= size
        assert await told.lost is None
        assert transport.get_write_buffer_size() == 0


@pytest.mark.parametrize("gathers", [False, True])
async def test_what_is_unsent_can_be_taken_and_written_again(gathers: bool) -> None:
    told, size = Told(), 1_000_000
    with connected(told) as (transport, theirs):
        assert transport.take_unsent() == b""
        if gathers:
            transport.gather_writes()
        transport.write(b"x" * size)
        assert told.is_full
        sent = size - transport.get_write_buffer_size()
        unsent = transport.take_unsent()
        assert unsent == b"x" * (size - sent)
        assert transport.get_write_buffer_size() == 0
        # There is room, and nothing is sent.
        assert await read(theirs, sent) == sent
        await asyncio.sleep(0.01)
        with pytest.raises(BlockingIOError):
            theirs.recv(1)
        told.is_full = False
        transport.write(unsent)
        assert told.is_full
        assert await read(theirs, len(unsent)) == len(unsent)
        assert not told.is_full


@pytest.mark.parametrize("stays_open", [True, False])
async def test_an_end_is_told_once_and_closes_unless_it_may_stay(stays_open: bool) -> None:
    told = Told(stays_open=stays_open)
    with connected(told) as (transport, theirs):
        theirs.shutdown(socket.SHUT_WR)
        while not told.ends:
            await told.changed.wait()
            told.changed.clear()
        if stays_open:
            transport.resume_reading()
            transport.write(b"hi")
            assert await read(theirs, 2) == 2
            assert not transport.is_closing()
            transport.close()
        assert await told.lost is None
        assert told.ends == 1


async def test_an_abort_drops_what_waits_and_is_told_of_later() -> None:
    told = Told()
    with connected(told) as (transport, theirs):
        transport.write(b"x" * 3_000_000)
        transport.abort()
        transport.abort()
        assert not told.lost.done()
        assert await told.lost is None
        transport.resume_reading()
        transport.close()
        with contextlib.suppress(BlockingIOError):
            while theirs.recv(65536):
                pass


@pytest.mark.parametrize("who", ["the reader", "the writer"])
async def test_a_connection_that_is_reset_is_lost_with_the_cause(who: str) -> None:
    told = Told()
    with socket.create_server(("127.0.0.1", 0)) as server:
        ours = socket.create_connection(server.getsockname())
        ours.setblocking(False)
        theirs, _ = server.accept()
        transport = LightTransport(ours, told, Lookout())
        if who == "the writer":
            transport.pause_reading()
            transport.write(b"x" * 20_000_000)
        theirs.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        theirs.close()
        assert isinstance(await told.lost, ConnectionError)
        transport.write(b"nothing")


async def test_a_protocol_that_fails_loses_its_connection_only() -> None:
    class Failing(Told):
        def data_received(self, data: bytes) -> None:
            raise RuntimeError("no")

    said: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: said.append(context))
    told = Failing()
    with connected(told) as (_, theirs):
        theirs.send(b"x")
        assert isinstance(await told.lost, RuntimeError)
    assert len(said) == 1


async def test_what_is_here_already_is_read_before_anything_is_watched() -> None:
    class Pausing(Told):
        def data_received(self, data: bytes) -> None:
            super().data_received(data)
            self.transport.pause_reading()

    told, lookout = Pausing(), Lookout()
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    with theirs:
        theirs.send(b"one")
        transport = LightTransport(ours, told, lookout, reads_at_once=True)
        assert told.data == b"one"
        assert not transport.is_reading()
        theirs.send(b"two")
        await asyncio.sleep(0.01)
        assert told.data == b"one"
        transport.resume_reading()
        await told.wait_for(b"onetwo")
        transport.abort()
        await told.lost


@pytest.mark.parametrize("end", ["an end", "a failure", "a refusal"])
async def test_one_that_ends_with_its_first_bytes_is_never_watched(end: str) -> None:
    class Failing(Told):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            super().connection_made(transport)
            if end == "a refusal":
                self.transport.abort()

        def data_received(self, data: bytes) -> None:
            raise RuntimeError("no")

    told, lookout = Failing(), Lookout()
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    if end == "a failure":
        theirs.send(b"x")
    theirs.close()
    fails = pytest.raises(RuntimeError) if end == "a failure" else contextlib.nullcontext()
    with fails:
        LightTransport(ours, told, lookout, reads_at_once=True)
    assert isinstance(await told.lost, RuntimeError) == (end == "a failure")
    assert told.ends == (end == "an end")
    assert not lookout._readers


class Patient(Told):
    """Expects nothing more once something has come."""

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        self.transport.expect_nothing()


@contextlib.contextmanager
def patient() -> Iterator[tuple[Patient, Lookout, socket.socket]]:
    told, lookout = Patient(), Lookout()
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    with theirs:
        theirs.send(b"head")
        LightTransport(ours, told, lookout, reads_at_once=True)
        assert told.data == b"head"
        assert told.transport.is_reading()
        assert not lookout._readers
        yield told, lookout, theirs
        told.transport.abort()
        assert not lookout._readers
        assert not len(lookout.later)


@pytest.mark.parametrize("rest", [b"", b"more"])
async def test_one_that_expects_nothing_is_watched_if_it_takes_long(rest: bytes) -> None:
    with patient() as (told, lookout, theirs):
        began = asyncio.get_running_loop().time()
        if rest:
            theirs.send(rest)
            await told.wait_for(b"head" + rest)
            # It is watched, and that goes on.
            theirs.send(rest)
            await told.wait_for(b"head" + rest + rest)
            assert lookout._readers
        else:
            theirs.close()
            assert await told.lost is None
        assert asyncio.get_running_loop().time() - began > 0.03


@pytest.mark.parametrize("what", ["paused", "resumed", "ended"])
async def test_one_that_expects_nothing_hears_what_is_decided_meanwhile(what: str) -> None:
    with patient() as (told, lookout, theirs):
        theirs.send(b"more")
        if what == "paused":
            told.transport.pause_reading()
            assert not len(lookout.later)
            told.transport.resume_reading()
        elif what == "resumed":
            told.transport.resume_reading()
        else:
            told.transport.close()
            assert not len(lookout.later)
            assert await told.lost is None
            return
        assert lookout._readers
        assert not len(lookout.later)
        await told.wait_for(b"headmore")


async def test_who_is_at_both_ends_is_known() -> None:
    class Asking(Told):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            super().connection_made(transport)
            self.first = transport.get_extra_info("peername")

    with socket.create_server(("127.0.0.1", 0)) as server:
        theirs = socket.create_connection(server.getsockname())
        ours, address = server.accept()
        ours.setblocking(False)
        told = Asking()
        transport = LightTransport(ours, told, Lookout(), peername=("as", "accepted"))
        assert told.first == ("as", "accepted")
        assert transport.get_extra_info("peername") == address == theirs.getsockname()
        assert transport.get_extra_info("sockname") == server.getsockname()
        assert transport.get_extra_info("ssl_object") is None
        assert transport.get_extra_info("sslcontext", "no") == "no"
        theirs.close()
        transport.abort()
        await told.lost
        ours.close()
        assert transport.get_extra_info("peername", "gone") == "gone"


@pytest.mark.parametrize("gathers", [True, False])
async def test_its_end_follows_everything_and_it_can_still_be_read(gathers: bool) -> None:
    told, size = Told(), 3_000_000
    with connected(told) as (transport, theirs):
        if gathers:
            transport.gather_writes()
        assert transport.can_write_eof()
        transport.write(b"x" * size)
        transport.write_eof()
        transport.write_eof()
        with pytest.raises(RuntimeError):
            transport.write(b"more")
        assert await read(theirs, size) == size
        assert await asyncio.get_running_loop().sock_recv(theirs, 1) == b""
        assert not transport.is_closing()
        theirs.send(b"late")
        await told.wait_for(b"late")
        transport.close()
        assert await told.lost is None


async def test_an_end_of_one_that_is_gone_loses_it() -> None:
    told = Told()
    with socket.create_server(("127.0.0.1", 0)) as server:
        ours = socket.create_connection(server.getsockname())
        ours.setblocking(False)
        theirs, _ = server.accept()
        transport = LightTransport(ours, told, Lookout())
        transport.pause_reading()
        theirs.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        theirs.close()
        transport.write_eof()
        assert isinstance(await told.lost, OSError)


async def test_a_head_and_its_body_go_out_together() -> None:
    told = Told()
    with connected(told) as (transport, theirs):
        transport.gather_writes()
        transport.write(b"head,")
        transport.writelines([b"bo", b"dy"])
        assert transport.get_write_buffer_size() == 9
        with pytest.raises(BlockingIOError):
            theirs.recv(100)
        assert await asyncio.get_running_loop().sock_recv(theirs, 100) == b"head,body"
        assert transport.get_write_buffer_size() == 0
        # What is over the limit doesn't wait, and neither does what the next protocol writes.
        transport.set_write_buffer_limits(high=10)
        transport.write(b"x" * 11)
        assert theirs.recv(100) == b"x" * 11
        assert not told.is_full
        transport.write(b"last, ")
        transport.set_protocol(told)
        transport.write(b"first")
        assert theirs.recv(100) == b"last, first"
        transport.gather_writes()
        transport.write(b"the end")
        transport.close()
        assert theirs.recv(100) == b"the end"
        assert await told.lost is None


async def test_what_was_gathered_for_one_that_is_gone_is_dropped() -> None:
    told = Told()
    with connected(told) as (transport, theirs):
        transport.gather_writes()
        transport.write(b"x")
        transport.abort()
        assert transport.get_write_buffer_size() == 0
        assert await told.lost is None
        with contextlib.suppress(ConnectionResetError):
            assert theirs.recv(100) == b""


@pytest.mark.parametrize(
    ("given", "limits"),
    [
        ({}, (16384, 65536)),
        ({"high": 1000}, (250, 1000)),
        ({"low": 10}, (10, 40)),
        ({"high": 9, "low": 3}, (3, 9)),
        ({"high": 3, "low": 9}, None),
        ({"high": 3, "low": -1}, None),
    ],
)
async def test_limits_of_what_waits(given: dict[str, int], limits: tuple[int, int] | None) -> None:
    with connected(Told()) as (transport, _):
        fails = (
            pytest.raises(ValueError, match="at least")
            if limits is None
            else contextlib.nullcontext()
        )
        with fails:
            transport.set_write_buffer_limits(**given)
        assert transport.get_write_buffer_limits() == (limits or (16384, 65536))


async def test_one_that_ends_another_keeps_it_from_being_read() -> None:
    lookout, calls = Lookout(), []
    pairs = [socket.socketpair() for _ in range(2)]
    done = asyncio.Event()

    def read_one(one: int) -> None:
        calls.append(one)
        for ours, _ in pairs:
            lookout.discard(ours.fileno())
        done.set()

    for number, (ours, theirs) in enumerate(pairs):
        lookout.add(ours.fileno(), lambda number=number: read_one(number))
        theirs.send(b"x")
    await done.wait()
    await asyncio.sleep(0.01)
    assert len(calls) == 1
    lookout.close()
    # It may be used again, and one that is used isn't closed.
    again = asyncio.Event()
    lookout.add(pairs[0][0].fileno(), again.set)
    lookout.close()
    await again.wait()
    lookout.discard(pairs[0][0].fileno())
    lookout.close()
    lookout.close()
    for pair in pairs:
        for sock in pair:
            sock.close()
