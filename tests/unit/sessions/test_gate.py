"""What may begin while sessions are passed on: who waits, for how long, and what they are told."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from tests.unit.sessions.support import NODE, key
from trunkline.protocol.ids import SessionKey
from trunkline.sessions.elsewhere import SessionElsewhereError
from trunkline.sessions.gate import Gate, Phase

Pass = Callable[[Gate], Callable[[SessionKey], Awaitable[None]]]


def uses(gate: Gate) -> Callable[[SessionKey], Awaitable[None]]:
    return gate.pass_use


def changes(gate: Gate) -> Callable[[SessionKey], Awaitable[None]]:
    return gate.pass_change


async def settled(waiting: "asyncio.Task[None]") -> bool:
    """Give it the turns that it needs, and tell whether it is through."""
    for _ in range(5):
        await asyncio.sleep(0)
    return waiting.done()


def begin(gate: Gate, way: Pass) -> "asyncio.Task[None]":
    async def go() -> None:
        await way(gate)(key())

    return asyncio.create_task(go())


@pytest.mark.parametrize(
    ("phase", "way", "passes"),
    [
        (Phase.OPEN, uses, True),
        (Phase.OPEN, changes, True),
        (Phase.QUIET, uses, True),
        (Phase.QUIET, changes, False),
        (Phase.HELD, uses, False),
        (Phase.HELD, changes, False),
    ],
)
async def test_who_passes_in_which_phase(phase: Phase, way: Pass, passes: bool) -> None:
    gate = Gate(NODE)
    gate.phase = phase
    waiting = begin(gate, way)
    assert await settled(waiting) is passes
    gate.phase = Phase.OPEN
    await waiting


@pytest.mark.parametrize("way", [uses, changes])
async def test_afterwards_both_are_told_where_the_sessions_are(way: Pass) -> None:
    gate = Gate(NODE)
    gate.phase = Phase.HELD
    waiting = begin(gate, way)
    assert not await settled(waiting)
    gate.phase = Phase.GONE
    for told in (waiting, begin(gate, way)):
        with pytest.raises(SessionElsewhereError) as caught:
            await told
        # The other process is the same node.
        assert (caught.value.key, caught.value.node) == (key(), NODE)


async def test_who_waits_for_a_change_goes_on_waiting_when_sessions_are_held_next() -> None:
    gate = Gate(NODE)
    gate.phase = Phase.QUIET
    waiting = begin(gate, changes)
    assert not await settled(waiting)
    gate.phase = Phase.HELD
    assert not await settled(waiting)
    gate.phase = Phase.QUIET
    assert not await settled(waiting)
    gate.phase = Phase.OPEN
    assert await settled(waiting)


async def test_a_phase_that_is_over_before_anybody_looks_counts_as_over() -> None:
    gate = Gate(NODE)
    gate.phase = Phase.HELD
    waiting = begin(gate, uses)
    assert not await settled(waiting)
    # All of it in one turn: the one who waits must not be left waiting for what was in between.
    gate.phase = Phase.OPEN
    gate.phase = Phase.HELD
    gate.phase = Phase.OPEN
    assert await settled(waiting)


async def test_who_is_cancelled_holds_nobody_up() -> None:
    gate = Gate(NODE)
    gate.phase = Phase.HELD
    one, other = begin(gate, uses), begin(gate, uses)
    assert not await settled(one)
    one.cancel()
    assert await settled(one)
    assert not other.done()
    gate.phase = Phase.OPEN
    await other
    assert one.cancelled()
