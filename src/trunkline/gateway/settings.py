"""The gateway's limits."""

import re
from dataclasses import dataclass

_URL = re.compile(r"http://(?:[A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\]):[0-9]{1,5}")


@dataclass(frozen=True, slots=True, kw_only=True)
class GatewaySettings:
    """What the gateway bounds, and when it gives up."""

    projects: tuple[str, ...] = ("default",)
    """The projects there are. `_default` and `_project` name the first."""

    max_head_bytes: int = 32 * 1024
    """Bytes of a request's head (request line and headers). A longer one is answered 431."""

    head_timeout_s: float = 10.0
    """Seconds from a request's first byte, or a connection's start, until its head is whole.
    Slower ones are answered 408."""

    max_frame_bytes: int = 1024 * 1024
    """Bytes of payload in one WebSocket frame, in either direction. A larger frame closes the
    connection with 1009. A message may have any number of frames."""

    connect_timeout_s: float = 10.0
    """Seconds a running agent has to accept a connection and answer its upgrade."""

    close_timeout_s: float = 5.0
    """Seconds the two ends have to finish the close handshake before the connection is cut."""

    write_buffer_bytes: int = 256 * 1024
    """Bytes kept for a peer that reads slower than the other writes, per direction. When they
    are full the gateway stops reading, so the pressure reaches the sender through TCP."""

    advertised_url: str = ""
    """Where the other processes of a platform that share its store reach this one, such as
    `http://10.0.0.5:8080`. Empty: the address it listens on. They pass callers' tokens on to it,
    so the network in between must be theirs alone."""

    drain_timeout_s: float = 10.0
    """Seconds from SIGTERM until whatever is still open is cut."""

    max_responses_body_bytes: int = 16 * 1024 * 1024
    """How long the body of a `responses` or `conversations` request may be; a longer one is
    refused with 413. It is read whole, because it names the session. Answers aren't limited; of
    one that is longer, nothing is kept for its conversation."""

    def __post_init__(self) -> None:
        if not self.projects:
            raise ValueError("projects must name at least one project")
        for name in ("head_timeout_s", "connect_timeout_s", "close_timeout_s", "drain_timeout_s"):
            if getattr(self, name) <= 0:
                raise ValueError(f"{name} must be more than 0")
        if self.advertised_url and not _URL.fullmatch(self.advertised_url):
            raise ValueError("advertised_url must be http://HOST:PORT")
        if self.max_head_bytes < 1024:
            raise ValueError("max_head_bytes must be at least 1024")
        if self.max_frame_bytes < 125:
            raise ValueError(
                "max_frame_bytes must be at least 125: control frames may be that long"
            )
        if self.write_buffer_bytes < 1024:
            raise ValueError("write_buffer_bytes must be at least 1024")
