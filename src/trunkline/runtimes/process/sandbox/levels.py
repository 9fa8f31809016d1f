"""What this machine can protect, found out by trying it, and said in words."""

import asyncio
import os
import secrets
import signal
import sys
import tempfile
from dataclasses import dataclass, replace
from ipaddress import IPv4Address
from pathlib import Path

from trunkline.aio.tasks import TaskOwner
from trunkline.protocol.errors import TrunklineError
from trunkline.protocol.ids import AgentName, NodeId, ProjectName, SessionId, SessionKey, VersionId
from trunkline.runtimes.interface import InstanceSpec, Launch
from trunkline.runtimes.process.child import spawn_here
from trunkline.runtimes.process.sandbox import seccomp
from trunkline.runtimes.process.sandbox.accounts import Accounts
from trunkline.runtimes.process.sandbox.box import Box
from trunkline.runtimes.process.sandbox.cgroups import CONTROLLERS, find_cgroups
from trunkline.runtimes.process.sandbox.control import SandboxFailedError, reason_of
from trunkline.runtimes.process.sandbox.direct import Stacks, why_impossible
from trunkline.runtimes.process.sandbox.egress import EgressPolicy, Resolver
from trunkline.runtimes.process.sandbox.ground import Ground
from trunkline.runtimes.process.sandbox.policy import NetworkPolicy, SessionNetwork
from trunkline.runtimes.process.sandbox.spare import Launcher
from trunkline.runtimes.process.sandbox.watch import size_words
from trunkline.runtimes.process.settings import ProcessSettings, SandboxMode

_TRIAL_TIMEOUT_S = 20.0
_BOUNDED = {
    "memory": "its memory is",
    "cpu": "its share of the processors is",
    "pids": "the number of its processes is",
}


class SandboxUnavailableError(TrunklineError):
    """``sandbox: required`` holds, and this machine lacks something."""

    code = "sandbox_unavailable"


@dataclass(frozen=True, slots=True)
class Protection:
    """One thing a sandbox does, and whether it does."""

    name: str
    is_active: bool
    text: str
    """What it does; or why it doesn't."""


@dataclass(frozen=True, slots=True)
class Level:
    """What sandboxes on this machine are like."""

    ground: Ground | None
    """None: there is no sandbox."""
    protections: tuple[Protection, ...]
    suspends: Protection = Protection("suspend", False, "agents without a sandbox aren't frozen")
    """Whether idle agents can be frozen. It protects nothing, so nobody requires it."""
    interfaces: Protection = Protection("direct", False, "agents without a sandbox have none")
    """Whether agents can have an interface. It protects nothing, so nobody requires it."""

    @property
    def lacking(self) -> tuple[Protection, ...]:
        """What isn't protected."""
        return tuple(each for each in self.protections if not each.is_active)


def describe(level: Level) -> list[str]:
    """Say in a few lines what sandboxes here protect, and what they don't."""
    if level.ground is None:
        (why,) = {each.text for each in level.protections}
        return [
            f"isolation: NONE: {why}",
            "each agent runs as this user, with this machine's files and network. Run only agents "
            "you trust.",
        ]
    lines = ["isolation: each session's agent is in a sandbox"]
    lines += [f"  {each.name}: {each.text}" for each in level.protections if each.is_active]
    lines += [f"  {each.name}: NOT protected: {each.text}" for each in level.lacking]
    words = "" if level.suspends.is_active else "NOT possible: "
    return [*lines, f"  {level.suspends.name}: {words}{level.suspends.text}"]


async def find_level(settings: ProcessSettings, run_dir: Path, resolver: Resolver) -> Level:
    """Try what works on this machine, best first.

    Raises:
        SandboxUnavailableError: If every protection is required and one is lacking.
    """
    mode = SandboxMode(settings.sandbox)
    if mode is SandboxMode.OFF:
        return _nothing("TRUNKLINE_PROCESS_SANDBOX is off")
    level = await _best(settings, run_dir, resolver)
    if mode is SandboxMode.REQUIRED and level.lacking:
        reasons = "; ".join(f"{each.name}: {each.text}" for each in level.lacking)
        raise SandboxUnavailableError(
            f"TRUNKLINE_PROCESS_SANDBOX is required, and this machine lacks {reasons}"
        )
    return level


async def _best(settings: ProcessSettings, run_dir: Path, resolver: Resolver) -> Level:
    if sys.platform != "linux":
        return _nothing(f"sandboxes need Linux; this is {sys.platform}")
    if not seccomp.is_supported():
        return _nothing(f"there is no system call filter for {os.uname().machine}")
    grounds = [make_ground(settings, run_dir, resolver)]
    if grounds[0].accounts is not None:
        grounds.append(replace(grounds[0], accounts=None))
    reasons = []
    policy = NetworkPolicy(settings.network)
    for ground in grounds:
        why = await _try(ground, policy)
        if why is not None and policy is NetworkPolicy.DIRECT:
            await _insist(ground, why)
        if why is None:
            return Level(
                ground,
                tuple(_protections(ground, settings)),
                _suspends(ground),
                _gives_interfaces(policy),
            )
        reasons.append(why)
    return _nothing("; ".join(dict.fromkeys(reasons)))


async def _insist(ground: Ground, why: str) -> None:
    """Fail if it is only the interface that a sandbox here can't have.

    Agents that were promised one would not find out before they need it.
    """
    if await _try(ground, NetworkPolicy.NONE) is None:
        raise SandboxUnavailableError(f"TRUNKLINE_PROCESS_NETWORK is direct: {why}")


