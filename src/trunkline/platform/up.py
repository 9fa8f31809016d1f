"""Everything in one process: ``trunkline up``."""

import contextlib
import fcntl
import logging
import os
import secrets
import sys
import time
from collections.abc import Iterator
from contextlib import AsyncExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import uvloop
from starlette.middleware import Middleware

from trunkline import config
from trunkline.aio.tasks import TaskOwner
from trunkline.auth.local import user_name
from trunkline.auth.pseudonym import Pseudonyms
from trunkline.console.app import Console
from trunkline.console.signin import FIRST_LINK_LIFETIME_S, SignIns, make_link
from trunkline.control.agents import Agents
from trunkline.control.api_keys import ApiKeys
from trunkline.control.audit import Audit
from trunkline.control.builds import VersionBuilds
from trunkline.control.conversations import Conversations
from trunkline.control.deletions import Deletions
from trunkline.control.files import Files
from trunkline.control.logs import Logs
from trunkline.control.revocations import RevocationList
from trunkline.control.secrets import Secrets
from trunkline.control.services import ControlServices
from trunkline.control.sessions import Sessions
from trunkline.control.uploads import Uploads
from trunkline.control.versions import Versions
from trunkline.gateway.invocations import Invocations
from trunkline.gateway.lifetimes import Lifetimes
from trunkline.gateway.openai_responses import Responses
from trunkline.gateway.peers import Peers
from trunkline.gateway.routes import Projects
from trunkline.gateway.services import GatewayServices
from trunkline.gateway.ticket_office import TicketOffice
from trunkline.gateway.tickets import Tickets
from trunkline.platform import descriptors
from trunkline.platform.access import Access, open_access
from trunkline.platform.app import build_app
from trunkline.platform.certificate import Certificate
from trunkline.platform.guard import Guard
from trunkline.platform.health import Health
from trunkline.platform.server import Server, listen, url_of
from trunkline.platform.settings import PlatformSettings, load_settings
from trunkline.platform.state_id import check_state_dir
from trunkline.protocol.errors import TrunklineError
from trunkline.protocol.ids import NodeId
from trunkline.runtimes.process.kept import KeeperLine
from trunkline.runtimes.process.runtime import ProcessRuntime
from trunkline.runtimes.process.sandbox.levels import Level, describe
from trunkline.sessions.directory import SessionDirectory
from trunkline.sessions.upkeep import Upkeep
from trunkline.store.opening import StorePlace
from trunkline.telemetry.logs import set_up_logging
from trunkline.telemetry.metrics import Metrics

_log = logging.getLogger("trunkline.platform")
_LOCK_TRIES = 50
_TLS_ALONE = (
    "TRUNKLINE_GATEWAY_TLS_CERTIFICATE: processes that share a store reach each other over plain "
    "HTTP; have TLS end in front of them"
)
_LOCK_PAUSE_S = 0.01


class StateDirInUseError(TrunklineError):
    """Another platform uses the state directory, or the store's file."""

    code = "state_dir_in_use"


@dataclass(frozen=True, slots=True, kw_only=True)
class UpOptions:
    """What the command line says; everything else is settings."""

    host: str
    port: int
    state_dir: Path
    keeper: KeeperLine | None = None
    """What starts agents, so that they outlive this process. None: this process does."""


def run_up(options: UpOptions) -> int:
    """Serve until SIGTERM or SIGINT; return the process's exit code.

    Prints ``ready http://HOST:PORT`` on standard output once it serves. What is wrong is said
    on standard error, one line each.
    """
    set_up_logging()
    # Everything in the state directory is for this user only: keys, definitions, homes, logs.
    os.umask(0o077)
    try:
        state_dir = options.state_dir.resolve()
        settings = load_settings(config.environment(), state_dir)
        place = StorePlace(settings.store, state_dir)
        with _state_dir(options.state_dir, is_shared=place.is_shared):
            uvloop.run(_serve(options, settings, place))
    except config.SettingsError as exc:
        for problem in exc.problems:
            sys.stderr.write(f"error: {problem}\n")
        return 2
    except TrunklineError as exc:
        sys.stderr.write(f"error: {exc}\n")
        return 1
    return 0


@contextmanager
def _state_dir(path: Path, *, is_shared: bool) -> Iterator[None]:
    path.mkdir(parents=True, exist_ok=True, mode=0o700)
    # Those whose store several may use may use its state directory together, too.
    kind = fcntl.LOCK_SH if is_shared else fcntl.LOCK_EX
    with _locked(path / "lock", f"the state directory {path}", "--state-dir", kind):
        yield


@contextmanager
def _store_file(path: Path) -> Iterator[None]:
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    with _locked(path.with_name(f"{path.name}.lock"), f"the store {path}", "TRUNKLINE_STORE_URL"):
        yield


@contextmanager
def _locked(path: Path, what: str, setting: str, kind: int = fcntl.LOCK_EX) -> Iterator[None]:
    # Two platforms on one of these would start every session twice. The lock goes with the
    # process, however it ends.
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        if not _lock_soon(descriptor, kind):
            raise StateDirInUseError(
                f"another trunkline uses {what}; stop it, or name another with {setting}"
            )
        yield
    finally:
        os.close(descriptor)


def _lock_soon(descriptor: int, kind: int) -> bool:
    # A process whose keeper was killed ends a moment after it.
    for _ in range(_LOCK_TRIES):
        with contextlib.suppress(OSError):
            fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
            return True
        time.sleep(_LOCK_PAUSE_S)
    return False


