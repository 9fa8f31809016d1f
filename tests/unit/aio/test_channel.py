"""Two ends of a channel on one event loop."""

import asyncio
import contextlib
import os
import resource
import socket
import tempfile
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

from trunkline.aio.channel import Channel
from trunkline.aio.passing import PassingError, close_all


class End:
    """One end, and what it heard."""

    def __init__(self, sock: socket.socket) -> None:
        self.told: list[dict[str, Any]] = []
        self.files: list[int] = []
        self.late: list[dict[str, Any]] = []
        self.lost = asyncio.Event()
        self.asked = asyncio.Event()
        self.cancelled = asyncio.Event()
        self.may_answer = asyncio.Event()
        self.may_answer.set()
        self.channel = Channel(
            sock,
            on_tell=self._hear,
            on_ask=self._answer,
            on_lost=self.lost.set,
            on_late=self.late.append,
        )
        self.channel.open()

    def _hear(self, message: dict[str, Any], files: list[int]) -> None:
        self.told.append(message)
        self.files += files

    async def _answer(self, message: dict[str, Any]) -> dict[str, Any]:
        self.asked.set()
        try:
            await self.may_answer.wait()
        except asyncio.CancelledError:
            self.cancelled.set()
            raise
        return {"echo": message, "told": len(self.told)}


@pytest.fixture
async def ends() -> AsyncIterator[tuple[End, End]]:
    a, b = (End(sock) for sock in socket.socketpair())
    yield a, b
    for end in (a, b):
        end.channel.close()
        close_all(end.files)


async def test_both_ask_and_an_answer_comes_after_what_was_said_before(
    ends: tuple[End, End],
) -> None:
    a, b = ends
    for number in range(3):
        a.channel.tell({"n": number})
    answers = await asyncio.gather(
        a.channel.ask({"who": "a"}), b.channel.ask({"who": "b"}), a.channel.ask({"who": "c"})
    )
    assert [answer["echo"]["who"] for answer in answers] == ["a", "b", "c"]
    assert answers[0]["told"] == 3
    assert b.told == [{"n": 0}, {"n": 1}, {"n": 2}]


async def test_files_come_with_their_message(ends: tuple[End, End]) -> None:
    a, b = ends
    pipes = [os.pipe() for _ in range(3)]
    for number, (_, writing) in enumerate(pipes):
        a.channel.tell({"n": number, "text": "x" * 100_000}, [writing])
        a.channel.tell({"between": number})
    for _, writing in pipes:
        os.close(writing)
    await a.channel.ask({})
    assert len(b.files) == 3
    for number, file in enumerate(b.files):
        assert not os.get_inheritable(file)
        os.write(file, str(number).encode())
    assert [os.read(reading, 9) for reading, _ in pipes] == [b"0", b"1", b"2"]
    close_all([reading for reading, _ in pipes])


async def test_saying_more_than_the_system_takes_blocks_nobody(ends: tuple[End, End]) -> None:
    a, b = ends
    for number in range(200):
        a.channel.tell({"n": number, "text": "ä" * 10_000})
    assert b.told == []
    await a.channel.flush()
    await a.channel.ask({})
    assert [message["n"] for message in b.told] == list(range(200))


async def test_whoever_waits_no_more_has_the_work_cancelled(ends: tuple[End, End]) -> None:
    a, b = ends
    b.may_answer.clear()
    asking = asyncio.create_task(a.channel.ask({}))
    await b.asked.wait()
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking
    await asyncio.wait_for(b.cancelled.wait(), 5)
    b.may_answer.set()
    assert (await a.channel.ask({}))["told"] == 0
    assert a.late == []


async def test_an_answer_that_crosses_with_the_cancelling_is_not_lost(
    ends: tuple[End, End],
) -> None:
    a, b = ends
    b.may_answer.clear()
    asking = asyncio.create_task(a.channel.ask({"crossing": 1}))
    await b.asked.wait()
    # The answer is in the system's hands when whoever waits for it leaves.
    b.may_answer.set()
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking
    await a.channel.ask({})
    assert [answer["echo"] for answer in a.late] == [{"crossing": 1}]


async def test_the_end_of_the_other_is_told_once_and_to_those_who_wait(
    ends: tuple[End, End],
) -> None:
    a, b = ends
    b.may_answer.clear()
    asking = asyncio.create_task(a.channel.ask({}))
    await b.asked.wait()
    b.channel.close()
    with pytest.raises(PassingError):
        await asking
    await asyncio.wait_for(a.lost.wait(), 5)
    assert not b.lost.is_set()
    with pytest.raises(PassingError):
        await a.channel.ask({})
    a.channel.tell({"into": "nothing"})
    await a.channel.flush()


async def test_one_that_takes_nothing_is_given_up() -> None:
    ours, theirs = socket.socketpair()
    end = End(ours)
    with theirs:
        for _ in range(70):
            end.channel.tell({"text": "x" * 1024 * 1024})
        assert end.lost.is_set()


async def test_one_message_that_cannot_be_done_keeps_no_other_from_being_heard(
    ends: tuple[End, End], caplog: pytest.LogCaptureFixture
) -> None:
    a, b = ends
    heard: list[dict[str, Any]] = []

    def hear(message: dict[str, Any], _: list[int]) -> None:
        if message["do"] == "break":
            raise KeyError("x")
        heard.append(message)

    b.channel._on_tell = hear
    a.channel.tell({"do": "break"})
    a.channel.tell({"do": "go on"})
    await a.channel.ask({})
    assert heard == [{"do": "go on"}]
    assert "break" in caplog.text


@contextlib.contextmanager
def no_descriptors() -> Iterator[None]:
    """Leave this process no descriptor to open anything with."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    lowest_free = os.dup(0)
    os.close(lowest_free)
    resource.setrlimit(resource.RLIMIT_NOFILE, (lowest_free, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


@pytest.mark.parametrize("size", [1, 100_000])
async def test_files_that_there_are_no_descriptors_for_are_not_replaced_by_the_next_ones(
    ends: tuple[End, End], caplog: pytest.LogCaptureFixture, size: int
) -> None:
    here, there = ends
    with tempfile.TemporaryFile() as lost, tempfile.TemporaryFile() as kept:
        kept.write(b"kept")
        kept.flush()
        # A large one comes in several pieces, the last of which is read with the next message.
        here.channel.tell({"do": "lose", "data": "x" * size}, [lost.fileno()])
        here.channel.tell({"do": "keep"}, [kept.fileno()])
        with no_descriptors():
            there.channel._receive()
        await here.channel.ask({})
        assert [message["do"] for message in there.told] == ["keep"]
        (file,) = there.files
        assert os.pread(file, 10, 0) == b"kept"
        assert "descriptors for 0" in caplog.text
        assert "(lose)" in caplog.text
        assert "ulimit -n" in caplog.text


async def test_a_message_whose_files_cannot_be_sent_is_not_sent(ends: tuple[End, End]) -> None:
    here, there = ends
    with tempfile.TemporaryFile() as file, no_descriptors(), pytest.raises(OSError, match="files"):
        here.channel.tell({"do": "x"}, [file.fileno()])
    await here.channel.ask({})
    assert (there.told, there.files) == ([], [])
