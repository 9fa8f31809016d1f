"""When each message is sent, and when a replay is over."""

import asyncio
from collections.abc import Callable

import pytest

from trunkline.client import ClosedError, Message
from trunkline.recordings.compare import Rules
from trunkline.recordings.format import BINARY, CLOSE, MARK, TEXT, Record, Recording, TimedMessage
from trunkline.recordings.load import answers, run_load
from trunkline.recordings.player import Played, Player
from trunkline.recordings.statistics import histogram, percentile, summary_ms, svg_of


def recording(*records: tuple[float, str, Message | int]) -> Recording:
    made = [Record(0, False, MARK, b'{"event":"opened","session_id":"s"}')]
    for at_s, who, what in records:
        from_agent = who == "agent"
        at_us = int(at_s * 1e6)
        if isinstance(what, int):
            made.append(Record(at_us, from_agent, CLOSE, what.to_bytes(2)))
            lost = b'{"event":"lost","code":%d,"reason":""}' % what
            made.append(Record(at_us, False, MARK, lost))
        elif isinstance(what, str):
            made.append(Record(at_us, from_agent, TEXT, what.encode()))
        else:
            made.append(Record(at_us, from_agent, BINARY, what))
    return Recording(header={}, records=tuple(made))


class Agent:
    """An agent in memory: answers each message with what ``answer`` gives for it."""

    def __init__(self, answer: Callable[[Message], list[Message | int]]) -> None:
        self.answer = answer
        self.got: list[Message] = []
        self.queue: asyncio.Queue[Message | int] = asyncio.Queue()
        self.closed: int | None = None
        self.session_id = "s-1"

    async def send(self, message: Message) -> None:
        if self.closed is not None:
            raise ClosedError(self.closed, "")
        self.got.append(message)
        for item in self.answer(message):
            self.queue.put_nowait(item)

    async def receive(self) -> Message:
        item = await self.queue.get()
        if isinstance(item, int):
            self.closed = item
            raise ClosedError(item, "")
        return item

    async def aclose(self, code: int = 1000, reason: str = "") -> None:
        if self.closed is None:
            self.closed = code
            self.queue.put_nowait(code)


def echo(message: Message) -> list[Message | int]:
    return [message]


CALL = recording(
    (0.1, "client", "one"),
    (0.11, "agent", "one"),
    (0.5, "client", b"\x02"),
    (0.51, "agent", b"\x02"),
    (0.6, "client", 1000),
)


class Time:
    """A clock that sleeping moves."""

    def __init__(self) -> None:
        self.now_s = 100.0
        self.slept: list[float] = []

    def __call__(self) -> float:
        return self.now_s

    async def sleep(self, seconds: float) -> None:
        self.slept.append(round(seconds, 6))
        self.now_s += seconds
        await asyncio.sleep(0)


async def test_messages_are_sent_when_they_were_sent() -> None:
    time, agent = Time(), Agent(echo)
    # What is to come after the last message takes the time it took, on the real clock.
    player = Player(CALL, linger_s=0.05, clock=time, sleep=time.sleep)
    played = await player.play(agent)
    assert agent.got == ["one", b"\x02"]
    assert time.slept == [0.1, 0.4]
    assert [m.message for m in played.received] == ["one", b"\x02"]
    assert played.late_s == pytest.approx([0, 0])
    assert played.close.code == 1000


async def test_as_fast_as_the_agent_answers() -> None:
    agent = Agent(echo)
    slow = recording(
        (10, "client", "a"), (20, "agent", "a"), (30, "client", "b"), (40, "agent", "b")
    )
    played = await Player(slow, is_fast=True, linger_s=0.05).play(agent)
    assert [m.message for m in played.received] == ["a", "b"]
    assert played.late_s == []


async def test_an_agent_that_says_less_is_waited_for_once() -> None:
    agent = Agent(lambda _message: [])
    many = recording(*((n, who, str(n)) for n in range(20) for who in ("client", "agent")))
    async with asyncio.timeout(2):
        played = await Player(many, is_fast=True, linger_s=0.1).play(agent)
    assert len(agent.got) == 20
    assert played.received == []


