"""A relay whose agent is frozen: it answers signs of life, and loses nothing when it wakes."""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

import pytest

from trunkline.gateway import carrier
from trunkline.gateway.carrier import Carrier
from trunkline.gateway.moved import arrive
from trunkline.gateway.relay import Relay
from trunkline.gateway.settings import GatewaySettings
from trunkline.gateway.summary import ClosedBy, Summary
from trunkline.protocol.close import CloseCode

MASK = b"\1\2\3\4"
DATA = b"\x82\x83" + MASK + b"abc"
PING = b"\x89\x82" + MASK + bytes((ord("h") ^ 1, ord("i") ^ 2))
PONG = b"\x8a\x80" + MASK
ANSWER = b"\x8a\x02hi"


@dataclass
class Sleepy:
    """A relay between two sockets of a test's, which notes what wakes it."""

    relay: Relay
    client: socket.socket
    agent: socket.socket
    ended: "asyncio.Future[Summary]"
    causes: list[str] = field(default_factory=list)

    def sleep(self) -> bool:
        return self.relay.fall_asleep(self._wake)

    def _wake(self, why: str) -> None:
        self.causes.append(why)
        self.relay.wake()

    async def client_says(self, data: bytes) -> None:
        await asyncio.get_running_loop().sock_sendall(self.client, data)

    async def agent_says(self, data: bytes) -> None:
        await asyncio.get_running_loop().sock_sendall(self.agent, data)

    async def read(self, sock: socket.socket, size: int) -> bytes:
        got = b""
        while len(got) < size:
            part = await asyncio.get_running_loop().sock_recv(sock, size - len(got))
            assert part, "the stream ended"
            got += part
        return got

    def nothing_for(self, sock: socket.socket) -> bool:
        with contextlib.suppress(BlockingIOError):
            return not sock.recv(1, socket.MSG_PEEK)
        return True


@pytest.fixture(params=["compiled", "python"])
async def sleepy(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Sleepy]:
    if request.param == "compiled":
        assert carrier.IS_BUILT, "the compiled relay wasn't built; make setup says why"
    else:
        monkeypatch.setattr(carrier, "IS_BUILT", False)
    settings = GatewaySettings(close_timeout_s=0.5)
    carrying = Carrier(settings)
    (client, downstream), (upstream, agent) = socket.socketpair(), socket.socketpair()
    for sock in (client, agent):
        sock.setblocking(False)
    ended: asyncio.Future[Summary] = asyncio.get_running_loop().create_future()

    async def explain() -> str:
        return "it is a test"

    arrivals = [await arrive(sock.detach()) for sock in (downstream, upstream)]
    relay = Relay(
        *(arrival.transport for arrival in arrivals),
        settings,
        carrier=carrying,
        on_end=ended.set_result,
        explain_loss=explain,
    )
    made = Sleepy(relay, client, agent, ended)
    # A few frames first, so that the pump has it.
    for _ in range(3):
        await made.client_says(DATA)
        assert await made.read(agent, len(DATA)) == DATA
        await made.agent_says(b"\x82\x01x")
        assert await made.read(client, 3) == b"\x82\x01x"
    yield made
    relay.abort()
    client.close()
    agent.close()
    await asyncio.wait_for(ended, 5)
    carrying.close()


async def test_pings_are_answered_and_a_frame_wakes(sleepy: Sleepy) -> None:
    before = sleepy.relay.traffic()
    assert before is not None
    assert sleepy.sleep()
    await sleepy.client_says(PING * 2)
    assert await sleepy.read(sleepy.client, len(ANSWER) * 2) == ANSWER * 2
    assert sleepy.nothing_for(sleepy.agent)
    await sleepy.client_says(PONG)
    assert await sleepy.read(sleepy.agent, len(PONG)) == PONG
    assert sleepy.causes == []
    after = sleepy.relay.traffic()
    assert after is not None
    assert after.frames == before.frames == 6
    assert after.size == before.size + 2 * len(PING) + len(PONG)
    # A ping's first byte, then the rest of it with a frame behind.
    await sleepy.client_says(PING[:1])
    await asyncio.sleep(0.01)
    await sleepy.client_says(PING[1:] + DATA)
    assert await sleepy.read(sleepy.client, len(ANSWER)) == ANSWER
    assert await sleepy.read(sleepy.agent, len(DATA)) == DATA
    assert sleepy.causes == ["a frame"]
    # And everything is as before.
    await sleepy.client_says(PING)
    assert await sleepy.read(sleepy.agent, len(PING)) == PING
    last = sleepy.relay.traffic()
    assert last is not None
    assert last.frames == 7
    assert sleepy.sleep()


