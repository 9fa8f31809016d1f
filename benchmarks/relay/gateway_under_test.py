"""trunkline's gateway in a process of its own, in front of one upstream that is always there.

Server, front door, token verification, upgrade and relay are the product's own. Only the
session directory is replaced: it leases the same address to everybody.
"""

import argparse
import asyncio
import json
import tempfile
from pathlib import Path
from types import SimpleNamespace

import uvloop

from trunkline.auth.admission import Admission
from trunkline.auth.identity import Identity
from trunkline.auth.issuer import DevelopmentIssuer
from trunkline.auth.pseudonym import Pseudonyms
from trunkline.auth.rates import Rates, RateSettings
from trunkline.auth.settings import AuthSettings
from trunkline.auth.verify import TokenVerifier, development
from trunkline.gateway.invocations import Invocations
from trunkline.gateway.peers import Peers
from trunkline.gateway.routes import Projects
from trunkline.gateway.services import GatewayServices
from trunkline.gateway.settings import GatewaySettings
from trunkline.gateway.ticket_office import TicketOffice
from trunkline.platform.app import build_app
from trunkline.platform.health import Health
from trunkline.platform.server import Server, listen
from trunkline.protocol.ids import NodeId, SessionKey
from trunkline.runtimes.interface import Address, ExitStatus
from trunkline.telemetry.metrics import Metrics

PATH = "/api/projects/default/agents/echo/endpoint/protocols/invocations_ws?api-version=v1"


class FixedLease:
    """A lease on the one upstream."""

    version = SimpleNamespace(version="1")
    log = SimpleNamespace(
        event=lambda reason, message: None, connections=SimpleNamespace(append=lambda event: None)
    )

    def __init__(self, key: SessionKey, address: Address) -> None:
        self.key = key
        self.address = address

    async def wait_exited(self) -> ExitStatus:
        await asyncio.Event().wait()
        return ExitStatus(code=0)

    def release(self) -> None:
        pass


class FixedSessions:
    """Stands for the session directory."""

    def __init__(self, address: Address) -> None:
        self._address = address

    async def acquire(self, key: SessionKey, caller: Identity, *, protocol: str) -> FixedLease:
        return FixedLease(key, self._address)


class _Store:
    async def ping(self) -> None:
        pass

    async def find_node(self, node: NodeId) -> None:
        return None


async def serve(upstream_port: int, state_dir: Path) -> None:
    issuer = DevelopmentIssuer.open(state_dir)
    metrics, settings, store = Metrics(), GatewaySettings(), _Store()
    peers = Peers(store, connect_timeout_s=settings.connect_timeout_s)
    services = GatewayServices(
        settings=settings,
        projects=Projects(settings.projects),
        admission=Admission(
            TokenVerifier(AuthSettings(), development(AuthSettings(), issuer.jwks()))
        ),
        pseudonyms=Pseudonyms.open(state_dir),
        sessions=FixedSessions(Address(port=upstream_port)),  # type: ignore[arg-type]
        peers=peers,
        tickets=TicketOffice(None),  # type: ignore[arg-type]
        metrics=metrics,
        # What is measured is what the gateway can, not what it lets one address do.
        rates=Rates(RateSettings(**dict.fromkeys(RateSettings.__dataclass_fields__, 0.0))),
    )
    app = build_app(
        Invocations(services).routes(),
        health=Health(store),  # type: ignore[arg-type]
        metrics=metrics,
        issuer=issuer,
        peers=peers,
    )
    with listen("127.0.0.1", 0) as sock:

        def ready() -> None:
            said = {"port": sock.getsockname()[1], "path": PATH, "token": issuer.issue("benchmark")}
            print(json.dumps(said), flush=True)

        await Server(app, services, on_ready=ready, on_drain=lambda: None).serve([sock])
        await services.tasks.aclose()


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--upstream", type=int, required=True)
    with tempfile.TemporaryDirectory(prefix="trunkline-bench-") as folder:
        uvloop.run(serve(parser.parse_args().upstream, Path(folder)))


if __name__ == "__main__":
    main()
