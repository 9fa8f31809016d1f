"""``python -m benchmarks.experiments.compare MODULE...``: candidate relays beside nginx."""

import argparse
import sys
import tempfile
from pathlib import Path
from statistics import median

from benchmarks.relay.measure import PARTS, Plan, Samples, measure
from benchmarks.relay.proxies import Target, find_proxies, start_targets
from benchmarks.support.processes import Children, exit_on_sigterm, raise_file_limit
from benchmarks.support.report import console, middle, table

FRAME_SIZES = (640, 16 * 1024)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("modules", nargs="+", help="names below benchmarks.experiments")
    parser.add_argument("--rounds", type=int, default=6)
    parser.add_argument("--round-trips", type=int, default=6000)
    parser.add_argument("--set-ups", action="store_true", help="nothing but setting up connections")
    options = parser.parse_args()
    plan = Plan(
        parts=frozenset({"set-ups"} if options.set_ups else set(PARTS) - {"set-ups", "voices"}),
        frame_sizes=FRAME_SIZES,
        rounds=options.rounds,
        round_trips=options.round_trips,
        single_round_trips=options.round_trips // 4,
        connections=32,
        idle_connections=500,
        set_ups=400,
        voice_sessions=1,
        voice_s=0.1,
    )
    exit_on_sigterm()
    raise_file_limit()
    out = console()
    with tempfile.TemporaryDirectory(prefix="trunkline-bench-") as name:
        folder = Path(name)
        folder.chmod(0o755)
        with Children(folder) as children, out.status("starting") as status:
            targets = start_targets(children, find_proxies(), folder)
            upstream = targets[0].port
            for module in options.modules:
                child = children.start_python(
                    module, f"benchmarks.experiments.{module}", "--upstream", str(upstream)
                )
                targets.append(Target(module, child, child.read()["port"]))
            load = children.start_python("load", "benchmarks.support.load")
            samples = measure(load, targets, plan, status.update)
    names = [target.name for target in targets[1:]]
    if options.set_ups:
        out.print(report_set_ups(samples, names))
        return
    for size in FRAME_SIZES:
        out.print(report(samples, size, names))


def report_set_ups(samples: Samples, names: list[str]) -> object:
    rows = []
    for name in names:
        cells = [name]
        for found in (samples.set_ups_per_s, samples.set_up_cpu_us, samples.whole_cpu_us):
            cells.append(f"{median(found[name, 0]):.0f}")
            cells.append(middle(samples.ratios(found, name, "nginx", 0)))
        rows.append(cells)
    columns = ["", "a second", "/ nginx", "CPU µs", "/ nginx", "with its end", "/ nginx"]
    return table("setting up connections", columns, rows)


def report(samples: Samples, size: int, names: list[str]) -> object:
    rows = []
    for name in names:
        cells = [name]
        for found in (samples.cpu_us, samples.single_cpu_us):
            cells.append(f"{median(found[name, size]):.1f}")
            cells.append(middle(samples.ratios(found, name, "nginx", size)))
        cells.append(f"{samples.added_us(samples.p50_us, name, size):.0f}")
        cells.append(f"{samples.idle_kib[name]:.1f}")
        rows.append(cells)
    columns = ["", "CPU µs, 32", "/ nginx", "CPU µs, 1", "/ nginx", "added p50 µs", "idle KiB"]
    return table(f"{size} bytes", columns, rows)


if __name__ == "__main__":
    sys.exit(main())
