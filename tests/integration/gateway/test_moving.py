"""A relay's connections go on in another relay, and nobody at their ends notices."""

import asyncio
import datetime as dt
import errno
import json
import os
import socket
import struct
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest

from tests.integration.gateway.test_relay import agent as echo_agent, echo
from tests.support.gateway import NEW_PATH, Gateway, accept_upgrade, raw_agent, running_gateway
from trunkline.aio.light import Lookout
from trunkline.aio.passing import PassingError, close_all
from trunkline.gateway import carrier, moving
from trunkline.gateway.carrier import Carrier
from trunkline.gateway.moved import MovedRelay, arrive
from trunkline.gateway.moving import Departure, Entrance
from trunkline.gateway.relay import Relay
from trunkline.gateway.settings import GatewaySettings
from trunkline.gateway.summary import Summary
from trunkline.protocol.ids import NodeId, SessionKey
from trunkline.runtimes.interface import Address
from trunkline.sessions.elsewhere import SessionElsewhereError
from trunkline.store.records import NodeRecord

FRAME = b"\x82\xfe" + (600).to_bytes(2) + b"\0\0\0\0" + b"p" * 600


@dataclass
class Place:
    """Stands for a process: its relays share a carrier."""

    carrier: Carrier = field(default_factory=lambda: Carrier(GatewaySettings()))
    lookout: Lookout = field(default_factory=Lookout)
    ended: asyncio.Future[Summary] = field(default_factory=asyncio.Future)

    def close(self) -> None:
        self.carrier.close()
        self.lookout.close()

    async def relay(
        self, downstream: socket.socket, upstream: socket.socket, moved: MovedRelay | None = None
    ) -> Relay:
        lookout = self.lookout if carrier.IS_BUILT else None
        client = await arrive(downstream.detach(), lookout)
        server = await arrive(upstream.detach(), lookout)
        arrivals = (client, server)

        async def explain() -> str:
            return "it is a test"

        relay = Relay(
            *(arrival.transport for arrival in arrivals),
            GatewaySettings(),
            carrier=self.carrier,
            on_end=self.ended.set_result,
            explain_loss=explain,
        )
        if moved is not None:
            relay.resume(moved)
        for arrival, leg in zip(arrivals, (relay.downstream, relay.upstream), strict=True):
            arrival.tell(leg)
        return relay


async def read(sock: socket.socket, size: int) -> bytes:
    got = bytearray()
    while len(got) < size:
        part = await asyncio.get_running_loop().sock_recv(sock, min(size - len(got), 65536))
        assert part, "it ended"
        got += part
    return bytes(got)


@pytest.mark.usefixtures("relay_of")
async def test_connections_move_inside_a_frame_and_count_on() -> None:
    first, second = Place(), Place()
    loop = asyncio.get_running_loop()
    (client, downstream), (upstream, agent) = socket.socketpair(), socket.socketpair()
    for sock in (client, agent):
        sock.setblocking(False)

    relay = await first.relay(downstream, upstream)
    await loop.sock_sendall(client, FRAME + FRAME[:100])
    assert await read(agent, len(FRAME) + 100) == FRAME + FRAME[:100]
    moved = None
    while moved is None:
        await asyncio.sleep(0)
        moved = relay.detach()
    assert relay.detach() is None
    relay.leave()
    assert (moved.downstream.frames, moved.downstream.left) == (2, len(FRAME) - 100)
    # What comes while nobody reads waits in the system.
    await loop.sock_sendall(client, FRAME[100:])
    await loop.sock_sendall(agent, b"\x82\x02hi")
    again = await second.relay(
        socket.socket(fileno=moved.downstream.fd), socket.socket(fileno=moved.upstream.fd), moved
    )
    assert await read(agent, len(FRAME) - 100) == FRAME[100:]
    assert await read(client, 4) == b"\x82\x02hi"
    await loop.sock_sendall(client, FRAME)
    assert await read(agent, len(FRAME)) == FRAME
    again.refresh()
    assert (again.downstream.scanner.frames, again.downstream.bytes_read) == (3, 3 * len(FRAME))
    assert again.upstream.scanner.frames == 1
    client.close()
    assert await loop.sock_recv(agent, 10) == b""
    agent.close()
    summary = await second.ended
    assert not first.ended.done()
    assert (summary.frames_in, summary.bytes_in, summary.frames_out) == (3, 3 * len(FRAME), 1)
    first.close()
    second.close()