async def _serve(options: UpOptions, settings: PlatformSettings, place: StorePlace) -> None:
    async with AsyncExitStack() as stack:
        sock = listen(options.host, options.port)
        stack.callback(sock.close)
        state_dir = options.state_dir.resolve()
        certificate = Certificate.of(settings.gateway)
        if certificate is not None and place.is_shared:
            raise config.SettingsError([_TLS_ALONE])
        url = url_of(sock, is_encrypted=certificate is not None)
        if place.file is not None:
            stack.enter_context(_store_file(place.file))
        store = await place.open()
        stack.push_async_callback(store.aclose)
        await check_state_dir(store, state_dir, what=place.shown)
        node = NodeId(secrets.token_hex(8))
        metrics = Metrics()
        runtime = await ProcessRuntime(
            settings.process,
            keeper=options.keeper,
            on_limit=lambda limit: metrics.agent_limits.labels(limit).inc(),
        ).opened()
        stack.push_async_callback(runtime.aclose)
        sessions = SessionDirectory(
            settings.sessions,
            store=store,
            runtime=runtime,
            sessions_dir=state_dir / "sessions",
            metrics=metrics,
            node=node,
        )
        sessions.set_endpoint(url)
        upkeep = Upkeep(
            settings.sessions,
            store=store,
            runtime=runtime,
            sessions=sessions,
            node=node,
            url=settings.gateway.advertised_url or url,
        )
        # Its last sign of life comes after its last session's end.
        stack.push_async_callback(upkeep.aclose)
        stack.push_async_callback(sessions.aclose)
        # Its lock says that nobody else uses a store that is a file.
        await upkeep.begin(is_alone=not place.is_shared)
        builds = VersionBuilds(state_dir / "versions", store=store, runtime=runtime, node=node)
        stack.push_async_callback(builds.aclose)
        access = open_access(settings, state_dir, host=options.host, store=store, stack=stack)
        sessions.rate = access.rates.sessions_by_identity
        gateway = GatewayServices(
            settings=settings.gateway,
            projects=Projects(settings.gateway.projects),
            admission=access.admission,
            pseudonyms=Pseudonyms.open(state_dir),
            sessions=sessions,
            peers=Peers(store, connect_timeout_s=settings.gateway.connect_timeout_s),
            metrics=metrics,
            tickets=TicketOffice(store),
            rates=access.rates,
            audit=access.audit,
        )
        gateway.limits.most = descriptors.connections_within(
            gateway.limits.most, descriptors.raise_to_hard_limit()
        )
        stack.push_async_callback(gateway.tasks.aclose)
        control = ControlServices(
            projects=settings.gateway.projects,
            store=store,
            sessions=sessions,
            admission=access.admission,
            builds=builds,
            rate=access.rates.calls_by_identity,
        )
        sessions.use_secrets(access.secrets)
        uploads = Uploads(
            store=store,
            builds=builds,
            secrets=access.secrets,
            node=node,
            max_versions=settings.control.max_versions,
        )
        deletions = Deletions(store=store, sessions=sessions, builds=builds, node=node)
        stack.push_async_callback(deletions.aclose)
        upkeep.followers = (builds, deletions)
        upkeep.on_gone = gateway.peers.cut
        tasks = TaskOwner()
        stack.push_async_callback(tasks.aclose)
        for work in (upkeep, access.audit, Lifetimes(gateway, store)):
            tasks.spawn(work.run(), name=type(work).__name__.lower())
        health = Health(store)
        app = build_app(
            [
                *Invocations(gateway).routes(),
                *Responses(gateway, store=store, calls=control.calls).routes(),
                *Tickets(gateway, store).routes(),
                *ApiKeys(control).routes(),
                *Audit(control).routes(),
                *RevocationList(control).routes(),
                *Secrets(control, access.secrets).routes(),
                *Conversations(control).routes(),
                *Versions(control, uploads, deletions).routes(),
                *Agents(control, uploads, deletions).routes(),
                *Sessions(control).routes(),
                *Logs(control).routes(),
                *Files(control, max_file_bytes=settings.control.max_file_bytes).routes(),
                *Console(SignIns(state_dir, access.issuer)).routes(),
            ],
            health=health,
            metrics=metrics,
            issuer=access.issuer,
            peers=gateway.peers,
            middleware=[Middleware(Guard, services=gateway)],
        )
        await deletions.take_over()
        await builds.take_over()

        def drain() -> None:
            health.is_draining = True
            control.draining.set()

        def ready() -> None:
            _say_hello(url, access, runtime.level, state_dir)

        await Server(app, gateway, on_ready=ready, on_drain=drain, certificate=certificate).serve(
            [sock]
        )


def _say_hello(url: str, access: Access, level: Level, state_dir: Path) -> None:
    sys.stderr.write(
        f"trunkline keeps its state in {state_dir}\n"
        + "".join(f"{notice}\n" for notice in (*describe(level), *access.notices))
    )
    # A link is for eyes: a log that keeps what is said here must not have it.
    if sys.stderr.isatty() and access.takes_development:
        link = make_link(state_dir, url, user_name(), lifetime_s=FIRST_LINK_LIFETIME_S)
        sys.stderr.write(f"console: {link}\n")
    else:
        sys.stderr.write(f"console: {url}/console/\n")
    if sys.stderr.isatty():
        sys.stderr.write(
            "next, in another shell: `trunkline deploy DIR`, then `trunkline connect NAME`\n"
        )
    sys.stdout.write(f"ready {url}\n")
    sys.stdout.flush()
