"""The gateway's limits."""

import ipaddress
import re
from dataclasses import dataclass
from pathlib import Path

from trunkline.auth.origins import Origins

_URL = re.compile(r"http://(?:[A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\]):[0-9]{1,5}")

#: As grants name them.
_PROJECT = re.compile(r"[A-Za-z0-9._-]{1,64}")
_MOST_WORKERS = 128
_MAX_CONTROL_PAYLOAD = 125
#: RFC 6455 section 5.2.
_LONGEST_FRAME = 2**63 - 1
_ABOVE_ZERO = (
    "head_timeout_s",
    "connect_timeout_s",
    "close_timeout_s",
    "drain_timeout_s",
    "tls_reload_interval_s",
)
#: What is off when it is 0.
_MAY_BE_ZERO = (
    "max_connections",
    "max_connections_per_address",
    "max_connections_per_identity",
    "max_connections_per_session",
    "max_frames_per_s",
    "max_connection_s",
    "idle_connection_s",
    "stalled_reader_s",
    "drain_quiet_s",
)
_LEAST = {
    "max_head_bytes": 1024,
    "max_headers": 16,
    "max_pipelined_requests": 1,
    "write_buffer_bytes": 1024,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class GatewaySettings:
    """What the gateway bounds, and when it gives up."""

    projects: tuple[str, ...] = ("default",)
    """The projects there are: names of letters, digits, `.`, `_` and `-`. `_default` and
    `_project` name the first."""

    workers: int = 1
    """How many processes accept connections and relay WebSockets, each on a core of its own; on
    Linux. With more than 1 they are the platform's children, and its own process has the sessions,
    the control plane and every other HTTP request. As many as there are cores is the most that
    helps. `trunkline up --workers` comes first."""

    allowed_origins: tuple[str, ...] = ("same-origin", "loopback")
    """The web pages that may open a WebSocket: origins such as `https://app.example.com`, in full
    and without wildcards; `same-origin` for the platform's own, `loopback` for pages of this
    machine. What sends no `Origin` isn't a browser, and may; the origin `null` may never."""

    on_expiry: str = "ignore"
    """What the end of a token means for a connection it let in: `ignore` (nothing), `close` (1008),
    or `refresh` (1008, unless the client has shown a newer one with `POST .../tickets:renew`). HTTP
    requests that are still being answered end in the same cases. A call often lasts longer than a
    token, and what has been revoked is cut off in any case: so the default is to ignore it."""

    credential_check_s: float = 2.0
    """How often open connections and HTTP requests are looked at for callers whose credentials were
    revoked or, if `on_expiry` says so, are over, in seconds."""

    tls_certificate: Path | None = None
    """A file with the certificate to show, and those between it and its authority, in PEM. Then
    the platform speaks HTTPS and nothing else."""

    tls_key: Path | None = None
    """The certificate's key, in PEM and not encrypted. None: it is in the same file."""

    tls_reload_interval_s: float = 10.0
    """Seconds between two looks at whether these files have changed. New connections get the new
    certificate; a pair that can't be used isn't taken, which the log says."""

    max_head_bytes: int = 32 * 1024
    """Bytes of a request's head (request line and headers). A longer one is answered 431."""

    head_timeout_s: float = 10.0
    """Seconds from a request's first byte, or a connection's start, until its head is whole.
    Slower ones are answered 408."""

    max_headers: int = 100
    """How many headers a request may have. One with more is answered 431."""

    max_pipelined_requests: int = 32
    """Requests that may wait on one connection behind the one that is being answered. A client
    that sends more without waiting for its answers is cut off: each takes memory and time before
    anybody knows who sent it."""

    trusted_proxies: tuple[str, ...] = ()
    """Networks, such as `10.0.0.0/8,fd00::/8`, whose `X-Forwarded-For` is believed. From any other
    address it is ignored: whoever connects is the client."""

    max_connections: int = 20_000
    """Connections of all kinds at once, in each process of the platform; its workers count
    together. One more is answered 503. If the system allows a process too few descriptors for
    that (`ulimit -Hn`), it takes fewer, which the log says at the start. 0 is no limit."""

    max_connections_per_address: int = 2_000
    """Connections at once from one address, or of IPv6 from its /64, in each process of the
    platform; its workers count together. One more is answered 429. Behind a
    proxy in `trusted_proxies` the address is the one it names, and WebSockets count. 0 is no
    limit."""

    max_connections_per_identity: int = 2_000
    """WebSockets at once of one identity, in each process of the platform; its workers count
    together. One more is refused with 429. 0 is no
    limit."""

    max_connections_per_session: int = 100
    """WebSockets at once to one session. One more is refused with 429. 0 is no limit."""

    max_frame_bytes: int = 1024 * 1024
    """Bytes of payload in one WebSocket frame, in either direction. A larger frame closes the
    connection with 1009. A message may have any number of frames."""

    max_frames_per_s: float = 0.0
    """Frames a client may send each second, control frames included, averaged over about one
    second. More close the connection with 1008. 0 is no limit."""

    max_connection_s: float = 0.0
    """Seconds a WebSocket may last. Then it is closed with 1001, and the client may come back to
    the same session. 0 is no limit."""

    idle_connection_s: float = 0.0
    """Seconds without a byte in either direction after which a WebSocket is closed with 1001.
    Control frames count: an agent's host that pings, as trunkline's does every
    `keepalive_interval_s`, keeps it open. 0 is no limit."""

    stalled_reader_s: float = 30.0
    """Seconds that somebody for whom bytes are waiting may take none of them. Then a WebSocket is
    closed with 1013, and an HTTP request is given up. 0 is no limit."""

    connect_timeout_s: float = 10.0
    """Seconds a running agent has to accept a connection and answer its upgrade."""

    close_timeout_s: float = 5.0
    """Seconds the two ends have to finish the close handshake before the connection is cut."""

    write_buffer_bytes: int = 256 * 1024
    """Bytes kept for a peer that reads slower than the other writes, per direction. When they
    are full the gateway stops reading, so the pressure reaches the sender through TCP."""

    compiled_relay: bool = True
    """Whether a thread of compiled code relays frames while nothing special happens, where it was
    built (on Linux, if there was a C compiler at installation) and TLS doesn't end in the gateway.
    It keeps at most 64 KiB of `write_buffer_bytes` per direction. Without it the event loop does
    the same at 1.3 to 1.6 times the cost."""

    relay_realtime_share: float = 0.5
    """Up to which share of one processor the compiled relay's thread goes before all ordinary
    programs (`SCHED_RR`, the least real-time priority), where the platform may ask for that: as
    root, with `CAP_SYS_NICE`, or with `ulimit -r 1`. A frame takes it microseconds, and a frame
    that waits behind busy agents is milliseconds late. It does so for a second when it had to wait
    for a processor, and for longer, up to 16, if it has to wait again after that; else it is an
    ordinary thread, which costs less. It is one, too, when it needs more than that share, until
    it needs half of it. 0: it always is."""

    advertised_url: str = ""
    """Where the other processes of a platform that share its store reach this one, such as
    `http://10.0.0.5:8080`. Empty: the address it listens on. They pass callers' tokens on to it,
    so the network in between must be theirs alone."""

    drain_timeout_s: float = 10.0
    """Seconds from SIGTERM until whatever is still open is cut. WebSockets are closed with 1001
    before: idle ones at once, and those in use when they fall quiet, or when a fifth of the time
    is left, but at most `close_timeout_s`."""

    drain_quiet_s: float = 1.0
    """Seconds without a byte either way after which a WebSocket counts as idle once the platform
    is told to stop; and seconds an agent that was told of it has to say something."""

    max_responses_body_bytes: int = 16 * 1024 * 1024
    """How long the body of a `responses` or `conversations` request may be; a longer one is
    refused with 413. It is read whole, because it names the session. Answers aren't limited; of
    one that is longer, nothing is kept for its conversation."""

    def __post_init__(self) -> None:
        self._check_access()
        self._check_network()
        for name in _ABOVE_ZERO:
            if getattr(self, name) <= 0:
                raise ValueError(f"{name} must be more than 0")
        for name in _MAY_BE_ZERO:
            if getattr(self, name) < 0:
                raise ValueError(f"{name} must be 0 or more")
        if not 1 <= self.workers <= _MOST_WORKERS:
            raise ValueError(f"workers must be between 1 and {_MOST_WORKERS}")
        for name, least in _LEAST.items():
            if getattr(self, name) < least:
                raise ValueError(f"{name} must be at least {least}")
        if not 0 <= self.relay_realtime_share <= 1:
            raise ValueError("relay_realtime_share must be between 0 and 1")
        if self.max_frame_bytes < _MAX_CONTROL_PAYLOAD:
            raise ValueError(
                "max_frame_bytes must be at least 125: control frames may be that long"
            )
        if self.max_frame_bytes > _LONGEST_FRAME:
            raise ValueError("max_frame_bytes must be less than 2**63: no frame is longer")

    def _check_network(self) -> None:
        if self.advertised_url and not _URL.fullmatch(self.advertised_url):
            raise ValueError("advertised_url must be http://HOST:PORT")
        if self.tls_key is not None and self.tls_certificate is None:
            raise ValueError("tls_key needs tls_certificate")
        for network in self.trusted_proxies:
            try:
                ipaddress.ip_network(network)
            except ValueError as exc:
                raise ValueError(f"trusted_proxies: {exc}; give networks like 10.0.0.0/8") from None

    def _check_access(self) -> None:
        if not self.projects:
            raise ValueError("projects must name at least one project")
        for name in self.projects:
            if not _PROJECT.fullmatch(name):
                raise ValueError(
                    f"projects has {name[:64]!r}; give names of 1 to 64 letters, digits, '.', '_' "
                    "and '-'"
                )
        try:
            Origins(self.allowed_origins)
        except ValueError as exc:
            raise ValueError(f"allowed_origins: {exc}") from None
        if self.on_expiry not in ("ignore", "close", "refresh"):
            raise ValueError("on_expiry must be ignore, close or refresh")
        if not 0.05 <= self.credential_check_s <= 60:
            raise ValueError("credential_check_s must be between 0.05 and 60")
