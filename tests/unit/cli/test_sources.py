"""What `connect` sends, however its input is cut."""

import asyncio
import itertools
import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from hypothesis import given, strategies as st

from trunkline.cli.pacing import Schedule
from trunkline.cli.sources import frames_of, lines_of, paced, read_chunks
from trunkline.protocol.errors import InvalidRequestError


async def chunks_of(*chunks: bytes) -> AsyncIterator[bytes]:
    for chunk in chunks:
        yield chunk


def cut(data: bytes, cuts: list[int]) -> list[bytes]:
    edges = [0, *sorted(at for at in cuts if at <= len(data)), len(data)]
    return [data[a:b] for a, b in itertools.pairwise(edges)]


async def lines(*chunks: bytes) -> list[str]:
    return [line async for line in lines_of(chunks_of(*chunks))]


@given(
    st.lists(st.text(st.characters(exclude_characters="\n\r", codec="utf-8"))),
    st.lists(st.integers(0, 60), max_size=6),
)
async def test_lines_come_out_as_they_went_in(texts: list[str], cuts: list[int]) -> None:
    data = "".join(f"{text}\n" for text in texts).encode()
    assert await lines(*cut(data, cuts)) == texts


async def test_ends_of_lines() -> None:
    assert await lines(b"a\r\n\nb") == ["a", "", "b"]
    assert await lines() == []


async def test_binary_on_stdin_is_told() -> None:
    with pytest.raises(InvalidRequestError, match="--send-file"):
        await lines(b"\xff\xfe\n")


@given(st.binary(max_size=60), st.lists(st.integers(0, 60), max_size=6), st.integers(1, 20))
async def test_frames_are_the_same_bytes(data: bytes, cuts: list[int], size: int) -> None:
    frames = [frame async for frame in frames_of(chunks_of(*cut(data, cuts)), size)]
    assert b"".join(frames) == data
    assert all(len(frame) == size for frame in frames[:-1])
    assert all(frames)


def test_a_schedule_counts_from_its_start() -> None:
    schedule = Schedule(start_s=100.0, interval_s=0.02)
    assert schedule.wait_s(0, 100.0) == 0
    assert schedule.wait_s(5, 100.05) == pytest.approx(0.05)
    assert schedule.wait_s(5, 103.0) == 0


class Clock:
    def __init__(self) -> None:
        self.now = 50.0
        self.late_s = 0.0

    def __call__(self) -> float:
        return self.now

    async def sleep(self, wait_s: float) -> None:
        self.now += wait_s + self.late_s


async def sent_at(clock: Clock, frames: int, pause: tuple[int, float] = (0, 0.0)) -> list[float]:
    times = []
    stream = paced(chunks_of(*[b"x"] * frames), 0.02, clock=clock, sleep=clock.sleep)
    index = 0
    async for _frame in stream:
        times.append(round(clock.now - 50.0, 6))
        if index == pause[0]:
            clock.now += pause[1]
        index += 1
    return times


async def test_pacing_is_even() -> None:
    assert await sent_at(Clock(), 4) == [0.0, 0.02, 0.04, 0.06]


async def test_lateness_doesnt_add_up() -> None:
    clock = Clock()
    clock.late_s = 0.005
    assert await sent_at(clock, 4) == [0.0, 0.025, 0.045, 0.065]


async def test_after_a_pause_the_overdue_frames_go_at_once() -> None:
    assert await sent_at(Clock(), 6, (1, 0.05)) == [0.0, 0.02, 0.07, 0.07, 0.08, 0.1]


async def test_a_regular_file_is_read(tmp_path: Path) -> None:
    path = tmp_path / "audio"
    path.write_bytes(b"x" * 100_000)
    with path.open("rb") as file:
        assert b"".join([c async for c in read_chunks(file.fileno())]) == b"x" * 100_000


async def test_waiting_for_a_pipe_can_be_cancelled() -> None:
    reader, writer = os.pipe()
    try:
        chunks = read_chunks(reader)
        task = asyncio.create_task(anext(chunks))
        await asyncio.sleep(0)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        assert task.cancelled()
        os.write(writer, b"later")
        again = read_chunks(reader)
        assert await anext(again) == b"later"
    finally:
        os.close(reader)
        os.close(writer)
