"""In which order a process leaves what it does to the one that replaces it."""

import asyncio
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from trunkline.aio.tasks import TaskOwner
from trunkline.platform import departure
from trunkline.platform.departure import Replacement
from trunkline.platform.server import Server


class Noted:
    """Takes any call, and writes it down."""

    def __init__(self, name: str, notes: list[str]) -> None:
        self._name = name
        self._notes = notes

    def __getattr__(self, what: str) -> Callable[..., Any]:
        def call(*arguments: Any, **_: Any) -> dict[str, Any]:
            done = arguments[0].get("do") if arguments and isinstance(arguments[0], dict) else None
            self._notes.append(f"{self._name}.{what}" + (f" {done}" if done else ""))
            return {}

        return call


async def test_the_next_one_takes_work_over_when_nothing_of_it_goes_on_here(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    notes: list[str] = []
    given_up = asyncio.Event()

    async def give_up() -> None:
        notes.append("giving up")
        await given_up.wait()
        notes.append("given up")

    class NothingToMove:
        def __init__(self, *_: Any) -> None:
            pass

        async def move(self, *_: Any) -> Any:
            notes.append("connections")
            return SimpleNamespace(relays=0, connections=0, encrypted=0, left=0, pauses_s=[])

    monkeypatch.setattr(departure, "Departure", NothingToMove)
    tasks, before_has_ended, stopped = TaskOwner(), asyncio.Event(), asyncio.Event()
    upkeep = SimpleNamespace(let_go=lambda: notes.append("upkeep.let_go"), give_up=give_up)
    parts: Any = SimpleNamespace(
        keeper=Noted("keeper", notes),
        server=SimpleNamespace(
            connections=set(),
            stop_accepting=lambda: notes.append("server.stop_accepting"),
            stop_for_successor=lambda _: stopped.set(),
        ),
        upkeep=upkeep,
        runtime=Noted("runtime", notes),
        sessions=SimpleNamespace(leaving=Noted("leaving", notes)),
        gateway=SimpleNamespace(tasks=tasks),
        fleet=None,
        close_doors=lambda: notes.append("close_doors"),
        before_has_ended=before_has_ended,
    )
    inheritance: Any = SimpleNamespace(drain_timeout_s=1.0)
    line: Any = Noted("line", notes)
    following = asyncio.create_task(Replacement(parts, inheritance)._follow(7, line))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert notes[-1] == "giving up"
    given_up.set()
    await following
    assert notes.index("given up") < notes.index("line.send take over")
    assert notes[-2:] == ["line.send goodbye", "keeper.ask leave"]
    # What the one before still answers is known to the next one through this one only.
    await asyncio.sleep(0)
    assert not stopped.is_set()
    before_has_ended.set()
    async with asyncio.timeout(5):
        await stopped.wait()
    await tasks.aclose()


async def test_what_is_left_has_the_time_until_the_deadline_and_not_that_time_again() -> None:
    now = asyncio.get_running_loop().time()
    for left_s, most_s in ((7.5, 8), (0.2, 1), (-3.0, 1)):
        server: Any = SimpleNamespace(
            config=SimpleNamespace(timeout_graceful_shutdown=11), should_exit=False
        )
        Server.stop_for_successor(server, now + left_s)
        assert server.should_exit
        assert server.config.timeout_graceful_shutdown == most_s
