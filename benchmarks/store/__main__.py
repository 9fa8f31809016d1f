"""``python -m benchmarks.store``: what a store's calls cost as sessions grow in number."""

import argparse
import asyncio
import datetime as dt
import secrets
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from statistics import median

from benchmarks.support.report import console, machine, table
from trunkline.protocol.ids import (
    AgentName,
    NodeId,
    ProjectName,
    SessionId,
    SessionKey,
    VersionId,
)
from trunkline.store.interface import Store
from trunkline.store.paging import Page
from trunkline.store.records import NewVersion, SessionRecord, SessionStatus
from trunkline.store.sqlite.engine import open_sqlite

_PROJECT, _AGENT, _NODE = ProjectName("default"), AgentName("echo"), NodeId("node")
_OWNERS = 50
_LIFETIME = dt.timedelta(days=30)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.store",
        description=__doc__,
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument("--sizes", default="100,1000,10000", help="numbers of sessions")
    parser.add_argument("--calls", type=int, default=300, help="calls of each kind at each size")
    return parser.parse_args()


def _key(number: int) -> SessionKey:
    return SessionKey(_PROJECT, _AGENT, SessionId(f"session-{number}"))


def _session(number: int) -> SessionRecord:
    at = dt.datetime.now(dt.UTC)
    return SessionRecord(
        key=_key(number), version=VersionId("1"), owner=f"issuer|user-{number % _OWNERS}",
        status=SessionStatus.IDLE, created_at=at, last_accessed_at=at, expires_at=at + _LIFETIME,
        home=secrets.token_hex(16),
    )  # fmt: skip


async def _median_us(calls: int, call: Callable[[int], Awaitable[object]]) -> float:
    took = []
    for number in range(calls):
        begun = time.perf_counter_ns()
        await call(number)
        took.append(time.perf_counter_ns() - begun)
    return median(took) / 1000


async def _measure(store: Store, size: int, calls: int) -> dict[str, float]:
    now = dt.datetime.now(dt.UTC)
    spread = max(1, size // calls)

    def one(number: int) -> SessionKey:
        return _key(number * spread % size)

    async def claim(number: int) -> None:
        await store.claim_session(one(number), _NODE, most=100_000)
        await store.release_session(one(number), _NODE, now, SessionStatus.IDLE)

    page, owner = Page(limit=20), "issuer|user-7"
    return {
        "find a session": await _median_us(calls, lambda n: store.find_session(one(n))),
        "list a page of all": await _median_us(
            calls, lambda _: store.list_sessions(_PROJECT, _AGENT, page)
        ),
        "list a page of one owner's": await _median_us(
            calls, lambda _: store.list_sessions(_PROJECT, _AGENT, page, owner=owner)
        ),
        "list the page in the middle": await _median_us(
            calls,
            lambda _: store.list_sessions(
                _PROJECT, _AGENT, Page(limit=20, after=f"session-{size // 2}")
            ),
        ),
        "touch": await _median_us(calls, lambda n: store.touch_sessions({one(n): now}, _LIFETIME)),
        "claim and release": await _median_us(calls, claim),
        "look for expired ones": await _median_us(calls, lambda _: store.expire_sessions(now)),
    }


async def run(sizes: list[int], calls: int) -> dict[int, dict[str, float]]:
    found = {}
    with tempfile.TemporaryDirectory(prefix="trunkline-bench-") as folder:
        store = await open_sqlite(Path(folder) / "trunkline.db")
        await store.add_node(_NODE, dt.datetime.now(dt.UTC), "http://127.0.0.1:1")
        await store.add_version(
            NewVersion(
                project=_PROJECT, agent=_AGENT, definition={}, description=None, metadata={},
                content_hash="h", code_sha256="c", builder=_NODE,
            )
        )  # fmt: skip
        there = 0
        for size in sorted(sizes):
            for number in range(there, size):
                await store.add_session(_session(number))
            there = size
            found[size] = await _measure(store, size, calls)
        await store.aclose()
    return found


def main() -> int:
    options = parse()
    sizes = [int(size) for size in options.sizes.split(",")]
    found = asyncio.run(run(sizes, options.calls))
    out = console()
    out.print(
        f"{machine()}; Python {sys.version.split()[0]}; SQLite in a file. Median of "
        f"{options.calls} calls, divided by the same with {min(sizes)} sessions.\n"
    )
    first = found[min(sizes)]
    rows = [
        [
            name,
            f"{first[name]:.0f} µs",
            *(f"{found[size][name] / first[name]:.2f}" for size in sizes),
        ]
        for name in first
    ]
    columns = ["", f"{min(sizes)} sessions", *(f"x{size}" for size in sizes)]
    out.print(table("The store, as sessions grow in number", columns, rows))
    return 0


if __name__ == "__main__":
    sys.exit(main())