async def test_what_a_slow_reader_has_yet_to_get_moves_too() -> None:
    assert carrier.IS_BUILT, "the compiled relay wasn't built; make setup says why"
    first, second = Place(), Place()
    loop = asyncio.get_running_loop()
    (client, downstream), (upstream, agent) = socket.socketpair(), socket.socketpair()
    for sock in (client, agent):
        sock.setblocking(False)
    relay = await first.relay(downstream, upstream)
    await loop.sock_sendall(client, FRAME)
    assert await loop.sock_recv(agent, len(FRAME)) == FRAME
    count = 2000
    sending = asyncio.create_task(loop.sock_sendall(client, FRAME * count))
    while not relay.upstream.waiting_bytes:
        await asyncio.sleep(0.01)
        relay.refresh()
    moved = relay.detach()
    assert moved is not None
    assert moved.downstream.unsent
    relay.leave()
    # And again, while the one that it moved to has yet to send it; at last it comes back to it.
    for number in range(3):
        relay = await second.relay(
            socket.socket(fileno=moved.downstream.fd),
            socket.socket(fileno=moved.upstream.fd),
            moved,
        )
        while not relay.upstream.is_full:  # noqa: ASYNC110 - nobody tells
            await asyncio.sleep(0.005)
        moved = relay.detach()
        assert moved is not None
        assert len(moved.downstream.unsent) > GatewaySettings().write_buffer_bytes
        if number < 2:
            relay.leave()
    close_all((moved.downstream.fd, moved.upstream.fd))
    relay.come_back(moved)
    received = bytearray()
    while len(received) < count * len(FRAME):
        received += await loop.sock_recv(agent, 65536)
    assert bytes(received) == FRAME * count
    await sending
    client.close()
    agent.close()
    assert (await second.ended).frames_in == count + 1
    first.close()
    second.close()


