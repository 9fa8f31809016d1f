"""Everything in one process: ``trunkline up``."""

import fcntl
import logging
import os
import secrets
import sys
from collections.abc import Iterator
from contextlib import AsyncExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import uvloop

from trunkline import config
from trunkline.aio.tasks import TaskOwner
from trunkline.auth.issuer import ISSUER, DevelopmentIssuer
from trunkline.auth.pseudonym import Pseudonyms
from trunkline.auth.verify import TokenVerifier
from trunkline.control.agents import Agents
from trunkline.control.builds import VersionBuilds
from trunkline.control.conversations import Conversations
from trunkline.control.deletions import Deletions
from trunkline.control.files import Files
from trunkline.control.logs import Logs
from trunkline.control.services import ControlServices
from trunkline.control.sessions import Sessions
from trunkline.control.uploads import Uploads
from trunkline.control.versions import Versions
from trunkline.gateway.invocations import Invocations
from trunkline.gateway.openai_responses import Responses
from trunkline.gateway.routes import Projects
from trunkline.gateway.services import GatewayServices
from trunkline.platform.app import build_app
from trunkline.platform.health import Health
from trunkline.platform.server import Server, listen, url_of
from trunkline.platform.settings import PlatformSettings, load_settings
from trunkline.protocol.errors import TrunklineError
from trunkline.protocol.ids import NodeId
from trunkline.runtimes.process.runtime import ProcessRuntime
from trunkline.sessions.directory import SessionDirectory
from trunkline.sessions.upkeep import Upkeep
from trunkline.store.sqlite.engine import open_sqlite
from trunkline.telemetry.logs import set_up_logging
from trunkline.telemetry.metrics import Metrics

_log = logging.getLogger("trunkline.platform")
_LOOPBACK = frozenset({"127.0.0.1", "::1", "localhost"})


class StateDirInUseError(TrunklineError):
    """Another platform uses the state directory."""

    code = "state_dir_in_use"


@dataclass(frozen=True, slots=True, kw_only=True)
class UpOptions:
    """What the command line says; everything else is settings."""

    host: str
    port: int
    state_dir: Path


def run_up(options: UpOptions) -> int:
    """Serve until SIGTERM or SIGINT; return the process's exit code.

    Prints ``ready http://HOST:PORT`` on standard output once it serves. What is wrong is said
    on standard error, one line each.
    """
    set_up_logging()
    # Everything in the state directory is for this user only: keys, definitions, homes, logs.
    os.umask(0o077)
    try:
        settings = load_settings(config.environment(), options.state_dir.resolve())
        with _state_dir(options.state_dir):
            uvloop.run(_serve(options, settings))
    except config.SettingsError as exc:
        for problem in exc.problems:
            sys.stderr.write(f"error: {problem}\n")
        return 2
    except TrunklineError as exc:
        sys.stderr.write(f"error: {exc}\n")
        return 1
    return 0


@contextmanager
def _state_dir(path: Path) -> Iterator[None]:
    # Two platforms on one directory would start every session twice. The lock goes with the
    # process, however it ends.
    path.mkdir(parents=True, exist_ok=True, mode=0o700)
    descriptor = os.open(path / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise StateDirInUseError(
                f"another trunkline uses the state directory {path}; stop it, or name another "
                "with --state-dir"
            ) from None
        yield
    finally:
        os.close(descriptor)


async def _serve(options: UpOptions, settings: PlatformSettings) -> None:
    async with AsyncExitStack() as stack:
        sock = listen(options.host, options.port)
        stack.callback(sock.close)
        state_dir = options.state_dir.resolve()
        store = await open_sqlite(state_dir / "trunkline.db")
        stack.push_async_callback(store.aclose)
        node = NodeId(secrets.token_hex(8))
        metrics = Metrics()
        runtime = ProcessRuntime(settings.process)
        stack.push_async_callback(runtime.aclose)
        sessions = SessionDirectory(
            settings.sessions,
            store=store,
            runtime=runtime,
            sessions_dir=state_dir / "sessions",
            metrics=metrics,
            node=node,
        )
        upkeep = Upkeep(
            settings.sessions, store=store, runtime=runtime, sessions=sessions, node=node
        )
        # The state directory's lock says that nobody else uses its store.
        await upkeep.begin(is_alone=True)
        stack.push_async_callback(sessions.aclose)
        tasks = TaskOwner()
        stack.push_async_callback(tasks.aclose)
        tasks.spawn(upkeep.run(), name="upkeep")
        builds = VersionBuilds(state_dir / "versions", store=store, runtime=runtime, node=node)
        stack.push_async_callback(builds.aclose)
        issuer = DevelopmentIssuer.open(state_dir)
        verifier = TokenVerifier(settings.auth, {ISSUER: issuer.jwks()["keys"]})
        gateway = GatewayServices(
            settings=settings.gateway,
            projects=Projects(settings.gateway.projects),
            verifier=verifier,
            pseudonyms=Pseudonyms.open(state_dir),
            sessions=sessions,
            metrics=metrics,
        )
        stack.push_async_callback(gateway.tasks.aclose)
        control = ControlServices(
            projects=settings.gateway.projects,
            store=store,
            sessions=sessions,
            verifier=verifier,
            builds=builds,
        )
        uploads = Uploads(
            store=store, builds=builds, node=node, max_versions=settings.control.max_versions
        )
        deletions = Deletions(store=store, sessions=sessions, builds=builds)
        health = Health(store)
        app = build_app(
            [
                *Invocations(gateway).routes(),
                *Responses(gateway, store=store, calls=control.calls).routes(),
                *Conversations(control).routes(),
                *Versions(control, uploads, deletions).routes(),
                *Agents(control, uploads, deletions).routes(),
                *Sessions(control).routes(),
                *Logs(control).routes(),
                *Files(control, max_file_bytes=settings.control.max_file_bytes).routes(),
            ],
            health=health,
            metrics=metrics,
            issuer=issuer,
        )
        sessions.endpoint = url = url_of(sock)
        await deletions.resume()
        await builds.resume()

        def drain() -> None:
            health.is_draining = True
            control.draining.set()

        def ready() -> None:
            _say_hello(url, options, state_dir)

        await Server(app, gateway, on_ready=ready, on_drain=drain).serve([sock])


def _say_hello(url: str, options: UpOptions, state_dir: Path) -> None:
    sys.stderr.write(
        f"trunkline keeps its state in {state_dir}\n"
        "isolation: each session is a process of its own with its own home; it runs as this user, "
        "with this machine's files and network. Run only agents you trust.\n"
    )
    if sys.stderr.isatty():
        sys.stderr.write(
            "next, in another shell: `trunkline deploy DIR`, then `trunkline connect NAME`\n"
        )
    if options.host not in _LOOPBACK:
        sys.stderr.write(
            f"warning: {options.host} is reachable from other machines, over plain HTTP, and "
            "tokens come from the development issuer\n"
        )
    sys.stdout.write(f"ready {url}\n")
    sys.stdout.flush()
