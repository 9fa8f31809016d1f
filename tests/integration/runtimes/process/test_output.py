"""What an agent prints is taken whole, and a flood of it leaves the event loop to others."""

import asyncio
import itertools
import os
import threading
import time
from types import SimpleNamespace

import pytest

from trunkline.runtimes.process import output
from trunkline.runtimes.process.output import OutputPipe


async def test_a_flood_that_is_dear_to_take_waits_in_its_own_write() -> None:
    taken = bytearray()
    took: list[tuple[float, float]] = []

    def take(data: bytes) -> None:
        begun = time.monotonic()
        # As long as it takes to sort out so many short lines.
        time.sleep(0.005)
        taken.extend(data)
        took.append((begun, time.monotonic()))

    pipe = OutputPipe(take, chunk_bytes=4096)
    flood = bytes(range(256)) * 256

    def print_all() -> None:
        view = memoryview(flood)
        while view:
            view = view[os.write(pipe.write_fd, view) :]

    printing = threading.Thread(target=print_all)
    printing.start()
    while printing.is_alive():  # noqa: ASYNC110 - threads tell nobody
        await asyncio.sleep(0.01)
    pipe.close_write_end()
    await pipe.ended.wait()
    assert bytes(taken) == flood
    # Each reading is followed by nine times as long for the others. Loops count milliseconds.
    for (begun, ended), (again, _) in itertools.pairwise(took):
        assert again - ended > 9 * (ended - begun) - 0.002
    assert len(took) == len(flood) // 4096


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """What a pipe takes for the time; it moves when a test says so."""
    now = [1000.0]
    monkeypatch.setattr(output, "time", SimpleNamespace(monotonic=lambda: now[0]))
    return now


async def some_turns() -> None:
    for _ in range(3):
        await asyncio.sleep(0)


async def test_a_flood_in_drops_is_taken_by_the_bucket(clock: list[float]) -> None:
    taken: list[bytes] = []

    def take(data: bytes) -> None:
        # Too short to matter; all of them together aren't.
        clock[0] += 0.0001
        taken.append(data)

    pipe = OutputPipe(take)
    for _ in range(60):
        os.write(pipe.write_fd, b"x")
        await some_turns()
    pipe.close_write_end()
    await pipe.ended.wait()
    assert b"".join(taken) == b"x" * 60
    assert len(taken) < 30


async def test_what_is_printed_now_and_then_is_taken_at_once(clock: list[float]) -> None:
    taken: list[bytes] = []

    def take(data: bytes) -> None:
        clock[0] += 0.0001
        taken.append(data)

    pipe = OutputPipe(take)
    for number in range(60):
        os.write(pipe.write_fd, b"%d" % number)
        await some_turns()
        assert len(taken) == number + 1
        clock[0] += 0.001
    pipe.close()


async def test_one_that_is_held_in_its_pause_goes_on_when_it_is_told() -> None:
    taken = bytearray()

    def take(data: bytes) -> None:
        time.sleep(0.01)
        taken.extend(data)

    pipe = OutputPipe(take, chunk_bytes=4)
    os.write(pipe.write_fd, b"some text")
    while not taken:  # noqa: ASYNC110 - it tells nobody
        await asyncio.sleep(0)
    pipe.hold()
    await asyncio.sleep(0.1)
    assert bytes(taken) == b"some"
    pipe.go_on()
    pipe.close_write_end()
    await pipe.ended.wait()
    assert bytes(taken) == b"some text"
