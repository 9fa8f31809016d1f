"""``python -m benchmarks.relay``: trunkline's relay, nginx and HAProxy, side by side."""

import argparse
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from statistics import median

from rich.console import Console
from rich.table import Table

from benchmarks.relay.goals import verdicts
from benchmarks.relay.measure import (
    DIRECT,
    PARTS,
    VOICE_FRAME_BYTES,
    VOICE_INTERVAL_MS,
    Plan,
    Samples,
    measure,
)
from benchmarks.relay.proxies import (
    STRANGERS,
    MissingProxyError,
    find_proxies,
    start_targets,
    versions,
)
from benchmarks.support.processes import ChildError, Children, exit_on_sigterm, raise_file_limit
from benchmarks.support.report import console, machine, middle, ratio, table

#: Fewer say little.
ENOUGH_ROUNDS = 6
FRAME_SIZES = (640, 16 * 1024)
OURS, OTHERS = "trunkline", ("nginx", "HAProxy")


def parse(arguments: list[str] | None = None) -> tuple[Plan, bool]:
    """Return what to measure, and whether a goal that isn't met is a failure."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.relay",
        description=__doc__,
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument("--rounds", type=int, default=12, help="how often each proxy has its turn")
    parser.add_argument(
        "--round-trips", type=int, default=6000, help="per turn and frame size, all connections"
    )
    parser.add_argument(
        "--connections", type=int, default=32, help="connections, each with one frame in flight"
    )
    parser.add_argument("--idle-connections", type=int, default=1000, help="for memory")
    parser.add_argument("--set-ups", type=int, default=400, help="connections set up a round")
    parser.add_argument("--voice-sessions", type=int, default=200, help="50 frames a second each")
    parser.add_argument("--voice-s", type=float, default=3.0, help="seconds of voices a turn")
    parser.add_argument(
        "--only", action="append", choices=PARTS, help="measure this; more than once for more"
    )
    parser.add_argument("--quick", action="store_true", help="two short rounds, to try it out")
    parser.add_argument("--check", action="store_true", help="exit 1 if a goal isn't met")
    options = parser.parse_args(arguments)
    for name in (
        "rounds",
        "round_trips",
        "connections",
        "idle_connections",
        "set_ups",
        "voice_sessions",
    ):
        if getattr(options, name) < 1:
            parser.error(f"--{name.replace('_', '-')} must be at least 1")
    share = 6 if options.quick else 1
    plan = Plan(
        parts=frozenset(options.only or PARTS),
        frame_sizes=FRAME_SIZES,
        rounds=2 if options.quick else options.rounds,
        round_trips=max(options.round_trips // share, 1),
        single_round_trips=max(options.round_trips // 6 // share, 1),
        connections=options.connections,
        idle_connections=max(options.idle_connections // share, 1),
        set_ups=max(options.set_ups // share, 1),
        voice_sessions=options.voice_sessions,
        voice_s=options.voice_s / share,
    )
    return plan, options.check


def main() -> int:
    plan, is_check = parse()
    exit_on_sigterm()
    raise_file_limit()
    out = console()
    try:
        paths = find_proxies()
        # Where nobody looks at a terminal, nothing is said until the end.
        sys.stderr.write(
            f"measuring {', '.join(part for part in PARTS if part in plan.parts)} in "
            f"{plan.rounds} rounds; all of it in 12 takes three to five minutes\n"
        )
        with tempfile.TemporaryDirectory(prefix="trunkline-bench-") as name:
            folder = Path(name)
            # nginx's worker isn't root.
            folder.chmod(0o755)
            with Children(folder) as children, out.status("starting") as status:
                targets = start_targets(children, paths, folder)
                load = children.start_python("load", "benchmarks.support.load")
                samples = measure(load, targets, plan, status.update)
    except (MissingProxyError, ChildError) as error:
        sys.stderr.write(f"{error}\n")
        return 1
    except KeyboardInterrupt:
        return 130
    report(out, plan, samples, versions(paths))
    found = list(verdicts(plan, samples))
    if found:
        out.print("\nThe goals, as the medians of this run have them:")
    for each in found:
        out.print(f"  {each}")
    if plan.rounds < ENOUGH_ROUNDS:
        out.print(f"  {plan.rounds} rounds show that it works; figures take {ENOUGH_ROUNDS}.")
    return int(is_check and not all(each.is_met for each in found))


def report(out: Console, plan: Plan, samples: Samples, compared: Mapping[str, str]) -> None:
    out.print(machine())
    for name, text in compared.items():
        out.print(f"{name} {text}")
    out.print(
        f"One worker or thread each, TCP on loopback, no TLS. Medians of {plan.rounds} rounds, the "
        "proxies taking turns.\nA round trip is one masked binary frame to an echo server and "
        "the echo back: two frames.\nCPU is what the proxy's process used, user and system.\n"
        f'"{OURS} / it" divides within each round and shows the median: less than 1 is less than '
        "the other.\nIn parentheses: where half of the rounds lie. Far apart, the machine was busy."
    )
    made = {"voices": _voice_table, "set-ups": _set_up_table, "memory": _memory_table}
    for part in PARTS:
        if part not in plan.parts:
            continue
        if part == "frames":
            tables = [_frames_table(plan, samples, size) for size in plan.frame_sizes]
        else:
            tables = [made[part](plan, samples)]
        for each in tables:
            out.print()
            out.print(each)


def _voice_table(plan: Plan, samples: Samples) -> Table:
    def row(name: str) -> list[str]:
        cpu = samples.voice_cpu_us
        return [
            name,
            f"{samples.added_us(samples.voice_p50_us, name, VOICE_FRAME_BYTES):.0f}",
            f"{samples.added_us(samples.voice_p99_us, name, VOICE_FRAME_BYTES):.0f}",
            f"{median(cpu[name, VOICE_FRAME_BYTES]):.1f}",
            "" if name == OURS else middle(samples.ratios(cpu, OURS, name, VOICE_FRAME_BYTES)),
        ]

    p50, p99 = (
        median(found[DIRECT, VOICE_FRAME_BYTES])
        for found in (samples.voice_p50_us, samples.voice_p99_us)
    )
    return table(
        f"Voices: {plan.voice_sessions} sessions, {1000 // VOICE_INTERVAL_MS} frames a second of "
        f"{VOICE_FRAME_BYTES} bytes each way (direct: p50 {p50:.0f} µs, p99 {p99:.0f} µs)",
        ["", "added p50 µs", "added p99 µs", "CPU µs/frame and echo", f"{OURS} / it"],
        [row(name) for name in (OURS, *OTHERS)],
    )


def _set_up_table(plan: Plan, samples: Samples) -> Table:
    def row(name: str) -> list[str]:
        cells = [name]
        for found in (samples.set_ups_per_s, samples.set_up_cpu_us, samples.whole_cpu_us):
            cells.append(f"{median(found[name, 0]):.0f}")
            is_ours = name not in OTHERS
            cells.append(middle(samples.ratios(found, name, "nginx", 0)) if is_ours else "")
        return cells

    return table(
        f"Setting up connections, {plan.set_ups} of them. {OURS}: all with one token, or each with "
        "one nobody has\nseen, of a provider (RS256) or of the development issuer (ES256)",
        [
            "",
            "a second",
            "/ nginx",
            "CPU µs each",
            "/ nginx",
            "with its end",
            "/ nginx",
        ],
        [row(name) for name in (OURS, *STRANGERS, *OTHERS)],
    )


def _memory_table(plan: Plan, samples: Samples) -> Table:
    return table(
        "Memory per idle connection",
        ["", f"KiB, {plan.idle_connections} connections", f"{OURS} / it"],
        [
            [name, f"{kib:.1f}", "" if name == OURS else ratio(samples.idle_kib[OURS], kib)]
            for name, kib in samples.idle_kib.items()
        ],
    )


def _frames_table(plan: Plan, samples: Samples, size: int) -> Table:
    def row(name: str) -> list[str]:
        cells = [name]
        for found in (samples.cpu_us, samples.single_cpu_us):
            cells.append(f"{median(found[name, size]):.1f}")
            ratios = samples.ratios(found, OURS, name, size)
            cells.append("" if name == OURS else middle(ratios))
        for found in (samples.p50_us, samples.p99_us):
            cells.append(f"{samples.added_us(found, name, size):.0f}")
        return cells

    p50, p99 = (median(found[DIRECT, size]) for found in (samples.p50_us, samples.p99_us))
    return table(
        f"{size}-byte frames (direct: p50 {p50:.0f} µs, p99 {p99:.0f} µs)",
        [
            "",
            f"CPU µs/round trip\n{plan.connections} connections",
            f"{OURS} / it\n(half the rounds)",
            "CPU µs/round trip\n1 connection",
            f"{OURS} / it\n(half the rounds)",
            "added p50 µs\n1 connection",
            "added p99 µs\n1 connection",
        ],
        [row(name) for name in (OURS, *OTHERS)],
    )


if __name__ == "__main__":
    sys.exit(main())
