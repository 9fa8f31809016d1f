"""What a store does for one answer doesn't grow with the sessions in it."""

import sqlite3
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from benchmarks.store.__main__ import run

_connect = sqlite3.connect
#: A page of one owner's has two sessions of a hundred, and twenty of ten thousand.
_MOST = {"list a page of one owner's": 12.0}


class Steps:
    """Counts the steps of SQLite's virtual machine: its work, whatever else the machine does."""

    def __init__(self) -> None:
        self.taken = 0

    def connect(self, *arguments: Any, **options: Any) -> sqlite3.Connection:
        connection = _connect(*arguments, **options)
        connection.set_progress_handler(self._step, 1)
        return connection

    def _step(self) -> int:
        self.taken += 1
        return 0


@pytest.mark.parametrize(
    "sizes", [[100, 2_000], pytest.param([100, 10_000], marks=pytest.mark.long)], ids=str
)
async def test_the_work_for_a_call_stays_what_it_was(
    sizes: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    steps = Steps()

    async def median_steps(calls: int, call: Callable[[int], Awaitable[object]]) -> float:
        taken = []
        for number in range(calls):
            begun = steps.taken
            await call(number)
            taken.append(steps.taken - begun)
        return sorted(taken)[calls // 2]

    monkeypatch.setattr(sqlite3, "connect", steps.connect)
    monkeypatch.setattr("benchmarks.store.__main__._median_us", median_steps)
    found = await run(sizes, 10)
    few, many = (found[size] for size in sizes)
    assert len(few) > 5
    grown = {name: many[name] / few[name] for name in few if few[name]}
    assert {name: by for name, by in grown.items() if by > _MOST.get(name, 1.5)} == {}
    # What is looked for would be found: this one grows with the sessions there are.
    found_by_hand = await _scan(steps, sizes)
    assert found_by_hand > sizes[1] / sizes[0] / 4


async def _scan(steps: Steps, sizes: list[int]) -> float:
    taken = []
    for size in sizes:
        connection = steps.connect(":memory:")
        connection.execute("create table t (n)")
        connection.executemany("insert into t values (?)", [(n,) for n in range(size)])
        begun = steps.taken
        connection.execute("select count(*) from t where n % 7 = 0").fetchone()
        taken.append(steps.taken - begun)
        connection.close()
    return taken[1] / taken[0]
