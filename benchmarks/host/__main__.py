"""``python -m benchmarks.host``: what an agent's host costs, against Microsoft's and picows.

Every figure is a ratio of what was measured in the same round, one host after the other.
"""

import argparse
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from benchmarks.host import contestants
from benchmarks.host.contestants import ALL, MICROSOFT, PICOWS, TRUNKLINE, Contestant
from benchmarks.support.processes import (
    Child,
    ChildError,
    Children,
    exit_on_sigterm,
    raise_file_limit,
)
from benchmarks.support.report import console, machine, middle, table

_FRAME_BYTES = (640, 16 * 1024)
_WARM_UP_TRIPS = 500
#: What is wanted: trunkline divided by the other, at the most.
_GOALS = {
    ("cpu", "microsoft"): 1 / 4,
    ("cpu", "picows"): 1.7,
    ("memory", "microsoft"): 1 / 3,
    ("start", "microsoft"): 1 / 3,
    ("resident", "microsoft"): 1 / 2,
}
_MOST_DISTRIBUTIONS = 15


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.host",
        description=__doc__,
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument("--rounds", type=int, default=8, help="how often each has its turn")
    parser.add_argument("--round-trips", type=int, default=6000, help="per turn and frame size")
    parser.add_argument(
        "--connections", type=int, default=32, help="connections, each with one frame in flight"
    )
    parser.add_argument("--idle-connections", type=int, default=1000, help="for the memory figure")
    parser.add_argument("--starts", type=int, default=8, help="starts of each host")
    parser.add_argument("--quick", action="store_true", help="two rounds, to see that it works")
    parser.add_argument("--check", action="store_true", help="exit 1 if a goal isn't met")
    options = parser.parse_args()
    if options.quick:
        options.rounds, options.round_trips, options.starts = 2, 1000, 2
        options.idle_connections = 300
    counts = ("rounds", "round_trips", "connections", "idle_connections", "starts")
    if min(getattr(options, name) for name in counts) < 1:
        parser.error("the numbers must be at least 1")
    return options


@dataclass(frozen=True, slots=True)
class Figure:
    """One measured quantity, by contestant, a value a round."""

    kind: str
    title: str
    unit: str
    values: dict[str, list[float]]


def in_turns(
    rounds: int, who: tuple[Contestant, ...], measure: Callable[[Contestant], float]
) -> dict[str, list[float]]:
    """Measure each once a round, another one first each time."""
    found: dict[str, list[float]] = {one.name: [] for one in who}
    for number in range(rounds):
        turn = number % len(who)
        for one in who[turn:] + who[:turn]:
            found[one.name].append(measure(one))
    return found


def cpu_us(load: Child, one: Contestant, frame_bytes: int, options: argparse.Namespace) -> float:
    """Return microseconds of CPU one echo costs a host."""
    # A fresh process each time: one of the hosts stops taking connections after a few turns.
    with contestants.running(one) as host:
        load.ask(
            do="open", port=host.port, upgrades=[(one.path, {})], frame_bytes=frame_bytes,
            connections=options.connections,
        )  # fmt: skip
        load.ask(do="run", round_trips=_WARM_UP_TRIPS)
        before = host.child.cpu_ns()
        load.ask(do="run", round_trips=options.round_trips)
        used_ns = host.child.cpu_ns() - before
        load.ask(do="close")
    return used_ns / 1000 / options.round_trips


def memory_kib(load: Child, one: Contestant, options: argparse.Namespace, *, trips: int) -> float:
    """Return KiB a fresh host grows by for each connection, after so many messages on each."""
    with contestants.running(one) as host:
        ask = {"port": host.port, "path": one.path, "headers": {}, "frame_bytes": 640}
        # The first connection pays for what is loaded on first use.
        load.ask(do="open", connections=1, **ask)
        load.ask(do="run", round_trips=10)
        load.ask(do="close")
        before = host.child.memory_bytes()
        load.ask(do="open", connections=options.idle_connections, **ask)
        if trips:
            load.ask(do="run", round_trips=trips * options.idle_connections)
        grown = host.child.memory_bytes() - before
        load.ask(do="close")
    return grown / 1024 / options.idle_connections


