"""Many plays of one recording at once, and what they took."""

import asyncio
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Protocol

from trunkline.client import RefusedError
from trunkline.protocol.errors import TrunklineError
from trunkline.recordings.compare import MAX_ALIGNED, Rules, compare
from trunkline.recordings.format import Recording, TimedMessage
from trunkline.recordings.player import Played, Player, Talk


class Connection(Talk, Protocol):
    """A connection that says whose it is."""

    session_id: str


@dataclass(slots=True, kw_only=True)
class LoadResult:
    """What a load test came to."""

    connect_s: list[float] = field(default_factory=list)
    """From the dial to the 101, a session's start included."""
    answer_s: list[float] = field(default_factory=list)
    """From the last message sent before an answer to the answer, the agent's thinking included."""
    late_s: list[float] = field(default_factory=list)
    """How much later than in the recording each of the agent's messages came; not below 0."""
    send_late_s: list[float] = field(default_factory=list)
    """How late this program was itself: where it is high, it is what was measured."""
    messages: int = 0
    differing: int = 0
    """Sessions whose agent said something else."""
    closes: Counter[int] = field(default_factory=Counter)
    errors: Counter[str] = field(default_factory=Counter)
    sessions: list[str] = field(default_factory=list)


async def run_load(
    recording: Recording,
    dial: Callable[[], Awaitable[Connection]],
    *,
    sessions: int,
    ramp_s: float = 0.0,
    linger_s: float = 5.0,
    rules: Rules,
) -> LoadResult:
    """Play a recording in many sessions at once, each with the original timing.

    Args:
        recording: What to play.
        dial: Opens a connection to a session of its own.
        sessions: How many.
        ramp_s: Over how long their starts are spread.
        linger_s: How long to wait for what is missing in the end.
        rules: What counts as the same.
    """
    result = LoadResult()

    async def one(number: int) -> None:
        await asyncio.sleep(ramp_s * number / sessions)
        started_s = time.monotonic()
        try:
            connection = await dial()
        except TrunklineError as exc:
            result.errors[_name(exc)] += 1
            return
        result.connect_s.append(time.monotonic() - started_s)
        result.sessions.append(connection.session_id)
        try:
            played = await Player(recording, linger_s=linger_s).play(connection)
        except TrunklineError as exc:
            result.errors[_name(exc)] += 1
        else:
            _take(result, recording, played, rules)
        finally:
            await connection.aclose()

    async with asyncio.TaskGroup() as tasks:
        for number in range(sessions):
            tasks.create_task(one(number), name=f"load:{number}")
    return result


def answers(sent: list[TimedMessage], received: list[TimedMessage]) -> list[float]:
    """Return how long each answer took: an answer is what comes first after something sent."""
    found = []
    position, last_s = 0, None
    for message in received:
        while position < len(sent) and sent[position].at_s <= message.at_s:
            last_s = sent[position].at_s
            position += 1
        if last_s is not None:
            found.append(message.at_s - last_s)
            last_s = None
    return found


def _take(result: LoadResult, recording: Recording, played: Played, rules: Rules) -> None:
    expected = recording.messages(from_agent=True)
    result.messages += len(played.received)
    result.closes[played.close.code] += 1
    result.send_late_s += played.late_s
    result.answer_s += answers(played.sent, played.received)
    result.late_s += [
        max(came.at_s - due.at_s, 0.0) for due, came in zip(expected, played.received, strict=False)
    ]
    if len(expected) <= MAX_ALIGNED and compare(expected, played.received, rules):
        result.differing += 1


def _name(error: TrunklineError) -> str:
    return f"{error.status} {error.code}" if isinstance(error, RefusedError) else error.code
