"""The settings of the process runtime."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from functools import partial
from ipaddress import IPv4Address, ip_network
from pathlib import Path

_NETWORKS = ("none", "outbound", "direct", "host")
_STARTS = ("zygote", "spawn")

_POSITIVE = (
    "build_timeout_s",
    "output_chunk_bytes",
    "drain_timeout_s",
    "probe_timeout_s",
    "pids_max",
    "home_max_bytes",
    "tmp_max_bytes",
    "limits_interval_s",
    "zygote_idle_s",
    "zygotes_max",
)


class SandboxMode(StrEnum):
    """Whether agents are sandboxed."""

    OFF = "off"
    AUTO = "auto"
    REQUIRED = "required"


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessSettings:
    """What an operator may choose about agents that run as processes."""

    state_dir: Path
    """Where environments and wheels are kept. What is in it can be deleted while nothing runs:
    it is made again."""
    run_dir: Path | None = None
    """Where agents' Unix sockets are, closed to other users. None: a new directory in the
    system's temporary one, removed at the end. Keep it short: a socket's path may have 107
    bytes."""
    platform_environment: Mapping[str, str] = field(default_factory=dict)
    """The platform's own environment. An agent gets ``PATH``, ``LANG`` and ``TZ`` of it; uv gets
    what it needs to reach the package index (``UV_*``, proxies, certificates)."""
    build_timeout_s: float = 600.0
    """How long making a version's environment may take. Ten minutes: what Docker images with
    large machine learning packages take on a slow line."""
    output_chunk_bytes: int = 64 * 1024
    """How much of an agent's output is read at a time; a pipe holds as much by default."""
    drain_timeout_s: float = 2.0
    """How long after an agent's end to go on reading what processes that left its process group
    still print."""
    probe_timeout_s: float = 2.0
    """How long one ``GET /readiness`` may take. A hung one is asked again."""

    sandbox: str = "auto"
    """Whether agents are sandboxed: `auto` protects what this machine can protect and says at
    start what it can't; `required` doesn't start if anything is lacking; `off` protects nothing."""
    network: str = "outbound"
    """What of a network sandboxed agents have: `none`; `outbound`, a proxy to public addresses;
    `direct`, an interface to public addresses for any protocol, which takes slirp4netns; `host`,
    the machine's own, which protects nothing. A definition's variable `TRUNKLINE_NETWORK` may ask
    for less."""
    egress_allow: tuple[str, ...] = ()
    """Hosts that agents may reach through the proxy, such as `api.example.com,*.example.org`.
    Empty: any public one. A definition's variable `TRUNKLINE_EGRESS_ALLOW` may name fewer. No
    agent has an interface (`direct`) then, because packets don't say for whom they are."""
    egress_private: tuple[str, ...] = ()
    """Networks that agents may reach although they aren't public, such as `10.1.0.0/16`."""
    direct_resolvers: tuple[str, ...] = ()
    """IPv4 addresses of the name servers that agents with an interface ask, such as `9.9.9.9`.
    Empty: they ask those that this machine asks, so they see private names, too."""
    uid_first: int = 2_000_000_000
    """The first of the user ids that sessions' agents get, one each, where trunkline is root. The
    default is above those that distributions, systemd and user namespaces give out."""
    uid_count: int = 100_000_000
    """How many user ids there are for sessions. They are given out in turn."""
    pids_max: int = 512
    """How many processes and threads an agent may have at once. Numeric libraries start a few
    threads for each processor."""
    home_max_bytes: int = 4 * 1024**3
    """Bytes that a session's `$HOME` may take. It is measured every few seconds; an agent that
    fills it further is ended."""
    tmp_max_bytes: int = 256 * 1024**2
    """Bytes that a sandboxed agent's `/tmp` and `/dev/shm` may take, each. They count as its
    memory."""
    limits_interval_s: float = 2.0
    """Seconds between two looks at what agents use of their limits."""
    busy_agents_yield: bool = True
    """Whether an agent that wants a processor all the time gets one only when nobody else does,
    until it has paused: so that conversations beside it don't wait for it. Turn it off where other
    programs than agents keep the machine busy, and agents compute for long."""

    starts_at_once: int = 0
    """How many agents may be starting at once; who comes then waits for a turn, first come, first
    served. More than there are processors for are all slower, and no more of them are ready in
    a second. A turn ends when the agent is ready, or after a second: what takes longer may be
    waiting for something else. 0: one more than the machine has processors."""
    start: str = "zygote"
    """How sandboxed agents are started: `zygote` forks them from an interpreter of their
    version's that has done its imports; `spawn` starts each as a program. A definition's variable
    `TRUNKLINE_START` may say otherwise. What can't be forked is started as a program."""
    zygote_idle_s: float = 900.0
    """After how long without a new session a version's zygote is ended. As long as an idle
    session is kept."""
    zygotes_max: int = 16
    """How many versions may have a zygote at once. The one that wasn't needed for longest ends
    first. Each takes as much memory as an idle agent."""
    forks_ahead: int = 1
    """How many sandboxes each zygote has made for sessions to come, with a fork in each that runs
    nothing of the author's before it is a session's. A new session that finds one has half the
    way behind it; the next one is made when that session is ready. Each takes as much
    memory as an idle session. 0: none."""

    def __post_init__(self) -> None:
        if self.sandbox not in set(SandboxMode):
            msg = f"sandbox is {self.sandbox!r}; give off, auto or required"
            raise ValueError(msg)
        if self.network not in _NETWORKS:
            msg = f"network is {self.network!r}; give none, outbound, direct or host"
            raise ValueError(msg)
        if self.network == "direct" and self.egress_allow:
            msg = (
                "network is direct, and egress_allow names hosts: packets don't say for whom they "
                "are; give outbound, whose proxy holds to names, or no egress_allow"
            )
            raise ValueError(msg)
        self._check_addresses()
        if self.start not in _STARTS:
            msg = f"start is {self.start!r}; give zygote or spawn"
            raise ValueError(msg)
        for name in ("forks_ahead", "starts_at_once"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} must be 0 or more")
        if not 1 <= self.uid_first < self.uid_first + self.uid_count < 2**32 - 1:
            msg = "uid_first and uid_count must leave user ids between 1 and 4294967294"
            raise ValueError(msg)
        for name in _POSITIVE:
            if getattr(self, name) <= 0:
                msg = f"{name} must be more than 0"
                raise ValueError(msg)

    def _check_addresses(self) -> None:
        for name, kind, such_as in (
            ("direct_resolvers", IPv4Address, "IPv4 addresses such as 9.9.9.9"),
            ("egress_private", partial(ip_network, strict=False), "networks such as 10.1.0.0/16"),
        ):
            for value in getattr(self, name):
                try:
                    kind(value)
                except ValueError:
                    msg = f"{name} has {value!r}; give {such_as}"
                    raise ValueError(msg) from None