def measure(options: argparse.Namespace, say: Callable[[str], None]) -> list[Figure]:
    figures = []
    with tempfile.TemporaryDirectory(prefix="trunkline-bench-") as folder:
        with Children(Path(folder)) as children:
            load = children.start_python("load", "benchmarks.support.load")
            say("installing")
            for one in ALL:
                contestants.environment_of_cached(one)
            for size in _FRAME_BYTES:
                say(f"echoes of {size} bytes")
                found = in_turns(
                    options.rounds, ALL, lambda one, size=size: cpu_us(load, one, size, options)
                )
                figures.append(Figure("cpu", f"CPU of a {size}-byte echo", "µs", found))
            both = (TRUNKLINE, MICROSOFT)
            for trips, kind, words in ((0, "memory", "idle"), (2, "in use", "just used")):
                say(f"memory, {words}")
                found = in_turns(
                    max(2, options.rounds // 3), both,
                    lambda one, trips=trips: memory_kib(load, one, options, trips=trips),
                )  # fmt: skip
                figures.append(Figure(kind, f"memory of a connection, {words}", "KiB", found))
            figures += starts(options, both, say)
    return figures


def starts(
    options: argparse.Namespace, who: tuple[Contestant, ...], say: Callable[[str], None]
) -> list[Figure]:
    """Start each host alone, again and again."""
    say("starts")
    resident: dict[str, list[float]] = {one.name: [] for one in who}

    def start(one: Contestant) -> float:
        with contestants.running(one) as host:
            resident[one.name].append(host.child.resident_bytes() / 1024**2)
            return host.ready_s * 1000

    took = in_turns(options.starts, who, start)
    return [
        Figure("start", "spawn to /readiness", "ms", took),
        Figure("resident", "resident memory when ready", "MiB", resident),
    ]


def report(figures: list[Figure], options: argparse.Namespace) -> bool:
    """Print what was found; tell whether every goal is met."""
    out = console()
    out.print(
        f"{machine()}; Python {sys.version.split()[0]}. Each host in an environment and a process "
        f"of its own, TCP on loopback, {options.connections} connections with one frame in flight."
        "\nThe same Starlette handler behind both hosts; picows has none. Ratios are within a "
        "round: the median, and where half the rounds lie.\n"
    )
    rows, is_met = [], True
    for figure in figures:
        ours = figure.values[TRUNKLINE.name]
        for other in (MICROSOFT, PICOWS):
            theirs = figure.values.get(other.name)
            if theirs is None:
                continue
            ratios = sorted(our / their for our, their in zip(ours, theirs, strict=True))
            goal = _GOALS.get((figure.kind, other.name))
            met = goal is None or median(ratios) <= goal
            is_met = is_met and met
            rows.append(
                [
                    figure.title,
                    f"{median(ours):.1f} {figure.unit}",
                    other.label,
                    f"{median(theirs):.1f} {figure.unit}",
                    middle(ratios),
                    f"{goal:.2f} {'met' if met else 'NOT MET'}" if goal else "",
                ]
            )
    columns = ["", "trunkline", "against", "it", "trunkline / it", "goal"]
    out.print(table("The agent host", columns, rows))
    ours, our_bytes = contestants.distributions(TRUNKLINE)
    theirs, their_bytes = contestants.distributions(MICROSOFT)
    met = ours <= _MOST_DISTRIBUTIONS
    out.print(
        f"installed: trunkline {ours} distributions, {our_bytes / 1024**2:.0f} MiB; Microsoft's "
        f"host {theirs}, {their_bytes / 1024**2:.0f} MiB (goal: at most {_MOST_DISTRIBUTIONS}, "
        f"{'met' if met else 'NOT MET'})"
    )
    return is_met and met


def main() -> int:
    options = parse()
    exit_on_sigterm()
    raise_file_limit()
    try:
        with console().status("starting") as status:
            figures = measure(options, status.update)
    except ChildError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    except KeyboardInterrupt:
        return 130
    return 0 if report(figures, options) or not options.check else 1


if __name__ == "__main__":
    sys.exit(main())