async def test_an_agent_that_says_more_is_heard_out() -> None:
    agent = Agent(lambda message: [message, "more"])
    call = recording((0, "client", "a"), (0, "agent", "a"), (0.05, "client", 1000))
    played = await Player(call, linger_s=0.05).play(agent)
    assert [m.message for m in played.received] == ["a", "more"]


async def test_an_agent_that_closes_ends_it() -> None:
    agent = Agent(lambda _message: ["bye", 4001])
    played = await Player(CALL, is_fast=True, linger_s=5).play(agent)
    assert played.close.code == 4001
    assert agent.got == ["one"]


async def test_the_agents_recorded_close_is_waited_for() -> None:
    agent = Agent(lambda _message: ["bye"])
    call = recording((0, "client", "a"), (0, "agent", "bye"), (0, "agent", 4001))
    playing = asyncio.ensure_future(Player(call, linger_s=5).play(agent))
    await asyncio.sleep(0.02)
    agent.queue.put_nowait(4001)
    async with asyncio.timeout(1):
        assert (await playing).close.code == 4001


async def test_the_client_closes_as_it_did() -> None:
    agent = Agent(echo)
    call = recording((0, "client", "a"), (0, "agent", "a"), (0, "client", 4000))
    played = await Player(call, linger_s=0.05).play(agent)
    assert played.close.code == 4000


async def test_cancelling_leaves_the_connection() -> None:
    agent = Agent(echo)
    playing = asyncio.ensure_future(Player(CALL).play(agent))
    await asyncio.sleep(0.01)
    playing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await playing
    assert agent.closed is None


async def test_load_counts_what_happens() -> None:
    call = recording((0, "client", "a"), (0.0, "agent", "a"), (0.02, "client", 1000))
    made: list[Agent] = []

    async def dial() -> Agent:
        number = len(made)
        made.append(Agent(echo if number else lambda _message: ["other"]))
        if number == 2:
            raise ClosedError(1013, "full")
        return made[-1]

    result = await run_load(call, dial, sessions=5, linger_s=0.05, rules=Rules())
    assert len(result.connect_s) == 4
    assert result.errors == {"connection_closed": 1}
    assert result.closes == {1000: 4}
    assert result.differing == 1
    assert len(result.answer_s) == 4
    assert result.messages == 4


def test_what_an_answer_is() -> None:
    sent = [TimedMessage(1, "a"), TimedMessage(2, "b"), TimedMessage(5, "c")]
    came = [
        TimedMessage(0.5, "hi"),
        TimedMessage(3, "x"),
        TimedMessage(4, "y"),
        TimedMessage(5.5, "z"),
    ]
    assert answers(sent, came) == [1, 0.5]


def test_percentiles() -> None:
    assert [percentile([1, 2, 3, 4], p) for p in (0, 25, 50, 75, 99, 100)] == [1, 1, 2, 3, 4, 4]
    assert summary_ms([0.001] * 99 + [1.0])["p99"] == 1.0
    assert summary_ms([0.001] * 99 + [1.0])["max"] == 1000.0
    assert summary_ms([]) == {}


def test_drawings() -> None:
    values = [0.001 * n for n in range(1, 2000)]
    lines = histogram(values)
    assert len(lines) == 12
    assert sum(int(line.split("ms")[1].split()[0]) for line in lines) == len(values)
    assert histogram([]) == []
    assert len(histogram([0.0])) == 12
    svg = svg_of({"a <b>": values, "none": []}, "t & u")
    assert svg.startswith("<svg")
    assert "a &lt;b&gt; (1999)" in svg
    assert "t &amp; u" in svg
    assert svg_of({}, "empty").endswith("</svg>\n")


def test_played_begins_empty() -> None:
    assert Played().close.code == 1005
