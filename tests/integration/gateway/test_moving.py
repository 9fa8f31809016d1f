"""A relay's connections go on in another relay, and nobody at their ends notices."""

import asyncio
import socket
from dataclasses import dataclass, field

import pytest

from trunkline.gateway import carrier
from trunkline.gateway.carrier import Carrier
from trunkline.gateway.moved import MovedRelay, arrive
from trunkline.gateway.relay import Relay
from trunkline.gateway.settings import GatewaySettings
from trunkline.gateway.summary import Summary

FRAME = b"\x82\xfe" + (600).to_bytes(2) + b"\0\0\0\0" + b"p" * 600


@dataclass
class Place:
    """Stands for a process: its relays share a carrier."""

    carrier: Carrier = field(default_factory=lambda: Carrier(GatewaySettings()))
    ended: asyncio.Future[Summary] = field(default_factory=asyncio.Future)

    async def relay(
        self, downstream: socket.socket, upstream: socket.socket, moved: MovedRelay | None = None
    ) -> Relay:
        arrivals = [await arrive(sock.detach()) for sock in (downstream, upstream)]

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


@pytest.fixture(params=["compiled", "python"])
def relay_of(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if request.param == "compiled":
        assert carrier.IS_BUILT, "the compiled relay wasn't built; make setup says why"
    else:
        monkeypatch.setattr(carrier, "IS_BUILT", False)


@pytest.mark.usefixtures("relay_of")
async def test_connections_move_inside_a_frame_and_count_on() -> None:
    first, second = Place(), Place()
    loop = asyncio.get_running_loop()
    (client, downstream), (upstream, agent) = socket.socketpair(), socket.socketpair()
    for sock in (client, agent):
        sock.setblocking(False)

    async def read(sock: socket.socket, size: int) -> bytes:
        got = b""
        while len(got) < size:
            got += await loop.sock_recv(sock, size - len(got))
        return got

    relay = await first.relay(downstream, upstream)
    await loop.sock_sendall(client, FRAME + FRAME[:100])
    assert await read(agent, len(FRAME) + 100) == FRAME + FRAME[:100]
    moved = None
    while moved is None:
        await asyncio.sleep(0)
        moved = relay.detach()
    assert relay.detach() is None
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
    first.carrier.close()
    second.carrier.close()


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
    await second.relay(
        socket.socket(fileno=moved.downstream.fd), socket.socket(fileno=moved.upstream.fd), moved
    )
    received = bytearray()
    while len(received) < count * len(FRAME):
        received += await loop.sock_recv(agent, 65536)
    assert bytes(received) == FRAME * count
    await sending
    client.close()
    agent.close()
    assert (await second.ended).frames_in == count + 1
    first.carrier.close()
    second.carrier.close()
