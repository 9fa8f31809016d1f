"""How long sessions live, and how much they may keep."""

import datetime as dt
from dataclasses import dataclass

_POSITIVE = (
    "idle_timeout_s",
    "ready_timeout_s",
    "stop_timeout_s",
    "upkeep_interval_s",
    "ready_window_s",
    "reload_wait_s",
)
_NOT_NEGATIVE = (
    "ready_max",
    "ready_total_max",
    "ready_free_bytes",
    "suspend_after_s",
    "max_running",
    "keepalive_interval_s",
    "restart_wait_max_s",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionSettings:
    """Limits of every session, unless its agent's definition says otherwise."""

    idle_timeout_s: float = 900.0
    """Seconds without a connection or request after which a session's process is stopped. Its
    files stay, and the next connection starts it again. A definition's
    `session_configuration.idle_timeout_seconds` wins."""

    suspend_after_s: float = 0.0
    """Seconds without a frame or request after which a session's agent is frozen until the next
    one, if it does nothing of its own accord meanwhile. 0 is never, and the default: what a
    frozen agent wanted to do later, by a timer, waits as well, and only its author knows whether
    there is such a thing. A definition's variable `TRUNKLINE_SUSPEND_AFTER_S` wins."""

    ready_timeout_s: float = 60.0
    """Seconds an agent has from its start until `GET /readiness` answers 200. Models take
    seconds to load; a minute is long enough for those and short enough to hear of a hang."""

    stop_timeout_s: float = 20.0
    """Seconds an agent has from SIGTERM to SIGKILL. Its host is told to take a little under half
    of it for what is still open, and as much again for the shutdown handler."""

    restart_wait_max_s: float = 60.0
    """Seconds that a session waits at most for its agent's next start when it failed again and
    again: was ended for a limit, ended in an error, or couldn't be started. The first failure
    costs no wait, the second 5 seconds, each further one twice as many; who connects meanwhile is
    refused with 503 and told when. An agent that ran for this long begins anew, and so does a
    session that is stopped on request. 0 is no wait."""

    lifetime_s: float = 30 * 24 * 3600.0
    """Seconds a session is kept after its last use. Then it is deleted with its files."""

    max_running: int = 100
    """How many sessions of a project may run at once; one more is refused with 429. Idle
    sessions don't count. 0 is no limit."""

    ready_max: int = 0
    """How many sessions of a version may be kept ready, started and nobody's, for callers who
    name none. How many are kept is as many as such callers came lately while one starts. 0 is
    none, and the default: where sessions are forked they start in milliseconds anyhow, and an
    agent that is started for nobody takes memory and may do things that its author means for
    callers. A definition's variable `TRUNKLINE_READY_SESSIONS` wins."""

    ready_total_max: int = 8
    """How many sessions may be kept ready in all, whatever definitions say."""

    ready_window_s: float = 300.0
    """Over how many seconds callers who name no session are counted. When none came for so long,
    none is kept ready."""

    ready_free_bytes: int = 1024**3
    """Bytes of memory that the machine must have available for another session to be made ready
    ahead."""

    upkeep_interval_s: float = 2.0
    """Seconds between two looks at what expired, what is left to delete, and which other
    processes of the platform still live."""

    node_timeout_s: float = 10.0
    """Seconds without a sign of life after which another process of the platform counts as dead
    and its sessions are taken over. At least three times `upkeep_interval_s`."""

    reload_wait_s: float = 10.0
    """Seconds that a reload waits for sessions that are starting or stopping. Calls of sessions
    that don't run wait meanwhile; the others don't notice. If it takes longer, the reload is
    given up and may be tried again."""

    log_max_bytes: int = 256 * 1024 * 1024
    """Bytes kept of each session's log. When it is over, the oldest lines go, and the log says
    so."""

    connection_log_max_bytes: int = 256 * 1024
    """Bytes kept of how each session's connections ended, for `trunkline why`: some hundreds of
    them. The oldest go."""

    keepalive_interval_s: float = 30.0
    """Seconds between the pings an agent's host sends on quiet connections. It is given to
    agents as `WS_KEEPALIVE_INTERVAL`; the gateway itself never pings. 0 turns it off."""

    @property
    def lifetime(self) -> dt.timedelta:
        """``lifetime_s`` as a time delta."""
        return dt.timedelta(seconds=self.lifetime_s)

    def __post_init__(self) -> None:
        for name in _POSITIVE:
            if getattr(self, name) <= 0:
                raise ValueError(f"{name} must be more than 0")
        for name in _NOT_NEGATIVE:
            if getattr(self, name) < 0:
                raise ValueError(f"{name} must not be negative")
        if not 1 <= self.lifetime_s <= 10 * 366 * 24 * 3600:
            raise ValueError("lifetime_s must be between 1 and ten years")
        if self.node_timeout_s < 3 * self.upkeep_interval_s:
            raise ValueError("node_timeout_s must be at least three times upkeep_interval_s")
        if self.log_max_bytes < 1024 * 1024:
            raise ValueError("log_max_bytes must be at least 1048576")
        if self.connection_log_max_bytes < 4096:
            raise ValueError("connection_log_max_bytes must be at least 4096")
