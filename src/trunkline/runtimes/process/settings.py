"""The settings of the process runtime."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path


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

    def __post_init__(self) -> None:
        for name in ("build_timeout_s", "output_chunk_bytes", "drain_timeout_s", "probe_timeout_s"):
            if getattr(self, name) <= 0:
                msg = f"{name} must be more than 0"
                raise ValueError(msg)
