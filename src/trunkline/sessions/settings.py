"""How long sessions live, and how much they may keep."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionSettings:
    """Limits of every session, unless its agent's definition says otherwise."""

    idle_timeout_s: float = 900.0
    """Seconds without a connection or request after which a session's process is stopped. Its
    files stay, and the next connection starts it again. A definition's
    `session_configuration.idle_timeout_seconds` wins."""

    ready_timeout_s: float = 60.0
    """Seconds an agent has from its start until `GET /readiness` answers 200. Models take
    seconds to load; a minute is long enough for those and short enough to hear of a hang."""

    stop_timeout_s: float = 20.0
    """Seconds an agent has from SIGTERM to SIGKILL. Its host is told to take a little under half
    of it for what is still open, and as much again for the shutdown handler."""

    log_max_bytes: int = 256 * 1024 * 1024
    """Bytes kept of each session's log. When it is over, the oldest lines go, and the log says
    so."""

    keepalive_interval_s: float = 30.0
    """Seconds between the pings an agent's host sends on quiet connections. It is given to
    agents as `WS_KEEPALIVE_INTERVAL`; the gateway itself never pings. 0 turns it off."""

    def __post_init__(self) -> None:
        for name in ("idle_timeout_s", "ready_timeout_s", "stop_timeout_s"):
            if getattr(self, name) <= 0:
                raise ValueError(f"{name} must be more than 0")
        if self.keepalive_interval_s < 0:
            raise ValueError("keepalive_interval_s must not be negative")
        if self.log_max_bytes < 1024 * 1024:
            raise ValueError("log_max_bytes must be at least 1048576")
