"""One timer for many that have the same time: who is late is told, and nobody else."""

import asyncio
import itertools

import pytest

from trunkline.aio.deadlines import Deadlines


class Member:
    def __init__(self) -> None:
        self.told = asyncio.Event()
        self.told_at = 0.0

    def late(self) -> None:
        self.told_at = asyncio.get_running_loop().time()
        self.told.set()


class Failing(Member):
    def late(self) -> None:
        super().late()
        raise RuntimeError("no")


async def test_who_is_late_is_told_in_order_and_who_is_not_is_not() -> None:
    deadlines = Deadlines(0.05)
    members = [Member(), Failing(), Member(), Member()]
    dues = [deadlines.add(member) for member in members]
    assert dues == sorted(dues)
    deadlines.discard(members[2])
    deadlines.discard(members[2])
    await members[3].told.wait()
    assert asyncio.get_running_loop().time() >= dues[3]
    assert [member.told.is_set() for member in members] == [True, True, False, True]


async def test_it_goes_on_after_a_quiet_time() -> None:
    deadlines = Deadlines(0.01)
    for _ in range(2):
        member = Member()
        deadlines.add(member)
        await member.told.wait()
        gone = Member()
        deadlines.add(gone)
        deadlines.discard(gone)
        await asyncio.sleep(0.03)
        assert not gone.told.is_set()


async def test_each_has_its_own_time() -> None:
    deadlines, loop = Deadlines(0.05), asyncio.get_running_loop()
    one, other = Member(), Member()
    deadlines.add(one)
    await asyncio.sleep(0.03)
    due, was_told = deadlines.add(other), []
    # However late the loop is, what was due before comes before.
    loop.call_at(due - 0.005, lambda: was_told.append(one.told.is_set()))
    await other.told.wait()
    assert other.told_at >= due
    assert was_told == [True]


async def test_a_task_is_ended_that_takes_too_long() -> None:
    deadlines = Deadlines(0.01)
    with pytest.raises(TimeoutError):
        with deadlines.limit():
            await asyncio.Event().wait()
    task = asyncio.current_task()
    assert task is not None
    assert not task.cancelling()
    # And one that isn't late isn't.
    with deadlines.limit():
        pass
    await asyncio.sleep(0.03)


async def test_a_task_that_somebody_else_cancels_is_cancelled() -> None:
    deadlines = Deadlines(60)
    begun = asyncio.Event()

    async def work() -> None:
        with deadlines.limit():
            begun.set()
            await asyncio.Event().wait()

    task = asyncio.create_task(work())
    await begun.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_what_goes_wrong_in_time_is_what_is_raised() -> None:
    with pytest.raises(KeyError), Deadlines(60).limit():
        raise KeyError


def test_many_that_are_gone_cost_nothing() -> None:
    async def come_and_go() -> int:
        deadlines = Deadlines(60)
        for _ in itertools.repeat(None, 1000):
            member = Member()
            deadlines.add(member)
            deadlines.discard(member)
        return len(deadlines)

    assert asyncio.run(come_and_go()) == 0
