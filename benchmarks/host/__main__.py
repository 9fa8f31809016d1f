"""``python -m benchmarks.host``: trunkline's agent host and uvicorn's WebSocket classes."""

import argparse
import sys
import tempfile
from pathlib import Path
from statistics import median

from benchmarks.host import servers
from benchmarks.support.processes import Child, ChildError, Children, exit_on_sigterm
from benchmarks.support.report import console, machine, middle, table

_FRAME_BYTES = 640
_WARM_UP_TRIPS = 500


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.host",
        description=__doc__,
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument("--rounds", type=int, default=10, help="how often each has its turn")
    parser.add_argument("--round-trips", type=int, default=6000, help="per turn")
    parser.add_argument(
        "--connections", type=int, default=32, help="connections, each with one frame in flight"
    )
    options = parser.parse_args()
    if min(options.rounds, options.round_trips, options.connections) < 1:
        parser.error("the numbers must be at least 1")
    return options


def measure(load: Child, server: Child, port: int, options: argparse.Namespace) -> float:
    """Return microseconds of CPU one echo costs a server."""
    load.ask(
        do="open", port=port, path=servers.PATH, headers={}, frame_bytes=_FRAME_BYTES,
        connections=options.connections,
    )  # fmt: skip
    load.ask(do="run", round_trips=_WARM_UP_TRIPS)
    before = server.cpu_ns()
    load.ask(do="run", round_trips=options.round_trips)
    used_ns = server.cpu_ns() - before
    load.ask(do="close")
    return used_ns / 1000 / options.round_trips


def main() -> int:
    options = parse()
    exit_on_sigterm()
    names, missing = servers.names()
    found: dict[str, list[float]] = {name: [] for name in names}
    out = console()
    try:
        with (
            tempfile.TemporaryDirectory(prefix="trunkline-bench-") as folder,
            Children(Path(folder)) as children,
            out.status("starting") as status,
        ):
            started = {
                name: children.start_python(name, "benchmarks.host.servers", name) for name in names
            }
            ports = {name: child.read()["port"] for name, child in started.items()}
            load = children.start_python("load", "benchmarks.support.load")
            for number in range(options.rounds):
                status.update(f"round {number + 1} of {options.rounds}")
                turn = number % len(names)
                for name in names[turn:] + names[:turn]:
                    found[name].append(measure(load, started[name], ports[name], options))
    except ChildError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    except KeyboardInterrupt:
        return 130
    report(found, missing, options)
    return 0


def report(found: dict[str, list[float]], missing: list[str], options: argparse.Namespace) -> None:
    out = console()
    ours = found["trunkline"]
    rows = []
    for name, theirs in found.items():
        ratios = sorted(our / their for our, their in zip(ours, theirs, strict=True))
        rows.append(
            [
                servers.label(name),
                f"{median(theirs):.1f}",
                "" if theirs is ours else middle(ratios),
            ]
        )
    out.print(
        f"{machine()}; Python {sys.version.split()[0]}. One process each, TCP on loopback, "
        f"{options.connections} connections with one frame in flight.\nThe same Starlette handler "
        f"behind each, no compression, no pings. Medians of {options.rounds} rounds in turns.\n"
    )
    out.print(
        table(
            f"Echo of a {_FRAME_BYTES}-byte binary frame",
            ["", "CPU µs", "trunkline / it\n(half the rounds)"],
            rows,
        )
    )
    for name in missing:
        out.print(f"left out: uvicorn + {servers.UVICORN[name]} ({name} isn't installed)")


if __name__ == "__main__":
    sys.exit(main())
