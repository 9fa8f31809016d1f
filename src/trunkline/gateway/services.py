"""What the parts of the gateway share."""

from dataclasses import dataclass, field

from trunkline.aio.tasks import TaskOwner
from trunkline.auth.pseudonym import Pseudonyms
from trunkline.auth.verify import TokenVerifier
from trunkline.gateway.peers import Peers
from trunkline.gateway.routes import Projects
from trunkline.gateway.settings import GatewaySettings
from trunkline.sessions.directory import SessionDirectory
from trunkline.telemetry.metrics import Metrics


@dataclass(frozen=True, slots=True, kw_only=True)
class GatewayServices:
    """The gateway's settings and the pieces it asks."""

    settings: GatewaySettings
    projects: Projects
    verifier: TokenVerifier
    pseudonyms: Pseudonyms
    sessions: SessionDirectory
    peers: Peers
    metrics: Metrics
    tasks: TaskOwner = field(default_factory=TaskOwner)