def make_ground(settings: ProcessSettings, run_dir: Path, resolver: Resolver) -> Ground:
    """Return what all sandboxes of a platform have in common, with a user for each if we can."""
    accounts = None
    if os.geteuid() == 0:
        accounts = Accounts(settings.state_dir, first=settings.uid_first, count=settings.uid_count)
    return Ground(
        run_dir=run_dir,
        accounts=accounts,
        cgroups=find_cgroups(),
        resolver=resolver,
        tmp_bytes=settings.tmp_max_bytes,
        pids=settings.pids_max,
        home_bytes=settings.home_max_bytes,
        resolvers=tuple(IPv4Address(address) for address in settings.direct_resolvers),
    )


def _nothing(why: str) -> Level:
    names = ("user", "files", "processes", "network", "kernel", "memory", "cpu", "pids", "disk")
    return Level(None, tuple(Protection(name, False, why) for name in names))


def _protections(ground: Ground, settings: ProcessSettings) -> list[Protection]:
    found = [
        Protection("user", True, f"each session is a user of its own, from {settings.uid_first} on")
        if ground.accounts is not None
        else Protection("user", False, "trunkline isn't root, so agents are the user it runs as"),
        Protection("files", True, "a read-only system, its version, its own /tmp and $HOME"),
        Protection("processes", True, "it sees and signals its own only"),
        _network_protection(NetworkPolicy(settings.network)),
        Protection("kernel", True, "no capabilities, no new privileges, fewer system calls"),
    ]
    for controller in CONTROLLERS:
        why = ground.cgroups.missing.get(controller)
        words = f"{_BOUNDED[controller]} bounded (control groups {ground.cgroups.version})"
        found.append(Protection(controller, why is None, why or words))
    found.append(
        Protection(
            "disk",
            True,
            "its $HOME is measured, and it is ended when that is over "
            f"{size_words(settings.home_max_bytes)}",
        )
    )
    return found


def _suspends(ground: Ground) -> Protection:
    found = ground.cgroups.freezer
    if isinstance(found, str):
        return Protection("suspend", False, found)
    text = f"idle agents that may be are frozen (control groups {found.version})"
    return Protection("suspend", True, text)


def _gives_interfaces(policy: NetworkPolicy) -> Protection:
    if policy is NetworkPolicy.DIRECT:
        return Protection("direct", True, "agents have an interface, whose packets are filtered")
    why = why_impossible()
    return Protection("direct", not why, why or "agents could have an interface, by setting")


def _network_protection(policy: NetworkPolicy) -> Protection:
    match policy:
        case NetworkPolicy.NONE:
            return Protection("network", True, "a network of its own, and no way out of it")
        case NetworkPolicy.OUTBOUND:
            return Protection(
                "network", True, "a network of its own, and a proxy to public addresses"
            )
        case NetworkPolicy.DIRECT:
            return Protection(
                "network",
                True,
                "a network of its own, and an interface to public addresses (slirp4netns)",
            )
        case NetworkPolicy.HOST:
            return Protection(
                "network",
                False,
                "TRUNKLINE_PROCESS_NETWORK is host: agents reach whatever this machine does, "
                "the platform and its neighbours included",
            )


async def _try(ground: Ground, policy: NetworkPolicy) -> str | None:
    """Run a program in a sandbox; return why that didn't work, or None."""
    tasks = TaskOwner()
    stacks = Stacks(spawn_here, tasks)
    ground = replace(ground, stacks=stacks)
    with tempfile.TemporaryDirectory(prefix="trunkline-trial-") as folder:
        home = Path(folder) / "home"
        home.mkdir(mode=0o700)
        spec = _trial(home, Path(folder))
        network = SessionNetwork(policy, EgressPolicy())
        box = Box(ground, spec, network, tasks=tasks, tell=lambda *_: None)
        try:
            launcher = Launcher(ground.run_dir, spec.node, spawn_here, tasks)
            try:
                await box.prepare(launcher, {})
                code = await _end_of(box, launcher, tasks)
            finally:
                launcher.child.signal_group(signal.SIGKILL)
                await launcher.ending
                launcher.remove()
        except (SandboxFailedError, OSError) as error:
            return reason_of(error)
        except TimeoutError:
            return f"a sandbox wasn't made in {_TRIAL_TIMEOUT_S:g} s"
        finally:
            await box.finish()
            await stacks.aclose()
            await tasks.aclose()
    return None if code == 0 else box.failure or f"a trial ended with {code}"


async def _end_of(box: Box, launcher: Launcher, tasks: TaskOwner) -> int:
    nowhere = os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC)
    try:
        async with asyncio.timeout(_TRIAL_TIMEOUT_S):
            entering = tasks.spawn(
                box.enter(nowhere, nowhere),
                name="sandbox:trial",
                is_awaited=True,
            )
            await asyncio.wait((entering, launcher.ending), return_when=asyncio.FIRST_COMPLETED)
            if entering.done():
                entering.result()
            return await asyncio.shield(launcher.ending)
    finally:
        os.close(nowhere)


def _trial(home: Path, working_dir: Path) -> InstanceSpec:
    return InstanceSpec(
        key=SessionKey(ProjectName("trial"), AgentName("trial"), SessionId("trial")),
        version=VersionId("1"),
        launch=Launch(
            command=(sys.executable, "-I", "-S", "-c", "pass"),
            working_dir=str(working_dir),
            environment={},
        ),
        home=home,
        environment={},
        node=NodeId(f"trial-{secrets.token_hex(4)}"),
        ready_timeout_s=_TRIAL_TIMEOUT_S,
        stop_timeout_s=1.0,
    )
