"""Every metric of the platform, in Prometheus' terms. ``GET /metrics`` prints them."""

import asyncio
from collections.abc import Awaitable, Callable, Hashable, Mapping, Sequence

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_START_BUCKETS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120)

#: What is counted where connections are relayed.
_OF_RELAYING = ("upgrades", "closes", "frames", "bytes", "refusals")
#: A counter, and its labels.
Counted = tuple[str, tuple[str, ...]]


class Metrics:
    """One registry and what is counted in it."""

    def __init__(self) -> None:
        #: What brings what other processes count.
        self.sources: list[Callable[[], Awaitable[None]]] = []
        self._registry = registry = CollectorRegistry()
        #: By the process they wait in.
        self._waiting: dict[Hashable, Mapping[str, int]] = {}
        self.upgrades = Counter(
            "trunkline_upgrades",
            "WebSocket upgrades asked for, by the status answered.",
            ["status"],
            registry=registry,
        )
        #: Each connection counts here: looking a series up costs more than counting.
        self.upgraded = self.upgrades.labels("101")
        self.connections = Gauge(
            "trunkline_connections", "WebSocket connections relayed now.", registry=registry
        )
        self.waiting_bytes = Gauge(
            "trunkline_waiting_bytes",
            "Bytes that wait in the gateway for readers slower than their senders, by direction: "
            "what TRUNKLINE_GATEWAY_WRITE_BUFFER_BYTES bounds for each; as of about a second ago.",
            ["direction"],
            registry=registry,
        )
        self.closes = Counter(
            "trunkline_connections_closed",
            "Relayed connections that ended, by close code and by who closed.",
            ["code", "by"],
            registry=registry,
        )
        self.frames = Counter(
            "trunkline_frames",
            "Frames relayed, control frames included, by direction; counted at the end.",
            ["direction"],
            registry=registry,
        )
        self.frames_in, self.frames_out = (self.frames.labels(way) for way in ("in", "out"))
        self.bytes = Counter(
            "trunkline_bytes",
            "Bytes relayed, frame headers included, by direction; counted at the end.",
            ["direction"],
            registry=registry,
        )
        self.bytes_in, self.bytes_out = (self.bytes.labels(way) for way in ("in", "out"))
        self.sessions_running = Gauge(
            "trunkline_sessions_running", "Sessions that have a process now.", registry=registry
        )
        self.sessions_ready = Gauge(
            "trunkline_sessions_ready",
            "Sessions kept ready for callers who name none; they are nobody's yet.",
            registry=registry,
        )
        self.starts_waiting = Gauge(
            "trunkline_starts_waiting",
            "Agents that wait for their turn to be started: TRUNKLINE_PROCESS_STARTS_AT_ONCE.",
            registry=registry,
        )
        self.forks_ahead = Gauge(
            "trunkline_forks_ahead",
            "Sandboxes made with a fork in each, for sessions to come; they are nobody's yet.",
            registry=registry,
        )
        self.ready_sessions = Counter(
            "trunkline_ready_sessions",
            "Sessions made ready ahead, by what became of them (given, ended, failed).",
            ["outcome"],
            registry=registry,
        )
        self.sessions_frozen = Gauge(
            "trunkline_sessions_frozen",
            "Sessions whose process is frozen now, because nothing was said for long.",
            registry=registry,
        )
        self.session_thaws = Counter(
            "trunkline_session_thaws",
            "Times that a session's process was frozen and went on.",
            registry=registry,
        )
        self.session_starts = Counter(
            "trunkline_session_starts",
            "Starts of a session's process, by outcome (ready, failed).",
            ["outcome"],
            registry=registry,
        )
        self.session_start_seconds = Histogram(
            "trunkline_session_start_seconds",
            "Seconds from when a session was to start until its process was ready or had failed.",
            buckets=_START_BUCKETS,
            registry=registry,
        )

        self.agent_limits = Counter(
            "trunkline_agent_limits",
            "Agents that ran into a limit (memory, cpu, pids, disk, log), each once in its life.",
            ["limit"],
            registry=registry,
        )
        self.refusals = Counter(
            "trunkline_limit_refusals",
            "What was refused or closed because of a limit, by the limit's setting.",
            ["limit"],
            registry=registry,
        )

    def measure_waiting(self, where: Hashable, waiting: Mapping[str, int]) -> None:
        """Take note of what waits in one process; nothing, if that has ended."""
        self._waiting[where] = waiting
        if not waiting:
            del self._waiting[where]
        for way in ("in", "out"):
            total = sum(each.get(way, 0) for each in self._waiting.values())
            self.waiting_bytes.labels(way).set(total)

    def counted(self) -> dict[Counted, float]:
        """Return what a process that relays counts, for another to add to its own."""
        return {
            (name, tuple(sample.labels.values())): sample.value
            for name in _OF_RELAYING
            for metric in getattr(self, name).collect()
            for sample in metric.samples
            if sample.name.endswith("_total")
        }

    def add(self, name: str, labels: Sequence[str], number: float) -> None:
        """Count what another process counted."""
        getattr(self, name).labels(*labels).inc(number)

    async def gather(self) -> None:
        """Count what others have counted since the last time."""
        await asyncio.gather(*(source() for source in self.sources))

    def render(self) -> bytes:
        """Return all of them as Prometheus' text format."""
        return generate_latest(self._registry)