@pytest.mark.usefixtures("relay_of")
async def test_without_descriptors_it_stays_where_it_is_and_moves_later(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    place = Place()
    loop = asyncio.get_running_loop()
    (client, downstream), (upstream, agent) = socket.socketpair(), socket.socketpair()
    for sock in (client, agent):
        sock.setblocking(False)
    relay = await place.relay(downstream, upstream)
    await loop.sock_sendall(client, FRAME)
    assert await read(agent, len(FRAME)) == FRAME
    dup, left = os.dup, [2, 1, 0]

    def scarce(file: int) -> int:
        if not left[-1]:
            left.pop()
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
        left[-1] -= 1
        return dup(file)

    before = len(os.listdir("/proc/self/fd"))
    monkeypatch.setattr(os, "dup", scarce)
    # None for the first connection, then none for the second: what was duplicated is closed.
    for _ in range(2):
        relay.hold()
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert relay.detach() is None
        relay.go_on()
        assert len(os.listdir("/proc/self/fd")) == before
        await loop.sock_sendall(client, FRAME)
        assert await read(agent, len(FRAME)) == FRAME
        await loop.sock_sendall(agent, b"\x82\x02hi")
        assert await read(client, 4) == b"\x82\x02hi"
    assert caplog.text.count("Too many open files") == 2
    moved = None
    while moved is None:
        await asyncio.sleep(0)
        moved = relay.detach()
    close_all((moved.downstream.fd, moved.upstream.fd))
    relay.leave()
    client.close()
    agent.close()
    place.close()


@pytest.mark.usefixtures("relay_of")
async def test_what_nobody_took_over_goes_on_as_if_nothing_had_been() -> None:
    place = Place()
    loop = asyncio.get_running_loop()
    (client, downstream), (upstream, agent) = socket.socketpair(), socket.socketpair()
    for sock in (client, agent):
        sock.setblocking(False)
    relay = await place.relay(downstream, upstream)
    await loop.sock_sendall(client, FRAME + FRAME[:2])
    assert await read(agent, len(FRAME)) == FRAME
    for turn in range(2):
        moved = None
        while moved is None:
            await asyncio.sleep(0)
            moved = relay.detach()
        # What comes while nobody reads waits in the system.
        await loop.sock_sendall(client, FRAME[2:] + FRAME + FRAME[:2])
        await loop.sock_sendall(agent, b"\x82\x02hi")
        await asyncio.sleep(0.02)
        close_all((moved.downstream.fd, moved.upstream.fd))
        relay.come_back(moved)
        assert await read(agent, 2 * len(FRAME)) == FRAME * 2
        assert await read(client, 4) == b"\x82\x02hi"
        relay.refresh()
        assert relay.downstream.scanner.frames == 3 + 2 * turn
        assert relay.upstream.scanner.frames == 1 + turn
    await loop.sock_sendall(client, FRAME[2:])
    assert await read(agent, len(FRAME)) == FRAME
    client.close()
    assert await loop.sock_recv(agent, 10) == b""
    agent.close()
    summary = await place.ended
    assert (summary.frames_in, summary.bytes_in, summary.frames_out) == (6, 6 * len(FRAME), 2)
    place.close()


async def test_what_a_slow_reader_has_yet_to_get_comes_back_too() -> None:
    assert carrier.IS_BUILT, "the compiled relay wasn't built; make setup says why"
    place = Place()
    loop = asyncio.get_running_loop()
    (client, downstream), (upstream, agent) = socket.socketpair(), socket.socketpair()
    for sock in (client, agent):
        sock.setblocking(False)
    relay = await place.relay(downstream, upstream)
    count = 2000
    sending = asyncio.create_task(loop.sock_sendall(client, FRAME * count))
    while not relay.upstream.waiting_bytes:
        await asyncio.sleep(0.01)
        relay.refresh()
    moved = relay.detach()
    assert moved is not None
    assert moved.downstream.unsent
    relay.come_back(moved)
    close_all((moved.downstream.fd, moved.upstream.fd))
    assert await read(agent, count * len(FRAME)) == FRAME * count
    await sending
    client.close()
    agent.close()
    assert (await place.ended).frames_in == count
    place.close()


class Way:
    """Both ends of a hand-over in one process: what the one gives the other takes at once."""

    def __init__(self, entrance: Entrance) -> None:
        self._entrance = entrance
        self._tasks: list[asyncio.Task[None]] = []

    async def relays(self, relays: Sequence[Mapping[str, Any]], files: Sequence[int]) -> None:
        # It goes over a Unix socket as JSON, and the files as duplicates.
        await self._entrance.take_relays(
            json.loads(json.dumps(relays)), [os.dup(file) for file in files], lambda: None
        )

    def connection(self, data: bytes, file: int) -> None:
        taking = self._entrance.take_connection(data, os.dup(file))
        self._tasks.append(asyncio.create_task(taking))

    async def settled(self) -> None:
        await asyncio.gather(*self._tasks)


@asynccontextmanager
async def two_gateways(
    agent: AbstractAsyncContextManager[Address] | None = None, **settings: Any
) -> AsyncIterator[tuple[Gateway, Gateway, Way, Departure]]:
    async with (
        agent or echo_agent(echo) as address,
        running_gateway(address, **settings) as old,
        running_gateway(address, **settings) as new,
    ):
        moved = set()

        async def lease_moved(_: SessionKey) -> Any:
            lease = next(iter(old.sessions.held - moved))
            moved.add(lease)
            return lease

        entrance = Entrance(new.services, new.server.connections, lease_moved, new.server.new_door)
        departure = Departure(old.services, old.server.connections)
        yield old, new, Way(entrance), departure


async def test_a_gateways_relays_go_on_in_another_and_no_byte_changes_its_place() -> None:
    async with two_gateways() as (old, new, way, departure):
        async with old.connect() as websocket:

            async def talk() -> None:
                for number in range(300):
                    await websocket.send(f"{number}:" + "x" * 2000)
                    assert (await websocket.recv()).startswith(f"{number}:")

            talking = asyncio.create_task(talk())
            await asyncio.sleep(0.02)
            moved = await departure.move(way, 10.0)
            await talking
            assert (moved.relays, moved.left) == (1, 0)
            assert not old.services.relayed
            assert len(new.services.relayed) == 1
        # The lease came along, and with it the log.
        await old.sessions.closed.wait()
        # Told once, by the one that has it, with all that was counted in both.
        ended = [*old.sessions.ended, *new.sessions.ended]
        assert len(ended) == 1
        assert ended[0]["in"]["frames"] == 301


@pytest.mark.usefixtures("relay_of")
@pytest.mark.parametrize("seen", [3, 8])
async def test_one_that_is_ending_is_read_on_where_it_is(
    monkeypatch: pytest.MonkeyPatch, seen: int
) -> None:
    # Whoever is held until it is settled, and can't be, is held for good.
    monkeypatch.setattr(moving, "_PATIENCE_S", 60.0)
    monkeypatch.setattr(moving, "_MOST_PATIENCE_S", 60.0)
    closing, answer = b"\x88\x82\0\0\0\0\x03\xe8", b"\x88\x02\x03\xe8"
    got, may_answer = asyncio.Event(), asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await accept_upgrade(reader, writer)
        await reader.readexactly(seen)
        got.set()
        await reader.readexactly(len(closing) - seen)
        await may_answer.wait()
        writer.write(answer)

    async with two_gateways(raw_agent(serve)) as (old, _, way, departure):
        reader, writer = await old.open()
        writer.write(old.upgrade_head())
        await reader.readuntil(b"\r\n\r\n")
        writer.write(closing[:seen])
        await got.wait()
        departing = asyncio.create_task(departure.move(way, 10.0))
        # By then it has been tried for a second time.
        await asyncio.sleep(0.05)
        writer.write(closing[seen:])
        may_answer.set()
        assert await reader.read() == answer
        moved = await departing
        assert (moved.relays, moved.left) == (0, 0)
        writer.close()


def reset_when_closed(sock: socket.socket) -> None:
    """Have it end as of a process that is killed with bytes unread."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


async def test_who_is_cut_off_on_the_way_ends_there_and_nobody_else() -> None:
    async with two_gateways() as (old, new, way, departure):
        loop, pass_on = asyncio.get_running_loop(), way.relays
        client = socket.create_connection(("127.0.0.1", old.port))
        client.setblocking(False)
        await loop.sock_sendall(client, old.upgrade_head() + FRAME[:100])
        assert b" 101 " in await loop.sock_recv(client, 4096)
        reset_when_closed(client)

        async def cut_off(relays: Sequence[Mapping[str, Any]], files: Sequence[int]) -> None:
            client.close()
            await pass_on(relays, files)

        async with old.connect() as websocket:
            while len(old.services.relayed) < 2:  # noqa: ASYNC110 - nobody tells
                await asyncio.sleep(0.005)
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(way, "relays", cut_off)
                moved = await departure.move(way, 10.0)
            assert (moved.relays, moved.left) == (2, 0)
            await old.sessions.closed.wait()
            assert len(new.services.relayed) == 1
            await websocket.send("after")
            assert await websocket.recv() == "after"
        await old.sessions.all_returned.wait()
        first, second = (each["reason"] for each in old.sessions.ended)
        assert (first, second) == ("the client went away", "")


async def test_who_ends_before_it_has_taken_a_relay_touches_nothing_of_it() -> None:
    async with two_gateways() as (old, new, _, departure):

        class Lease:
            """One that isn't the old gateway's own: both are of this process."""

            key, address = None, None
            released = 0

            def release(self) -> None:
                self.released += 1

        lease: Any = Lease()

        async def lease_moved(_: SessionKey) -> Any:
            return lease

        entrance = Entrance(new.services, new.server.connections, lease_moved, new.server.new_door)

        class Broken(Way):
            async def relays(
                self, relays: Sequence[Mapping[str, Any]], files: Sequence[int]
            ) -> None:
                def say_taken() -> None:
                    raise PassingError("the other process doesn't listen")

                duplicates = [os.dup(file) for file in files]
                await entrance.take_relays(relays, duplicates, say_taken)

        async with old.connect() as websocket:
            await websocket.send("before")
            assert await websocket.recv() == "before"
            with pytest.raises(PassingError):
                await departure.move(Broken(entrance), 10.0)
            assert not new.services.relayed
            assert len(old.services.relayed) == 1
            await asyncio.sleep(0)
            assert lease.released == 1
            for number in range(20):
                await websocket.send(f"{number}:" + "x" * 2000)
                assert (await websocket.recv()).startswith(f"{number}:")
        await old.sessions.closed.wait()
        assert old.sessions.ended[0]["in"]["frames"] == 22


async def test_a_connection_without_a_request_moves_and_is_served_there() -> None:
    async with two_gateways() as (old, new, way, departure):
        reader, writer = await old.open()
        await old.answers()
        moved = await departure.move(way, 10.0)
        await way.settled()
        assert moved.connections == 1
        writer.write(new.upgrade_head())
        assert b" 101 " in await reader.readuntil(b"\r\n\r\n")
        assert len(new.services.relayed) == 1
        writer.close()


@pytest.mark.parametrize("before", [b"", b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"])
async def test_a_head_that_is_not_whole_yet_moves_as_what_has_come_of_it(before: bytes) -> None:
    async with two_gateways() as (old, new, way, departure):
        reader, writer = await old.open()
        if before:
            writer.write(before)
            await reader.readuntil(b'"alive"}')
        head = new.upgrade_head()
        for part in (head[:1], head[1:70]):
            writer.write(part)
            await old.answers()
        moved = await departure.move(way, 10.0)
        await way.settled()
        assert moved.connections == 1
        writer.write(head[70:])
        assert b" 101 " in await reader.readuntil(b"\r\n\r\n")
        assert len(new.services.relayed) == 1
        writer.close()


async def test_a_head_that_came_with_the_end_of_a_body_stays() -> None:
    async with two_gateways() as (old, _, way, departure):
        reader, writer = await old.open()
        writer.write(
            b"GET /healthz HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\nab" + b"GET /hea"
        )
        await reader.readuntil(b'"alive"}')
        assert (await departure.move(way, 10.0)).connections == 0
        writer.write(b"lthz HTTP/1.1\r\nHost: x\r\n\r\n")
        assert b" 200 " in await reader.readuntil(b'"alive"}')
        writer.close()


def without_descriptors(monkeypatch: pytest.MonkeyPatch, times: float) -> list[int]:
    """Have so many duplicates fail; return the descriptors for which one was wanted meanwhile."""
    dup = os.dup
    refused: list[int] = []

    def scarce(file: int) -> int:
        if len(refused) < times:
            refused.append(file)
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
        return dup(file)

    monkeypatch.setattr(os, "dup", scarce)
    return refused


HEALTH = b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"


@pytest.mark.parametrize("has_asked", [False, True])
async def test_without_descriptors_a_resting_connection_is_tried_again(
    monkeypatch: pytest.MonkeyPatch, has_asked: bool
) -> None:
    async with two_gateways() as (old, new, way, departure):
        reader, writer = await old.open()
        if has_asked:
            writer.write(HEALTH)
            await reader.readuntil(b'"alive"}')
        await old.answers()
        refused = without_descriptors(monkeypatch, 3)
        moved = await departure.move(way, 10.0)
        await way.settled()
        assert (moved.connections, len(refused)) == (1, 3)
        assert not old.server.connections
        assert len(new.server.connections) == 1
        writer.write(HEALTH)
        assert b" 200 " in await reader.readuntil(b'"alive"}')
        writer.close()


async def test_a_resting_connection_that_gets_no_descriptor_is_served_where_it_is(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with two_gateways() as (old, new, way, departure):
        reader, writer = await old.open()
        await old.answers()
        with monkeypatch.context() as patch:
            without_descriptors(patch, float("inf"))
            assert (await departure.move(way, 10.0)).connections == 0
        assert not new.server.connections
        writer.write(old.upgrade_head())
        assert b" 101 " in await reader.readuntil(b"\r\n\r\n")
        writer.write(b"\x82\x82\0\0\0\0hi")
        assert await reader.readexactly(4) == b"\x82\x02hi"
        assert len(old.services.relayed) == 1
        writer.close()


async def test_an_upgrade_that_cannot_be_left_to_move_is_passed_on_at_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    heads = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heads.append(await accept_upgrade(reader, writer))
        writer.write(b"\x82\x02" + (await reader.readexactly(8))[6:])
        writer.close()

    node = NodeId("next")
    peer = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with peer, two_gateways() as (old, _, _, _):
        url = f"http://127.0.0.1:{peer.sockets[0].getsockname()[1]}"
        old.store.nodes[node] = NodeRecord(node=node, heartbeat_at=dt.datetime.now(dt.UTC), url=url)
        old.sessions.error = SessionElsewhereError(SessionKey("default", "echo", "s"), node)
        old.sessions.is_passed_on = True
        refused = without_descriptors(monkeypatch, 1)
        reader, writer = await old.open()
        writer.write(old.upgrade_head())
        assert b" 101 " in await reader.readuntil(b"\r\n\r\n")
        writer.write(b"\x82\x82\0\0\0\0hi")
        assert await reader.readexactly(4) == b"\x82\x02hi"
        assert len(refused) == 1
        assert not old.services.stranded
        assert heads[0].startswith(f"GET {NEW_PATH} ".encode())
        writer.close()


async def test_an_upgrade_moves_as_it_came_with_what_was_sent_too_early() -> None:
    async with two_gateways() as (old, new, way, departure):
        ours, theirs = socket.socketpair()
        old.services.stranded.append(
            (theirs.detach(), new.upgrade_head() + b"\x82\x83\0\0\0\0abc" + b"\x82\x82\0\0")
        )
        await departure.move(way, 10.0)
        await way.settled()
        reader, writer = await asyncio.open_connection(sock=ours)
        writer.write(b"\0\0hi")
        assert b" 101 " in await reader.readuntil(b"\r\n\r\n")
        assert await reader.readexactly(9) == b"\x82\x03abc\x82\x02hi"
        writer.close()


@pytest.mark.parametrize("is_reset", [False, True])
async def test_a_client_that_left_on_the_way_is_let_go(is_reset: bool) -> None:
    async with two_gateways() as (old, new, way, departure):
        with socket.create_server(("127.0.0.1", 0)) as server:
            ours = socket.create_connection(server.getsockname())
            theirs, _ = server.accept()
        old.services.stranded.append((theirs.detach(), new.upgrade_head()))
        if is_reset:
            reset_when_closed(ours)
        ours.close()
        moved = await departure.move(way, 10.0)
        await way.settled()
        assert moved.connections == 1
        while new.services.limits.places:  # noqa: ASYNC110 - nobody tells
            await asyncio.sleep(0.005)
        assert not new.server.connections
