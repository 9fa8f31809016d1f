"""What the parts of the gateway share."""

import asyncio
import datetime as dt
from dataclasses import dataclass, field
from typing import Any

from trunkline.aio.deadlines import Deadlines
from trunkline.aio.light import Lookout
from trunkline.aio.shared_counts import SharedCounts
from trunkline.aio.tasks import TaskOwner
from trunkline.auth.admission import Admission
from trunkline.auth.origins import Origins
from trunkline.auth.pseudonym import Pseudonyms
from trunkline.auth.rates import Rates, RateSettings
from trunkline.gateway.answering import Answering
from trunkline.gateway.audit import AuditTrail
from trunkline.gateway.carrier import Carrier
from trunkline.gateway.leases import Sessions
from trunkline.gateway.limits import ConnectionLimits
from trunkline.gateway.live import ErrorsToday, LiveConnections
from trunkline.gateway.notices import LimitNotices
from trunkline.gateway.passes import Passes
from trunkline.gateway.peers import Peers
from trunkline.gateway.routes import Projects
from trunkline.gateway.seen_heads import SeenHeads
from trunkline.gateway.settings import GatewaySettings
from trunkline.gateway.sweep import Sweep
from trunkline.gateway.ticket_office import TicketOffice
from trunkline.protocol.errors import TrunklineError, UnavailableError
from trunkline.telemetry.metrics import Metrics


@dataclass(frozen=True, slots=True, kw_only=True)
class GatewayServices:
    """The gateway's settings and the pieces it asks."""

    settings: GatewaySettings
    projects: Projects
    admission: Admission
    pseudonyms: Pseudonyms
    sessions: Sessions
    peers: Peers
    metrics: Metrics
    tickets: TicketOffice
    rates: Rates = field(default_factory=lambda: Rates(RateSettings()))
    audit: AuditTrail = field(
        default_factory=lambda: AuditTrail(None, kept_for=dt.timedelta(days=1))
    )
    tasks: TaskOwner = field(default_factory=TaskOwner)
    draining: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when the platform stops: nothing new is begun."""
    seen: SeenHeads = field(default_factory=SeenHeads)
    passes: Passes = field(default_factory=Passes)
    heads_due: Deadlines = field(init=False)
    """What new connections have to send their head in."""
    answers_due: Deadlines = field(init=False)
    """What agents have to answer an upgrade in."""
    carrier: Carrier = field(init=False)
    lookout: Lookout = field(default_factory=Lookout)
    """Watches the connections to agents that the carrier is to have, or had."""
    origins: Origins = field(init=False)
    limits: ConnectionLimits = field(init=False)
    sweep: Sweep = field(init=False)
    errors: ErrorsToday = field(default_factory=ErrorsToday)
    live: LiveConnections = field(init=False)
    shared: SharedCounts | None = None
    """What connections are counted in, if several processes have the limits in common."""
    stranded: list[tuple[int, bytes]] = field(default_factory=list)
    """Connections that are to be moved to another process: their files, and what was read."""
    notices: LimitNotices = field(default_factory=LimitNotices)
    """Tells the log which limits refuse."""
    relayed: set[Any] = field(default_factory=set)
    """The connections that are relayed now, each a `gateway.relayed.Relayed`."""
    answering: set[Answering] = field(default_factory=set)
    """The HTTP requests that are being answered."""

    def __post_init__(self) -> None:
        # Frozen is how everybody else sees it.
        settings = self.settings
        object.__setattr__(self, "heads_due", Deadlines(settings.head_timeout_s))
        object.__setattr__(self, "answers_due", Deadlines(settings.connect_timeout_s))
        object.__setattr__(self, "carrier", Carrier(self.settings))
        object.__setattr__(self, "origins", Origins(self.settings.allowed_origins))
        object.__setattr__(self, "limits", ConnectionLimits(self.settings, self.shared))
        object.__setattr__(self, "live", LiveConnections(self.relayed, self.errors))
        self.metrics.sources.append(self._measure)
        object.__setattr__(self, "sweep", Sweep.for_settings(self.settings, self.metrics))

    def waiting_bytes(self) -> dict[str, int]:
        """Return what waits for slow readers, by direction, as the sweep has last seen it."""
        relays = [relayed.relay for relayed in self.relayed]
        return {
            "in": sum(relay.upstream.waiting_bytes for relay in relays),
            "out": sum(relay.downstream.waiting_bytes for relay in relays),
        }

    async def _measure(self) -> None:
        self.metrics.measure_waiting("here", self.waiting_bytes())

    def refuse_if_draining(self) -> None:
        """Refuse to begin anything new once the platform is told to stop.

        Raises:
            UnavailableError: Then.
        """
        if self.draining.is_set():
            raise UnavailableError("the platform is restarting; connect again")

    def count_refusal(self, error: TrunklineError) -> None:
        """Count it, if it is about a limit, and see to it that the log tells of it."""
        if error.limit:
            self.metrics.refusals.labels(error.limit).inc()
            self.notices.refused(error)
