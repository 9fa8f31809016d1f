"""What is measured of a proxy, and in which order."""

import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from statistics import median

from benchmarks.relay.proxies import Target
from benchmarks.support.processes import Child, ChildError

DIRECT = "direct"
_WARM_UP_TRIPS = 500
_WARM_UP_CONNECTIONS = 50
_SETTLE_S = 0.3
#: 20 ms of 16-bit samples, 16,000 a second.
VOICE_FRAME_BYTES = 640
VOICE_INTERVAL_MS = 20
_VOICE_WARM_UP_S = 0.3
#: What can be measured, in the order of the report.
PARTS = ("frames", "voices", "set-ups", "memory")


@dataclass(frozen=True, kw_only=True)
class Plan:
    """How much is measured."""

    parts: frozenset[str] = frozenset(PARTS)
    frame_sizes: tuple[int, ...]
    rounds: int
    round_trips: int
    single_round_trips: int
    connections: int
    idle_connections: int
    set_ups: int
    voice_sessions: int
    voice_s: float

    @property
    def voice_rounds(self) -> int:
        """They take as long as they take, so there are fewer of them."""
        return max(self.rounds // 3, 2)


#: One figure a round, by target and frame size.
Found = dict[tuple[str, int], list[float]]


def _nothing_found() -> Found:
    return defaultdict(list)


@dataclass
class Samples:
    """What the rounds found. Rounds are compared with themselves first, then medians taken."""

    cpu_us: Found = field(default_factory=_nothing_found)
    single_cpu_us: Found = field(default_factory=_nothing_found)
    p50_us: Found = field(default_factory=_nothing_found)
    p99_us: Found = field(default_factory=_nothing_found)
    idle_kib: dict[str, float] = field(default_factory=dict)
    #: By target, with a frame size of 0: connections set up a second, and what each cost.
    set_ups_per_s: Found = field(default_factory=_nothing_found)
    set_up_cpu_us: Found = field(default_factory=_nothing_found)
    #: The same with the connection's end.
    whole_cpu_us: Found = field(default_factory=_nothing_found)
    #: At the pace of speech; the CPU is that of a frame there and its echo.
    voice_p50_us: Found = field(default_factory=_nothing_found)
    voice_p99_us: Found = field(default_factory=_nothing_found)
    voice_cpu_us: Found = field(default_factory=_nothing_found)

    def added_us(self, found: Found, name: str, size: int) -> float:
        """Return what a proxy adds to a latency, each round against its own direct one."""
        pairs = zip(found[name, size], found[DIRECT, size], strict=True)
        return median(through - direct for through, direct in pairs)

    def ratios(self, found: Found, ours: str, theirs: str, size: int) -> list[float]:
        """Return one ratio a round, in ascending order."""
        pairs = zip(found[ours, size], found[theirs, size], strict=True)
        return sorted(our / their for our, their in pairs)


def measure(
    load: Child, targets: list[Target], plan: Plan, progress: Callable[[str], None]
) -> Samples:
    samples = Samples()
    # First, while no heap has room left over from frames.
    for target in targets if "memory" in plan.parts else ():
        if target.name != DIRECT:
            progress(f"{plan.idle_connections} idle connections through {target.name}")
            samples.idle_kib[target.name] = _idle_kib(load, target, plan.idle_connections)
    strangers: dict[str, Target] = {}
    if "set-ups" in plan.parts:
        progress("issuing tokens")
        strangers = {
            name: each.with_tokens(plan.set_ups * plan.rounds + 1)
            for target in targets
            for name, each in target.strangers.items()
        }
    for each in strangers.values():
        # A provider's keys are asked for when its first token comes, and then they are known.
        _open(load, each, 1, 1, are_strangers=True)
        load.ask(do="close")
    for number in range(plan.rounds):
        # Another target goes first in each round.
        turn = number % len(targets)
        in_turn = targets[turn:] + targets[:turn]
        where = f"round {number + 1} of {plan.rounds}"
        for size in plan.frame_sizes if "frames" in plan.parts else ():
            for target in in_turn:
                progress(f"{where}: {size} bytes, {target.name}")
                _measure_frames(load, target, size, plan, samples)
        for target in in_turn if "set-ups" in plan.parts else ():
            progress(f"{where}: setting up connections, {target.name}")
            _measure_set_up(load, target, plan, samples, target.name)
            for name in target.strangers:
                progress(f"{where}: setting up connections, {name}")
                _measure_set_up(load, strangers[name], plan, samples, name, are_strangers=True)
        if number < plan.voice_rounds and "voices" in plan.parts:
            for target in in_turn:
                progress(f"{where}: voices, {target.name}")
                _measure_voice(load, target, plan, samples)
    return samples


def _measure_set_up(
    load: Child,
    target: Target,
    plan: Plan,
    samples: Samples,
    name: str,
    *,
    are_strangers: bool = False,
) -> None:
    key = name, 0
    before = target.child.cpu_ns()
    found = _open(load, target, 1, plan.set_ups, are_strangers=are_strangers)
    samples.set_up_cpu_us[key].append((target.child.cpu_ns() - before) / 1000 / plan.set_ups)
    samples.set_ups_per_s[key].append(plan.set_ups / found["seconds"])
    load.ask(do="close")
    # The client's side is closed by now; the proxy still has to notice.
    time.sleep(_SETTLE_S)
    samples.whole_cpu_us[key].append((target.child.cpu_ns() - before) / 1000 / plan.set_ups)


def _measure_voice(load: Child, target: Target, plan: Plan, samples: Samples) -> None:
    key = target.name, VOICE_FRAME_BYTES
    _open(load, target, VOICE_FRAME_BYTES, plan.voice_sessions)
    try:
        load.ask(do="pace", interval_ms=VOICE_INTERVAL_MS, seconds=_VOICE_WARM_UP_S)
        before = target.child.cpu_ns()
        found = load.ask(do="pace", interval_ms=VOICE_INTERVAL_MS, seconds=plan.voice_s)
        cpu_us = (target.child.cpu_ns() - before) / 1000 / found["frames"]
        load.ask(do="close")
    except ChildError as error:
        raise _named(target, error) from error
    samples.voice_cpu_us[key].append(cpu_us)
    samples.voice_p50_us[key].append(found["p50_us"])
    samples.voice_p99_us[key].append(found["p99_us"])


def _measure_frames(load: Child, target: Target, size: int, plan: Plan, samples: Samples) -> None:
    key = target.name, size
    found, cpu_us = _run(load, target, size, 1, plan.single_round_trips)
    samples.single_cpu_us[key].append(cpu_us)
    samples.p50_us[key].append(found["p50_us"])
    samples.p99_us[key].append(found["p99_us"])
    _, cpu_us = _run(load, target, size, plan.connections, plan.round_trips)
    samples.cpu_us[key].append(cpu_us)


def _run(
    load: Child, target: Target, size: int, connections: int, round_trips: int
) -> tuple[dict[str, float], float]:
    _open(load, target, size, connections)
    try:
        load.ask(do="run", round_trips=min(_WARM_UP_TRIPS, round_trips))
        before = target.child.cpu_ns()
        found = load.ask(do="run", round_trips=round_trips)
        cpu_us = (target.child.cpu_ns() - before) / 1000 / round_trips
        load.ask(do="close")
    except ChildError as error:
        raise _named(target, error) from error
    return found, cpu_us


def _idle_kib(load: Child, target: Target, connections: int) -> float:
    _open(load, target, 1, _WARM_UP_CONNECTIONS)
    load.ask(do="close")
    time.sleep(_SETTLE_S)
    before = target.child.memory_bytes()
    _open(load, target, 1, connections)
    time.sleep(_SETTLE_S)
    grown = target.child.memory_bytes() - before
    load.ask(do="close")
    return grown / 1024 / connections


def _open(
    load: Child, target: Target, size: int, connections: int, *, are_strangers: bool = False
) -> dict[str, float]:
    try:
        found: dict[str, float] = load.ask(
            do="open",
            port=target.port,
            upgrades=target.upgrades(connections, are_strangers=are_strangers),
            frame_bytes=size,
            connections=connections,
        )
    except ChildError as error:
        raise _named(target, error) from error
    return found


def _named(target: Target, error: ChildError) -> ChildError:
    # The load generator only knows that a connection failed.
    if target.child.has_ended:
        return target.child.failure("ended while it was measured")
    return ChildError(f"through {target.name}: {error}")
