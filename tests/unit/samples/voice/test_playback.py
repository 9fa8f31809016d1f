import asyncio

import pytest

import wire
from playback import FRAME_BYTES, LEAD_S, Playback
from tests.unit.samples.voice.fake_time import FakeTime, settle

HEADER_BYTES = 8


class Client:
    """Notes when how much arrived."""

    def __init__(self, time: FakeTime) -> None:
        self._time = time
        self.frames: list[tuple[float, int]] = []
        self.is_slow = False

    async def receive(self, message: bytes) -> None:
        if self.is_slow:
            await self._time.sleep(1.0)
        self.frames.append((round(self._time.now_s - 100.0, 3), len(message) - HEADER_BYTES))

    @property
    def received_s(self) -> float:
        return sum(size for _, size in self.frames) / wire.BYTES_PER_S


@pytest.fixture
def time() -> FakeTime:
    return FakeTime()


@pytest.fixture
def client(time: FakeTime) -> Client:
    return Client(time)


@pytest.fixture
def playback(time: FakeTime, client: Client) -> Playback:
    return Playback(client.receive, clock=time.clock, sleep=time.sleep)


def sound(duration_s: float) -> bytes:
    return bytes(int(duration_s * wire.SAMPLE_RATE) * wire.BYTES_PER_SAMPLE)


async def test_first_frame_is_sent_at_once_and_the_lead_after_it(
    time: FakeTime, client: Client, playback: Playback
) -> None:
    playing = asyncio.create_task(playback.play(sound(2.0)))
    await settle()
    assert client.frames[0] == (0.0, FRAME_BYTES)
    assert LEAD_S <= client.received_s <= LEAD_S + 0.04
    assert playback.first_sent_at == 100.0
    await time.advance(5.0)
    await playing


async def test_the_client_is_never_further_ahead_than_the_lead_and_a_frame(
    time: FakeTime, client: Client, playback: Playback
) -> None:
    playing = asyncio.create_task(playback.play(sound(2.0)))
    for _ in range(100):
        await time.advance(0.02)
        heard_s = time.now_s - 100.0
        assert client.received_s >= min(2.0, heard_s)
        assert client.received_s <= heard_s + LEAD_S + 0.041
    await playing
    assert client.received_s == 2.0


async def test_the_last_frame_may_be_short(
    time: FakeTime, client: Client, playback: Playback
) -> None:
    await playback.play(sound(0.1))
    assert [size for _, size in client.frames] == [1920, 1920, 960]


async def test_finish_waits_until_everything_was_heard(time: FakeTime, playback: Playback) -> None:
    await playback.play(sound(0.2))
    finishing = asyncio.create_task(playback.finish())
    await time.advance(0.199)
    assert not finishing.done()
    await time.advance(0.002)
    assert finishing.done()
    assert playback.played_ms == 200


async def test_played_is_what_was_sent_less_what_is_left(
    time: FakeTime, playback: Playback
) -> None:
    assert playback.played_ms == 0
    playing = asyncio.create_task(playback.play(sound(2.0)))
    await time.advance(1.0)
    assert playback.played_ms == 1000
    playing.cancel()
    await asyncio.wait([playing])
    # What the client has is played on, unless it throws it away.
    await time.advance(10.0)
    assert 1250 <= playback.played_ms <= 1290


async def test_a_gap_is_not_made_up_for(time: FakeTime, client: Client, playback: Playback) -> None:
    await playback.play(sound(0.2))
    await time.advance(5.0)
    playing = asyncio.create_task(playback.play(sound(1.0)))
    await settle()
    assert client.received_s <= 0.2 + LEAD_S + 0.041
    await time.advance(0.5)
    assert playback.played_ms == 700
    await time.advance(1.0)
    await playing


async def test_a_client_that_does_not_read_is_waited_for(
    time: FakeTime, client: Client, playback: Playback
) -> None:
    client.is_slow = True
    playing = asyncio.create_task(playback.play(sound(0.12)))
    await time.advance(1.5)
    assert len(client.frames) == 1
    await time.advance(3.0)
    await playing
    assert len(client.frames) == 3
