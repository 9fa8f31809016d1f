"""Turns: in order, and none is lost."""

import asyncio

from trunkline.runtimes.process.turns import Turn, Turns

_LONG_S = 60.0


async def _settled() -> None:
    for _ in range(3):
        await asyncio.sleep(0)


async def test_who_came_first_is_first() -> None:
    turns = Turns(2, _LONG_S)
    begun: list[int] = []
    given: dict[int, Turn] = {}

    async def come(number: int) -> None:
        given[number] = await turns.take()
        begun.append(number)

    comers = [asyncio.create_task(come(number)) for number in range(5)]
    await _settled()
    assert (begun, turns.waiting) == ([0, 1], 3)
    given[1].end()
    given[1].end()
    await _settled()
    assert (begun, turns.waiting) == ([0, 1, 2], 2)
    given[0].end()
    given[2].end()
    await asyncio.gather(*comers)
    assert (begun, turns.waiting) == ([0, 1, 2, 3, 4], 0)
    given[3].end()
    given[4].end()
    for _ in range(2):
        await asyncio.wait_for(turns.take(), 1)


async def test_a_turn_ends_with_its_block_whatever_happens() -> None:
    turns = Turns(1, _LONG_S)
    for _ in range(3):
        try:
            with await asyncio.wait_for(turns.take(), 1):
                raise OSError
        except OSError:
            continue


async def test_a_turn_that_takes_long_is_another_ones_after_a_while() -> None:
    turns = Turns(1, 0.01)
    with await turns.take():
        other = await asyncio.wait_for(turns.take(), 5)
    # Its end, late, gave nothing away that wasn't its own.
    third = asyncio.create_task(turns.take())
    await _settled()
    assert turns.waiting == 1
    other.end()
    await third


async def test_who_gives_up_leaves_the_line() -> None:
    turns = Turns(1, _LONG_S)
    first = await turns.take()
    second, third, fourth = (asyncio.create_task(turns.take()) for _ in range(3))
    await _settled()
    second.cancel()
    await _settled()
    assert turns.waiting == 2
    # One is cancelled just when it is called, another one before it knows.
    first.end()
    third.cancel()
    await asyncio.wait_for(fourth, 1)
    assert third.cancelled()
    assert turns.waiting == 0


async def test_who_is_cancelled_before_it_is_called_isnt_called() -> None:
    turns = Turns(1, _LONG_S)
    first = await turns.take()
    second, third = (asyncio.create_task(turns.take()) for _ in range(2))
    await _settled()
    second.cancel()
    first.end()
    await asyncio.wait_for(third, 1)
    assert second.cancelled()
    assert turns.waiting == 0
