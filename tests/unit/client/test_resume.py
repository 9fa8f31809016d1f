"""Coming back to a session, against connections that break when the test says so."""

import asyncio
from collections import deque

import pytest

from trunkline.client import (
    DEFAULT_BACKOFF,
    Backoff,
    ClosedError,
    Message,
    RefusedError,
    ResumingConnection,
    UnreachableError,
)


class Wire:
    """What a connection does, without a network."""

    def __init__(self, session_id: str = "s-1") -> None:
        self.session_id = session_id
        self.sent: list[Message] = []
        self.coming: deque[Message] = deque()
        self.changed = asyncio.Event()
        self.code: int | None = None
        self.said: tuple[int, str] | None = None

    def bring(self, *messages: Message) -> None:
        self.coming += messages
        self.changed.set()

    def end(self, code: int) -> None:
        self.code = code
        self.changed.set()

    @property
    def close_code(self) -> int | None:
        return self.code

    @property
    def close_reason(self) -> str:
        return ""

    async def send(self, message: Message) -> None:
        if self.code is not None:
            raise ClosedError(self.code, "")
        self.sent.append(message)

    async def receive(self) -> Message:
        while not self.coming:
            if self.code is not None:
                raise ClosedError(self.code, "")
            self.changed.clear()
            await self.changed.wait()
        return self.coming.popleft()

    async def aclose(self, code: int = 1000, reason: str = "") -> None:
        self.said = (code, reason)
        self.end(code)


class Platform:
    """Gives a new connection, or an error, for each attempt."""

    def __init__(self, *answers: Exception | None) -> None:
        self.answers = deque(answers)
        self.wires = [Wire()]
        self.asked: list[str] = []
        self.pauses: list[float] = []
        self.now_s = 0.0
        self.gate = asyncio.Event()
        self.gate.set()
        self.redialled = asyncio.Event()

    @property
    def wire(self) -> Wire:
        return self.wires[-1]

    async def dial(self, session_id: str) -> Wire:
        await self.gate.wait()
        self.asked.append(session_id)
        answer = self.answers.popleft() if self.answers else None
        if answer is not None:
            raise answer
        self.wires.append(Wire())
        self.redialled.set()
        return self.wire

    async def sleep(self, seconds: float) -> None:
        self.pauses.append(seconds)
        self.now_s += seconds
        await asyncio.sleep(0)

    def conversation(self, backoff: Backoff | None = DEFAULT_BACKOFF) -> ResumingConnection:
        return ResumingConnection(
            self.wire,  # type: ignore[arg-type]
            self.dial,  # type: ignore[arg-type]
            backoff,
            sleep=self.sleep,
            chance=lambda: 1.0,
            clock=lambda: self.now_s,
        )


def refusal(status: int, **header: str) -> RefusedError:
    return RefusedError(status, "code", "no", header)


@pytest.mark.parametrize("code", [1001, 1006, 1012, 1013, 1014])
async def test_the_conversation_goes_on_in_the_same_session(code: int) -> None:
    platform = Platform()
    talk = platform.conversation()
    told: list[object] = []
    talk.on_loss = lambda error: told.append(error.close_code)
    talk.on_resume = lambda: told.append("resumed")
    platform.wire.bring("before")
    platform.wire.end(code)
    assert await talk.receive() == "before"
    receiving = asyncio.ensure_future(talk.receive())
    await platform.redialled.wait()
    platform.wire.bring("after")
    assert await receiving == "after"
    await talk.send("mine")
    assert platform.wire.sent == ["mine"]
    assert platform.asked == ["s-1"]
    assert told == [code, "resumed"]
    assert talk.connections == 2
    await talk.aclose()


@pytest.mark.parametrize("code", [1000, 1005, 1008, 1009, 1011, 4001])
async def test_other_closes_end_it(code: int) -> None:
    platform = Platform()
    talk = platform.conversation()
    platform.wire.end(code)
    with pytest.raises(ClosedError):
        await talk.receive()
    with pytest.raises(ClosedError):
        await talk.send("x")
    assert platform.asked == []


async def test_without_a_backoff_nothing_is_resumed() -> None:
    platform = Platform()
    talk = platform.conversation(None)
    platform.wire.end(1001)
    with pytest.raises(ClosedError):
        await talk.receive()
    assert platform.asked == []


