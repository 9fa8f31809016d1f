"""Everything in one process: ``trunkline up``."""

import asyncio
import logging
import os
import secrets
import sys
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path

import uvloop
from starlette.middleware import Middleware

from trunkline import config
from trunkline.aio.tasks import TaskOwner
from trunkline.auth.local import user_name
from trunkline.auth.pseudonym import Pseudonyms
from trunkline.console.signin import FIRST_LINK_LIFETIME_S, make_link
from trunkline.control.agents import Agents
from trunkline.control.api_keys import ApiKeys
from trunkline.control.audit import Audit
from trunkline.control.builds import VersionBuilds
from trunkline.control.conversations import Conversations
from trunkline.control.deletions import Deletions
from trunkline.control.files import Files
from trunkline.control.logs import Logs
from trunkline.control.own_conversations import own_conversations
from trunkline.control.revocations import RevocationList
from trunkline.control.secrets import Secrets
from trunkline.control.services import ControlServices
from trunkline.control.sessions import Sessions
from trunkline.control.uploads import Uploads
from trunkline.control.versions import Versions
from trunkline.gateway.agent_door import AgentDoors
from trunkline.gateway.audit import AuditTrail
from trunkline.gateway.descriptions import Descriptions
from trunkline.gateway.invocations import Invocations
from trunkline.gateway.kept_errors import KeptErrors
from trunkline.gateway.lifetimes import Lifetimes
from trunkline.gateway.moving import Entrance
from trunkline.gateway.openai_responses import Responses
from trunkline.gateway.peers import Peers
from trunkline.gateway.routes import Projects
from trunkline.gateway.services import GatewayServices
from trunkline.gateway.ticket_office import TicketOffice
from trunkline.gateway.tickets import Tickets
from trunkline.platform import descriptors
from trunkline.platform.access import Access, open_access
from trunkline.platform.app import build_agent_app, build_app
from trunkline.platform.arrival import Predecessor
from trunkline.platform.certificate import Certificate
from trunkline.platform.console import open_console
from trunkline.platform.departure import Inheritance, Parts, Replacement
from trunkline.platform.guard import Guard
from trunkline.platform.handover import ReloadFailedError
from trunkline.platform.health import Health
from trunkline.platform.locks import Locks
from trunkline.platform.machine_errors import in_words
from trunkline.platform.server import Server, url_of
from trunkline.platform.settings import PlatformSettings, load_settings
from trunkline.platform.state_id import check_state_dir
from trunkline.platform.workers.leading import Entry, Led, lead, open_entry
from trunkline.protocol.errors import TrunklineError
from trunkline.protocol.ids import NodeId
from trunkline.runtimes.process.kept import KeeperLine
from trunkline.runtimes.process.runtime import ProcessRuntime
from trunkline.runtimes.process.sandbox.levels import Level, describe
from trunkline.sessions.directory import SessionDirectory
from trunkline.sessions.upkeep import Upkeep
from trunkline.store.interface import Store
from trunkline.store.opening import StorePlace
from trunkline.telemetry.logs import set_up_logging
from trunkline.telemetry.metrics import Metrics

