"""For how long callers hear nothing while the platform's process is replaced.

Run as ``python -m benchmarks.reload``. A thousand callers talk to ten sessions of an agent that
answers, each once a second. In turns nothing else happens; a Python process loads all the platform
is made of, and ends, which is the part of a reload that any other program's start costs, too; and
the platform is reloaded. What is told is how long answers took, by the kernel's clock and by the
callers', and how late the callers' own process was: on few cores it waits with all others.
"""

import argparse
import json
import subprocess
import sys
import time
from contextlib import ExitStack
from urllib.parse import urlsplit

from benchmarks.neighbours.agents import VOICE
from benchmarks.reload.callers import Callers, Heard
from benchmarks.support.platforms import deploy, running
from benchmarks.support.processes import exit_on_sigterm, raise_file_limit
from benchmarks.support.report import console, machine, table
from tests.support.platform import Platform, clean_environment

SETTINGS = {
    "TRUNKLINE_RATES_UPGRADES_PER_ADDRESS": "0",
    "TRUNKLINE_RATES_UPGRADES_PER_IDENTITY": "0",
}
RELOAD = ("-m", "trunkline", "gateway", "reload", "-o", "json")
GOAL_MS = 100.0
_AFTER_S = 0.5


def beside(callers: Callers, platform: Platform, *command: str) -> tuple[Heard, str]:
    """Have callers talk until a command has ended and a moment longer; return what it printed."""
    with subprocess.Popen(
        [sys.executable, *command],
        stdout=subprocess.PIPE,
        text=True,
        env=clean_environment() | {"TRUNKLINE_HOME": str(platform.state_dir)},
    ) as process:
        ended_at = 0.0

        def is_over() -> bool:
            nonlocal ended_at
            if not ended_at and process.poll() is not None:
                ended_at = time.monotonic()
            return bool(ended_at) and time.monotonic() > ended_at + _AFTER_S

        heard = callers.talk(is_over)
        assert process.stdout is not None
        printed = process.stdout.read()
    if process.returncode:
        raise SystemExit(f"{' '.join(command)} ended with {process.returncode}: {printed}")
    return heard, printed


def row(name: str, each: list[Heard]) -> tuple[str, ...]:
    kernel = sorted(ms for heard in each for ms in heard.kernel_ms)
    longest = sorted(max(heard.kernel_ms) for heard in each)
    return (
        name,
        f"{len(kernel)}",
        f"{kernel[len(kernel) // 2]:.1f}",
        f"{kernel[len(kernel) * 99 // 100]:.1f}",
        f"{longest[len(longest) // 2]:.0f}",
        f"{longest[-1]:.0f}",
        f"{max(max(heard.callers_ms) for heard in each):.0f}",
        f"{max(heard.late_ms for heard in each):.0f}",
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--callers", type=int, default=1000)
    parser.add_argument("--sessions", type=int, default=10)
    parser.add_argument("--reloads", type=int, default=20)
    options = parser.parse_args()
    exit_on_sigterm()
    raise_file_limit()
    quiet: list[Heard] = []
    started: list[Heard] = []
    reloaded: list[Heard] = []
    pauses_ms = []
    with running(**SETTINGS) as platform, ExitStack() as stack:
        deploy(platform, "voice", VOICE)
        url = urlsplit(platform.websocket_url("voice"))
        assert url.port is not None
        callers = Callers(
            url.port,
            f"{url.path}?{url.query}",
            platform.token(),
            count=options.callers,
            sessions=options.sessions,
        )
        stack.callback(callers.close)
        # What only the first answers cost.
        beside(callers, platform, "-c", "import time; time.sleep(1)")
        for _ in range(options.reloads):
            quiet.append(beside(callers, platform, "-c", "import time; time.sleep(2)")[0])
            started.append(beside(callers, platform, "-c", "import trunkline.platform.process")[0])
            heard, printed = beside(callers, platform, *RELOAD)
            report = json.loads(printed)
            if (report["connections_moved"], report["left_behind"]) != (options.callers, 0):
                raise SystemExit(f"not all connections moved: {report}")
            reloaded.append(heard)
            pauses_ms.append(report["longest_pause_ms"])
    out = console()
    out.print(
        table(
            f"Until answers were there, ms; {options.callers} callers, {options.reloads} reloads "
            f"({machine()})",
            ("", "answers", "p50", "p99", "longest: p50", "most", "callers' most", "callers late"),
            [
                row("nothing else", quiet),
                row("a process that loads as much", started),
                row("a reload", reloaded),
            ],
        )
    )
    out.print(f"longest time that a connection stood still, by reload, ms: {pauses_ms}")
    longest = max(max(heard.kernel_ms) for heard in reloaded)
    out.print(
        f"lost, doubled or out of order: 0; longest silence {longest:.0f} ms, the goal is "
        f"{GOAL_MS:g}"
    )
    return 0 if longest <= GOAL_MS else 1


if __name__ == "__main__":
    sys.exit(main())
