"""trunkline's gateway in a process of its own, in front of one upstream that is always there.

Server, front door, token verification, sessions, their store, upgrade, relay and records are the
product's own, with default settings. Only the runtime is replaced: the agents it starts are the
one upstream. Nobody is told that he comes too often.
"""

import argparse
import asyncio
import datetime as dt
import json
from contextlib import AsyncExitStack
from dataclasses import fields
from pathlib import Path

import uvloop

from trunkline.aio.garbage import collect_seldom
from trunkline.auth.caller import Caller
from trunkline.auth.identity import Identity
from trunkline.auth.issuer import ISSUER, DevelopmentIssuer
from trunkline.auth.providers import load_providers
from trunkline.auth.pseudonym import Pseudonyms
from trunkline.auth.rates import Rates, RateSettings
from trunkline.auth.settings import AuthSettings
from trunkline.gateway.audit import AuditTrail
from trunkline.gateway.invocations import Invocations
from trunkline.gateway.lifetimes import Lifetimes
from trunkline.gateway.peers import Peers
from trunkline.gateway.routes import PROTOCOL, Projects
from trunkline.gateway.services import GatewayServices
from trunkline.gateway.settings import GatewaySettings
from trunkline.gateway.ticket_office import TicketOffice
from trunkline.platform.access import open_admission
from trunkline.platform.app import build_app
from trunkline.platform.health import Health
from trunkline.platform.server import Server, listen
from trunkline.protocol.ids import AgentName, NodeId, ProjectName, SessionId, SessionKey
from trunkline.runtimes.interface import Address, ExitStatus, InstanceSpec, Launch, LogSink
from trunkline.sessions.directory import SessionDirectory
from trunkline.sessions.launches import launch_to_json
from trunkline.sessions.settings import SessionSettings
from trunkline.store.interface import Store
from trunkline.store.records import NewVersion
from trunkline.store.sqlite.engine import open_sqlite
from trunkline.telemetry.logs import set_up_logging
from trunkline.telemetry.metrics import Metrics

USER = "benchmark"
_NODE = NodeId("benchmark")
_PROJECT, _AGENT = ProjectName("default"), AgentName("echo")
#: As many as the default settings let a thousand connections share, and more.
_SESSIONS = 20
_PATH = (
    f"/api/projects/{_PROJECT}/agents/{_AGENT}/endpoint/protocols/{PROTOCOL}"
    "?api-version=v1&agent_session_id="
)


class _Upstream:
    """Stands for an agent's process."""

    pid = 0

    def __init__(self, address: Address) -> None:
        self.address = address
        self._has_ended = asyncio.Event()

    async def wait_exited(self) -> ExitStatus:
        await self._has_ended.wait()
        return ExitStatus(code=0)

    async def stop(self) -> ExitStatus:
        self._has_ended.set()
        return await self.wait_exited()


class _Runtime:
    """Stands for the runtime: whatever it is to start is there already."""

    name = "benchmark"

    def __init__(self, address: Address) -> None:
        self._instance = _Upstream(address)

    async def start(self, spec: InstanceSpec, logs: LogSink) -> _Upstream:
        return self._instance

    async def aclose(self) -> None:
        await self._instance.stop()


async def _deploy(store: Store) -> None:
    await store.add_node(_NODE, dt.datetime.now(dt.UTC), "http://127.0.0.1:1")
    version, _ = await store.add_version(
        NewVersion(
            project=_PROJECT,
            agent=_AGENT,
            definition={"protocol_versions": [{"protocol": PROTOCOL, "version": "2.0.0"}]},
            description=None,
            metadata={},
            content_hash="",
            code_sha256="",
            builder=_NODE,
        )
    )
    launch = Launch(command=("echo",), working_dir="/", environment={})
    await store.finish_version(version, launch=launch_to_json(launch))


async def serve(upstream_port: int, state_dir: Path, providers_file: Path | None) -> None:
    async with AsyncExitStack() as stack:
        issuer = DevelopmentIssuer.open(state_dir)
        metrics, settings = Metrics(), GatewaySettings()
        store = await open_sqlite(state_dir / "trunkline.db")
        stack.push_async_callback(store.aclose)
        await _deploy(store)
        sessions = SessionDirectory(
            SessionSettings(),
            store=store,
            runtime=_Runtime(Address(port=upstream_port)),  # type: ignore[arg-type]
            sessions_dir=state_dir / "sessions",
            metrics=metrics,
            node=_NODE,
        )
        stack.push_async_callback(sessions.aclose)
        auth = AuthSettings(providers_file=providers_file)
        admission = open_admission(auth, state_dir, host="127.0.0.1", keys=store, stack=stack)
        services = GatewayServices(
            settings=settings,
            projects=Projects(settings.projects),
            admission=admission,
            pseudonyms=Pseudonyms.open(state_dir),
            sessions=sessions,
            peers=Peers(store, connect_timeout_s=settings.connect_timeout_s),
            tickets=TicketOffice(store),
            metrics=metrics,
            # What is measured is what the gateway can, not what it lets one address do.
            rates=Rates(RateSettings(**{each.name: 1e6 for each in fields(RateSettings)})),
            audit=AuditTrail(store, kept_for=dt.timedelta(days=1)),
        )
        stack.push_async_callback(services.tasks.aclose)
        for work in (services.audit, Lifetimes(services, store)):
            services.tasks.spawn(work.run(), name=type(work).__name__)
        app = build_app(
            Invocations(services).routes(),
            health=Health(store),
            metrics=metrics,
            issuer=issuer,
            peers=services.peers,
        )
        paths = await _start_sessions(sessions, ISSUER, "s")
        provider_paths = [
            path
            for provider in load_providers(auth)
            for path in await _start_sessions(sessions, provider.identity_issuer, "p")
        ]
        sock = stack.enter_context(listen("127.0.0.1", 0))

        def ready() -> None:
            said = {"paths": paths, "provider_paths": provider_paths}
            print(json.dumps({"port": sock.getsockname()[1], **said}), flush=True)

        await Server(app, services, on_ready=ready, on_drain=lambda: None).serve([sock])


async def _start_sessions(sessions: SessionDirectory, issuer: str, prefix: str) -> list[str]:
    """Start the sessions of an issuer's user; return where they are."""
    caller = Caller(identity=Identity(issuer, USER))
    names = [f"{prefix}{number}" for number in range(_SESSIONS)]
    for name in names:
        key = SessionKey(_PROJECT, _AGENT, SessionId(name))
        (await sessions.acquire(key, caller, protocol=PROTOCOL)).release()
    return [f"{_PATH}{name}" for name in names]


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--upstream", type=int, required=True)
    parser.add_argument("--state-dir", type=Path, required=True)
    parser.add_argument("--providers", type=Path, help="the providers' file, if there is one")
    options = parser.parse_args()
    set_up_logging()
    # As the platform's own processes do.
    collect_seldom()
    uvloop.run(serve(options.upstream, options.state_dir, options.providers))


if __name__ == "__main__":
    main()
