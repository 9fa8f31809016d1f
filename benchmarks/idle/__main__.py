"""How many connections that rest a platform with several workers holds at once, and what they cost.

Run as ``python -m benchmarks.idle``. Callers come to some sessions of an agent that answers, and
stay; the agent's host pings them, and they answer. When all are there, and again after a while, a
part of them asks something. At the end the platform is told to stop: everybody is to hear 1001
within `drain_timeout_s`, and the platform to be gone soon after. A process may have so many
descriptors (``ulimit -Hn``), and a connection takes two of the one that relays it, so there are
several workers, and several processes of callers.
"""

import argparse
import re
import signal
import sys
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import urlsplit
from urllib.request import ProxyHandler, build_opener

from benchmarks.neighbours.agents import VOICE
from benchmarks.support.platforms import deploy, running
from benchmarks.support.processes import (
    Child,
    Children,
    exit_on_sigterm,
    memory_of,
    raise_file_limit,
)
from benchmarks.support.report import console, machine, table
from tests.support.platform import Platform
from trunkline.gateway.settings import GatewaySettings

SETTINGS = {
    "TRUNKLINE_GATEWAY_MAX_CONNECTIONS": "0",
    "TRUNKLINE_GATEWAY_MAX_CONNECTIONS_PER_ADDRESS": "0",
    "TRUNKLINE_GATEWAY_MAX_CONNECTIONS_PER_IDENTITY": "0",
    "TRUNKLINE_GATEWAY_MAX_CONNECTIONS_PER_SESSION": "0",
    "TRUNKLINE_RATES_UPGRADES_PER_ADDRESS": "0",
    "TRUNKLINE_RATES_UPGRADES_PER_IDENTITY": "0",
    "TRUNKLINE_RATES_SESSIONS_PER_IDENTITY": "0",
    "TRUNKLINE_SESSIONS_MAX_RUNNING": "0",
}
#: Less than the usual limit of descriptors, and than there are ports for one address.
_CALLERS_EACH = 7000
DRAIN_S = GatewaySettings().drain_timeout_s
#: What isn't over by then isn't going to be.
_END_LIMIT_S = 120.0
_OPEN = re.compile(r"^trunkline_connections(?:\{[^}]*\})? (\S+)$", re.MULTILINE)


def connections(platform: Platform) -> int:
    """Return how many connections the platform says it relays."""
    opener = build_opener(ProxyHandler({}))
    with opener.open(f"{platform.url}/metrics", timeout=60) as answer:
        return round(sum(float(n) for n in _OPEN.findall(answer.read().decode())))


def _gone_at(platform: Platform) -> float:
    platform.wait(_END_LIMIT_S)
    return time.monotonic()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--connections", type=int, default=20_000)
    parser.add_argument("--workers", type=int, default=3)
    parser.add_argument("--sessions", type=int, default=40)
    parser.add_argument("--every", type=int, default=20, help="each how-many-th caller asks")
    parser.add_argument("--rest-s", type=float, default=35.0, help="how long they rest")
    options = parser.parse_args()
    exit_on_sigterm()
    raise_file_limit()
    with (
        running("--workers", str(options.workers), **SETTINGS) as platform,
        Children(platform.state_dir.parent) as children,
    ):
        deploy(platform, "voice", VOICE)
        url = urlsplit(platform.websocket_url("voice"))
        path, token = f"{url.path}?{url.query}", platform.token("--expires-in", "3600")

        def start(name: str, count: int) -> Child:
            child = children.start_python(
                name, "benchmarks.idle.callers",
                *(str(url.port), path, str(count), str(options.sessions)),
            )  # fmt: skip
            child.tell(token)
            return child

        # What only the first caller of each session costs.
        groups = [start("first", options.sessions)]
        made = options.connections - groups[0].read()["open"]
        gateway = [platform.serving_pid, *platform.workers]
        before = [memory_of(pid) for pid in gateway]
        started = time.monotonic()
        share = -(-made // -(-made // _CALLERS_EACH))
        coming = [
            start(f"callers-{begin}", min(share, made - begin)) for begin in range(0, made, share)
        ]
        for child in coming:
            child.read()
        groups += coming
        took_s = time.monotonic() - started
        at_once = connections(platform)
        first = [child.ask(every=options.every) for child in groups]
        time.sleep(options.rest_s)
        grown = [memory_of(pid) - was for pid, was in zip(gateway, before, strict=True)]
        second = [child.ask(every=options.every) for child in groups]
        told_at = time.monotonic()
        platform.signal(signal.SIGTERM)
        with ThreadPoolExecutor(1) as waiting:
            gone = waiting.submit(_gone_at, platform)
            ends = [child.ask(end=_END_LIMIT_S) for child in groups]
            gone_s = gone.result() - told_at
    out = console()
    out.print(
        table(
            f"Memory of what relays {options.connections} connections, KiB; {options.sessions} "
            f"sessions ({machine()})",
            ("", "grown", "per connection of all"),
            [
                (name, f"{each / 1024:.0f}", f"{each / 1024 / made:.2f}")
                for name, each in [
                    ("main process", grown[0]),
                    *((f"worker {number}", each) for number, each in enumerate(grown[1:], 1)),
                    ("all of them", sum(grown)),
                ]
            ],
        )
    )
    out.print(f"at once, as the platform counts: {at_once}; came in {took_s:.0f} s")
    for name, answers in (("asked at once", first), (f"{options.rest_s:g} s later", second)):
        asked, answered, ended = (
            sum(each[what] for each in answers) for what in ("asked", "answered", "ended")
        )
        out.print(f"{name}: {asked}, answered: {answered}, ended: {ended}")
    heard: Counter[str] = sum((Counter(each["codes"]) for each in ends), Counter())
    heard_s = max(each["told_at"] for each in ends) - told_at
    out.print(
        f"told to stop: {heard['1001']} of {options.connections} heard 1001, the last after "
        f"{heard_s:.1f} s ({DRAIN_S:g} s is the limit); gone after {gone_s:.1f} s"
        + "".join(f"; {code}: {n}" for code, n in heard.items() if code != "1001")
    )
    is_whole = heard["1001"] == options.connections and heard_s <= DRAIN_S
    is_whole = (
        is_whole
        and at_once == options.connections
        and all(
            each["asked"] == each["answered"] and not each["ended"] for each in (*first, *second)
        )
    )
    return 0 if is_whole else 1


if __name__ == "__main__":
    sys.exit(main())