async def test_half_a_ping_goes_to_the_agent_when_another_cause_wakes_it(sleepy: Sleepy) -> None:
    assert sleepy.sleep()
    await sleepy.client_says(PING[:3])
    await asyncio.sleep(0.01)
    sleepy.relay.wake()
    await sleepy.client_says(PING[3:])
    assert await sleepy.read(sleepy.agent, len(PING)) == PING
    traffic = sleepy.relay.traffic()
    assert traffic is not None
    assert traffic.size == 3 * (len(DATA) + 3) + len(PING)


async def test_it_does_not_sleep_inside_a_frame(sleepy: Sleepy) -> None:
    await sleepy.agent_says(b"\x82\x05ab")
    assert await sleepy.read(sleepy.client, 4) == b"\x82\x05ab"
    assert not sleepy.sleep()
    await sleepy.agent_says(b"cde")
    assert await sleepy.read(sleepy.client, 3) == b"cde"
    assert sleepy.sleep()


async def test_nothing_is_put_into_a_frame_of_the_agents(sleepy: Sleepy) -> None:
    assert sleepy.sleep()
    # It was frozen while it sent.
    await sleepy.agent_says(b"\x82\x05ab")
    assert await sleepy.read(sleepy.client, 4) == b"\x82\x05ab"
    assert sleepy.relay.traffic() is None
    await sleepy.client_says(PING)
    assert await sleepy.read(sleepy.agent, len(PING)) == PING
    assert sleepy.causes == ["a frame"]
    assert sleepy.nothing_for(sleepy.client)


async def test_a_close_of_ours_wakes_it(sleepy: Sleepy) -> None:
    assert sleepy.sleep()
    sleepy.relay.close(CloseCode.GOING_AWAY, "enough", ClosedBy.LIMIT)
    assert sleepy.causes == ["the connection's end"]
    assert (await sleepy.read(sleepy.client, 10))[4:] == b"enough"
    assert (await sleepy.read(sleepy.agent, 14))[:2] == b"\x88\x88"


async def test_a_client_that_leaves_wakes_it(sleepy: Sleepy) -> None:
    assert sleepy.sleep()
    sleepy.client.close()
    assert await asyncio.get_running_loop().sock_recv(sleepy.agent, 10) == b""
    sleepy.agent.close()
    summary = await asyncio.wait_for(asyncio.shield(sleepy.ended), 5)
    assert (summary.by, summary.code) == (ClosedBy.NETWORK, 1006)
    assert sleepy.causes == ["the client's end of its stream"]


async def test_an_agent_that_is_killed_is_told_to_the_client(sleepy: Sleepy) -> None:
    assert sleepy.sleep()
    sleepy.agent.close()
    got = await sleepy.read(sleepy.client, 4 + len("it is a test"))
    assert got == b"\x88\x0e\x03\xf3it is a test"
    assert sleepy.causes == ["the connection's end"]


async def test_a_client_that_pings_and_reads_nothing_is_not_read_for_ever(sleepy: Sleepy) -> None:
    assert sleepy.sleep()
    block = PING * 8192
    sent, at = 0, 0
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(2):
            while sent < 64 * 2**20:
                try:
                    count = sleepy.client.send(block[at:])
                except BlockingIOError:
                    count = 0
                    await asyncio.sleep(0.005)
                sent, at = sent + count, (at + count) % len(block)
    assert sent < 64 * 2**20
    # It reads again, and all of them have been answered.
    received = await sleepy.read(sleepy.client, sent // len(PING) * len(ANSWER))
    assert received == ANSWER * (sent // len(PING))
    await sleepy.client_says(block[at:] if at % len(PING) else b"")
    await sleepy.client_says(DATA)
    got = b""
    while not got.endswith(DATA):
        got += await asyncio.get_running_loop().sock_recv(sleepy.agent, 1024)
    assert got == DATA