_log = logging.getLogger("trunkline.platform")
_TLS_ALONE = (
    "TRUNKLINE_GATEWAY_TLS_CERTIFICATE: processes that share a store reach each other over plain "
    "HTTP; have TLS end in front of them"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class UpOptions:
    """What the command line says; everything else is settings."""

    host: str
    port: int
    state_dir: Path
    keeper: KeeperLine | None = None
    """What starts agents, so that they outlive this process. None: this process does."""
    predecessor: Predecessor | None = None
    """The process that this one replaces."""
    workers: int | None = None
    """How many processes relay. None: what the settings say."""


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
        predecessor = options.predecessor
        if predecessor is not None and predecessor.store != place.shown:
            raise ReloadFailedError(
                f"sessions can't move from {predecessor.store} to {place.shown}; restart the "
                "platform to change its store"
            )
        locks = Locks(() if predecessor is None else predecessor.locks)
        with locks.state_dir(options.state_dir, is_shared=place.is_shared):
            uvloop.run(_serve_or_vanish(options, settings, place, locks))
    except config.SettingsError as exc:
        _say_why(options, exc.problems)
        return 2
    except TrunklineError as exc:
        _say_why(options, [str(exc)])
        return 1
    except OSError as exc:
        told = in_words(exc, options.state_dir.absolute())
        if told is None:
            raise
        _say_why(options, [told])
        return 1
    return 0


def _say_why(options: UpOptions, problems: Sequence[str]) -> None:
    for problem in problems:
        sys.stderr.write(f"error: {problem}\n")
    if options.predecessor is not None:
        options.predecessor.fail("; ".join(problems))


async def _serve_or_vanish(
    options: UpOptions, settings: PlatformSettings, place: StorePlace, locks: Locks
) -> None:
    async with AsyncExitStack() as stack:
        try:
            await _serve(options, settings, place, locks, stack)
        except BaseException as exc:
            if options.predecessor is None or options.predecessor.is_replaced:
                raise
            # Agents and the node are still another process's, and no cleaning up may touch them.
            if not isinstance(exc, TrunklineError):
                _log.exception("this process can't take the other one's place")
            _say_why(options, [str(exc) or type(exc).__name__])
            sys.stderr.flush()
            os._exit(1)


async def _serve(
    options: UpOptions,
    settings: PlatformSettings,
    place: StorePlace,
    locks: Locks,
    stack: AsyncExitStack,
) -> None:
    predecessor = options.predecessor
    entry = open_entry(
        options.host,
        options.port,
        options.workers or settings.gateway.workers,
        given=None if predecessor is None else predecessor.listeners,
        stack=stack,
    )
    state_dir = options.state_dir.resolve()
    certificate = _certificate(settings, place)
    url = url_of(entry.listeners[0], is_encrypted=certificate is not None)
    heart = await _open_heart(options, settings, place, url, locks, stack)
    store, node, sessions, upkeep = heart.store, heart.node, heart.sessions, heart.upkeep
    builds = VersionBuilds(state_dir / "versions", store=store, runtime=heart.runtime, node=node)
    stack.push_async_callback(builds.aclose)
    access = open_access(
        settings, state_dir, host=options.host, store=store, stack=stack, shared=entry.shared
    )
    gateway = _open_gateway(settings, heart, access, options, entry, stack)
    control = ControlServices(
        projects=settings.gateway.projects,
        store=store,
        sessions=sessions,
        admission=access.admission,
        builds=builds,
        rate=access.rates.calls_by_identity,
        live=gateway.live,
    )
    _give(sessions, access)
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
    await _begin(access.audit, Lifetimes(gateway, store), tasks)
    health = Health(store)
    app = build_app(
        [
            *Invocations(gateway).routes(),
            *Descriptions(gateway, sessions).routes(),
            *Responses(gateway, store=store, calls=control.calls).routes(),
            *Tickets(gateway, store).routes(),
            *ApiKeys(control).routes(),
            *Audit(control, access.audit.flush).routes(),
            *RevocationList(control).routes(),
            *Secrets(control, access.secrets).routes(),
            *Conversations(control).routes(),
            *Versions(control, uploads, deletions).routes(),
            *Agents(control, uploads, deletions).routes(),
            *Sessions(control).routes(),
            *Logs(control).routes(),
            *Files(control, max_file_bytes=settings.control.max_file_bytes).routes(),
            *open_console(settings, access, state_dir).routes(),
        ],
        health=health,
        metrics=heart.metrics,
        issuer=access.issuer,
        peers=gateway.peers,
        middleware=[Middleware(Guard, services=gateway)],
    )

    doors = AgentDoors(build_agent_app(own_conversations(control)), gateway, port=entry.port)
    heart.runtime.use_doors(doors)

    def drain() -> None:
        health.is_draining = True
        control.draining.set()

    def ready() -> None:
        tasks.spawn(replacement.listen(state_dir), name="reload:listen")
        if predecessor is None:
            _say_hello(url, access, heart.runtime.level, state_dir)
        else:
            predecessor.say_serving()

    server = Server(
        app,
        gateway,
        on_ready=ready,
        on_drain=drain,
        on_reload=lambda: replacement.begin(),
        # Where there are workers it ends there.
        certificate=certificate if entry.shared is None else None,
    )
    entrance = Entrance(
        gateway, server.connections, sessions.arriving.lease_moved_here, server.new_door
    )
    fleet = await lead(
        entry,
        host=options.host,
        state_dir=state_dir,
        parts=Led(
            gateway=gateway,
            sessions=sessions,
            store=store,
            upkeep=upkeep,
            server=server,
            entrance=entrance,
        ),
        stack=stack,
    )
    parts = Parts(
        keeper=options.keeper,
        runtime=heart.runtime,
        sessions=sessions,
        upkeep=upkeep,
        calls=control.calls,
        gateway=gateway,
        server=server,
        fleet=fleet,
        close_doors=control.draining.set,
        before_has_ended=_event(is_set=predecessor is None),
    )
    replacement = Replacement(
        parts,
        Inheritance(
            node=node,
            store=place.shown,
            listeners=entry.listeners,
            locks=locks.files,
            reload_wait_s=settings.sessions.reload_wait_s,
            drain_timeout_s=settings.gateway.drain_timeout_s,
        ),
    )
    stack.callback(replacement.close)
    if predecessor is None:
        await deletions.take_over()
        await builds.take_over()
    else:
        await predecessor.take_sessions(sessions, control.calls)
        await upkeep.go_on(is_alone=not place.is_shared)
        _follow(predecessor, parts, entrance, tasks)
    # The calls that are being answered are known from here on, whoever began them.
    doors.open()
    tasks.spawn(upkeep.run(), name="upkeep")
    await server.serve(entry.listeners if fleet is None else [])


async def _begin(audit: AuditTrail, lifetimes: Lifetimes, tasks: TaskOwner) -> None:
    # Who was revoked is known before anybody is let in.
    await lifetimes.look()
    tasks.spawn(audit.run(), name="audit")
    tasks.spawn(lifetimes.run(), name="lifetimes")


def _certificate(settings: PlatformSettings, place: StorePlace) -> Certificate | None:
    certificate = Certificate.of(settings.gateway)
    if certificate is not None and place.is_shared:
        raise config.SettingsError([_TLS_ALONE])
    return certificate


@dataclass(frozen=True, slots=True, kw_only=True)
class _Heart:
    """The sessions, and what they stand on."""

    store: Store
    node: NodeId
    runtime: ProcessRuntime
    sessions: SessionDirectory
    upkeep: Upkeep
    metrics: Metrics


async def _open_heart(
    options: UpOptions,
    settings: PlatformSettings,
    place: StorePlace,
    url: str,
    locks: Locks,
    stack: AsyncExitStack,
) -> _Heart:
    predecessor, state_dir = options.predecessor, options.state_dir.resolve()
    if place.file is not None:
        stack.enter_context(locks.store_file(place.file))
    store = await place.open()
    stack.push_async_callback(store.aclose)
    await check_state_dir(store, state_dir, what=place.shown)
    node = NodeId(secrets.token_hex(8)) if predecessor is None else predecessor.node
    metrics = Metrics()
    runtime = await ProcessRuntime(
        settings.process,
        keeper=options.keeper,
        run_dir=None if predecessor is None else predecessor.run_dir,
        on_limit=lambda limit: metrics.agent_limits.labels(limit).inc(),
    ).opened()
    stack.push_async_callback(runtime.aclose)
    metrics.forks_ahead.set_function(lambda: runtime.forks_ahead)
    metrics.starts_waiting.set_function(lambda: runtime.starts_waiting)
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
    if predecessor is None:
        # Its lock says that nobody else uses a store that is a file.
        await upkeep.begin(is_alone=not place.is_shared)
    return _Heart(
        store=store,
        node=node,
        runtime=runtime,
        sessions=sessions,
        upkeep=upkeep,
        metrics=metrics,
    )


def _open_gateway(
    settings: PlatformSettings,
    heart: _Heart,
    access: Access,
    options: UpOptions,
    entry: Entry,
    stack: AsyncExitStack,
) -> GatewayServices:
    state_dir = options.state_dir.resolve()
    gateway = GatewayServices(
        settings=settings.gateway,
        projects=Projects(settings.gateway.projects),
        admission=access.admission,
        pseudonyms=Pseudonyms.open(state_dir),
        sessions=heart.sessions,
        peers=Peers(heart.store, connect_timeout_s=settings.gateway.connect_timeout_s),
        metrics=heart.metrics,
        tickets=TicketOffice(heart.store),
        rates=access.rates,
        audit=access.audit,
        errors=KeptErrors(state_dir / "errors"),
        shared=entry.shared,
    )
    # Whoever replaces another has been told.
    sharers = len(entry.listeners) if options.predecessor is None else 0
    gateway.limits.most = descriptors.connections_within(
        gateway.limits.most, descriptors.raise_to_hard_limit(), sharers=sharers
    )
    stack.push_async_callback(gateway.tasks.aclose)
    return gateway


def _event(*, is_set: bool) -> asyncio.Event:
    event = asyncio.Event()
    if is_set:
        event.set()
    return event


def _give(sessions: SessionDirectory, access: Access) -> None:
    sessions.rate = access.rates.sessions_by_identity
    sessions.use_secrets(access.secrets)


def _follow(predecessor: Predecessor, parts: Parts, entrance: Entrance, tasks: TaskOwner) -> None:
    sessions = parts.sessions
    following = predecessor.follow(
        entrance=entrance,
        sessions=sessions,
        calls=parts.calls,
        upkeep=parts.upkeep,
        fleet=parts.fleet,
        tasks=tasks,
    )
    following_it = tasks.spawn(following, name="reload:follow")
    following_it.add_done_callback(lambda _: parts.before_has_ended.set())


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