async def test_both_directions_share_one_new_connection() -> None:
    platform = Platform()
    talk = platform.conversation()
    platform.gate.clear()
    platform.wire.end(1006)
    sending = [asyncio.ensure_future(talk.send(str(n))) for n in range(3)]
    receiving = asyncio.ensure_future(talk.receive())
    await asyncio.sleep(0)
    platform.gate.set()
    await asyncio.gather(*sending)
    platform.wire.bring("hello")
    assert await receiving == "hello"
    assert platform.asked == ["s-1"]
    assert sorted(map(str, platform.wire.sent)) == ["0", "1", "2"]


async def test_the_pauses_grow_and_the_platforms_own_are_kept() -> None:
    busy = refusal(503, **{"retry-after": "7"})
    down = UnreachableError("http://host")
    platform = Platform(down, down, busy, down, None)
    talk = platform.conversation(Backoff(first_s=1, max_s=4))
    platform.wire.end(1001)
    await talk.send("x")
    assert platform.pauses == [1, 2, 4, 7, 4, 4]
    assert platform.wire.sent == ["x"]


@pytest.mark.parametrize("status", [401, 403, 404, 409])
async def test_a_refusal_that_stays_ends_it(status: int) -> None:
    platform = Platform(refusal(status))
    talk = platform.conversation()
    platform.wire.end(1001)
    with pytest.raises(RefusedError):
        await talk.receive()
    # Asking again doesn't change the answer, and isn't tried.
    with pytest.raises(RefusedError):
        await talk.send("x")
    assert len(platform.asked) == 1


async def test_it_is_given_up_in_the_end() -> None:
    platform = Platform(*[UnreachableError("http://host")] * 100)
    talk = platform.conversation(Backoff(first_s=1, max_s=10, give_up_after_s=60))
    platform.wire.end(1006)
    with pytest.raises(UnreachableError):
        await talk.receive()
    assert 60 <= platform.now_s <= 70


async def test_cancelling_one_direction_leaves_the_other() -> None:
    platform = Platform()
    talk = platform.conversation()
    platform.gate.clear()
    platform.wire.end(1006)
    receiving = asyncio.ensure_future(talk.receive())
    sending = asyncio.ensure_future(talk.send("kept"))
    for _ in range(5):
        await asyncio.sleep(0)
    receiving.cancel()
    with pytest.raises(asyncio.CancelledError):
        await receiving
    platform.gate.set()
    await sending
    assert platform.wire.sent == ["kept"]
    platform.wire.bring("and received")
    assert await talk.receive() == "and received"


async def test_a_cancelled_receive_loses_nothing() -> None:
    platform = Platform()
    talk = platform.conversation()
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0):
            await talk.receive()
    platform.wire.bring("still there")
    assert await talk.receive() == "still there"


async def test_closing_while_coming_back_ends_at_once() -> None:
    platform = Platform()
    talk = platform.conversation()
    platform.gate.clear()
    platform.wire.end(1006)
    receiving = asyncio.ensure_future(talk.receive())
    for _ in range(5):
        await asyncio.sleep(0)
    await talk.aclose()
    with pytest.raises(ClosedError):
        await receiving
    await talk.aclose()
    assert platform.asked == []


async def test_closing_says_why() -> None:
    platform = Platform()
    async with platform.conversation() as talk:
        platform.wire.bring("one")
        assert await talk.receive() == "one"
        await talk.aclose(4000, "done")
        assert platform.wire.said == (4000, "done")


async def test_iteration_ends_at_1000_and_goes_on_at_1001() -> None:
    platform = Platform()
    talk = platform.conversation()
    got = []

    async def read() -> None:
        async for message in talk:
            got.append(message)

    reading = asyncio.ensure_future(read())
    platform.wire.bring("a")
    platform.wire.end(1001)
    await platform.redialled.wait()
    platform.wire.bring("b")
    platform.wire.end(1000)
    await reading
    assert got == ["a", "b"]


def test_the_jitter_is_all_of_the_pause() -> None:
    backoff = Backoff(first_s=1, max_s=8)
    assert [backoff.pause_s(n, 1.0) for n in range(5)] == [1, 2, 4, 8, 8]
    assert backoff.pause_s(3, 0.0) == 0
    assert backoff.pause_s(10_000, 0.5) == 4
