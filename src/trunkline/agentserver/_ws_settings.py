"""What can be tuned about WebSockets."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class WebSocketSettings:
    """Limits and times of every WebSocket of one host."""

    keepalive_interval_s: float
    """Seconds between pings; 0 sends none. A peer silent for a whole interval is given up."""

    max_message_bytes: int
    """A longer message ends its connection with 1009."""

    max_queued_bytes: int
    """How much may wait for the handler before nothing more is read from the network."""

    disconnect_grace_s: float | None
    """How long a handler may go without noticing that its client left before it is cancelled;
    None never cancels."""

    close_timeout_s: float
    """How long a peer may take to answer a close frame, and to read what was sent before it."""
