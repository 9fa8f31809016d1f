"""Interfaces with NAT: the platform's side of what :mod:`.inside.stack` makes and carries.

Each session has a process of its own for that, with a user of its own. It is started by the same
process as agents are, is in the session's control groups, and ends with the session or the
platform, whichever is first.
"""

import asyncio
import contextlib
import json
import os
import shutil
import signal
import socket
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path
from typing import Any

import trunkline
from trunkline.aio.tasks import TaskOwner
from trunkline.aio.threads import in_thread
from trunkline.protocol.environment import NODE
from trunkline.protocol.ids import NodeId
from trunkline.runtimes.interface import ExitStatus
from trunkline.runtimes.process.child import Child, Spawn, Started, exit_status, start_child
from trunkline.runtimes.process.sandbox.accounts import Accounts
from trunkline.runtimes.process.sandbox.addresses import Network, machines_networks
from trunkline.runtimes.process.sandbox.inside.interface import DEVICE
from trunkline.runtimes.process.sandbox.packets import packet_filter, refused_networks

PROGRAM = "slirp4netns"
#: The agent's side of its interface. Of a range that is nobody's, so it hides no private network.
NETWORK = IPv4Network("198.18.0.0/24")
_GATEWAY, _NAMES, _AGENT = (NETWORK[number] for number in (2, 3, 100))
#: A packet costs about the same whatever its size, and TCP ends at the other side of the interface.
_MTU = 65520
_LOG = "interface.log"
_MAX_SAID_BYTES = 4096
_ENDED_WELL = ExitStatus(code=0)
_STACK = (
    "import sys; sys.path.insert(0, sys.argv.pop(1)); "
    "from trunkline.runtimes.process.sandbox.inside.stack import main; main()"
)


def why_impossible() -> str:
    """Say why no session can have an interface here, as far as can be seen; or nothing."""
    if shutil.which(PROGRAM) is None:
        return f"{PROGRAM} isn't installed (Debian: apt-get install {PROGRAM})"
    if not os.path.exists(DEVICE):
        return f"this machine has no {DEVICE} (modprobe tun; in a container: --device {DEVICE})"
    if not os.access(DEVICE, os.R_OK | os.W_OK):
        return f"this user may not open {DEVICE}, which is for all on most machines (chmod 666)"
    return ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reach:
    """Whom an interface leads to."""

    private: tuple[Network, ...]
    """Networks that may be reached although they aren't public."""
    resolvers: tuple[IPv4Address, ...]
    """Who is asked for names. Empty: the gateway, which asks whom this machine asks."""

    @property
    def name_servers(self) -> Sequence[IPv4Address]:
        """The name servers that the agent is told of."""
        return self.resolvers or (_NAMES,)

    def interface(self) -> dict[str, Any]:
        """Return how the session's first process sets the interface up.

        Raises:
            OSError: If it can't be told which addresses are this machine's.
        """
        refused = refused_networks(self.private, machines_networks())
        names_at = None if self.resolvers else _NAMES
        return {
            "filter": packet_filter(refused, names_at=names_at).hex(),
            "refused": [str(network) for network in refused],
            "address": str(_AGENT),
            "gateway": str(_GATEWAY),
            "names_at": None if names_at is None else str(names_at),
            "mtu": _MTU,
        }

    def order(self, uid: int | None) -> bytes:
        """Return what ``stack`` is to make.

        Args:
            uid: Whom the process that carries packets becomes. None: it stays who we are.

        Raises:
            OSError: If the program isn't here.
        """
        program = shutil.which(PROGRAM)
        if program is None:
            raise OSError(0, why_impossible())
        order = {
            "uid": uid,
            "program": os.path.realpath(program),
            "network": str(NETWORK),
            "mtu": _MTU,
            "answers_names": not self.resolvers,
        }
        return json.dumps(order).encode()


class _Stack:
    """One process that will make and carry one session's interface."""

    def __init__(self, node: NodeId, spawn: Spawn, tasks: TaskOwner) -> None:
        """Start it. In the event loop's thread only, as `start_child` says.

        Raises:
            OSError: If it can't be started.
        """
        self.orders, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        nowhere = os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC)
        package = str(Path(trunkline.__file__).parent.parent)
        try:
            self.child = start_child(
                (sys.executable, "-I", "-S", "-c", _STACK, package),
                cwd="/",
                # By it, it is found if the platform is killed.
                env={NODE: node},
                stdout=theirs.fileno(),
                stderr=nowhere,
                spawn=spawn,
            )
        except OSError:
            self.orders.close()
            raise
        finally:
            theirs.close()
            os.close(nowhere)
        self.ending = tasks.spawn(self.child.wait(), name="sandbox:stack", is_awaited=True)


class Stacks:
    """Starts them; once one was needed, one is kept ready for the next."""

    def __init__(self, spawn: Spawn, tasks: TaskOwner) -> None:
        self._spawn = spawn
        self._tasks = tasks
        self._spare: _Stack | None = None
        self._is_closed = False

    def take(self, node: NodeId, directory: Path, reach: Reach) -> "Interface":
        """Return an interface to be.

        Args:
            node: Which platform process it belongs to.
            directory: Where it may leave what it complains of.
            reach: Whom it is to lead to.

        Raises:
            OSError: If there can't be one.
        """
        if why := why_impossible():
            raise OSError(0, f"its interface: {why}")
        taken, self._spare = self._spare, None
        if taken is not None and taken.ending.done():
            taken.orders.close()
            taken = None
        if taken is None:
            taken = _Stack(node, self._spawn, self._tasks)
        asyncio.get_running_loop().call_soon(self._refill, node)
        return Interface(
            taken.child, taken.ending, directory, self._tasks, orders=taken.orders, reach=reach
        )

    def adopt(self, started: Started, directory: Path) -> "Interface":
        """Return an interface that another process of the platform has had made."""
        child = Child(started)
        ending = self._tasks.spawn(child.wait(), name="sandbox:stack", is_awaited=True)
        return Interface(child, ending, directory, self._tasks)

    def _refill(self, node: NodeId) -> None:
        if self._spare is None and not self._is_closed:
            # Whoever comes next finds out what is wrong.
            with contextlib.suppress(OSError):
                self._spare = _Stack(node, self._spawn, self._tasks)

    async def aclose(self) -> None:
        """End the one that nobody needed. Twice is fine."""
        self._is_closed = True
        spare, self._spare = self._spare, None
        if spare is not None:
            # It ends when nobody can ask it any more.
            spare.orders.close()
            await spare.ending


class Interface:
    """One session's interface, and the process that carries its packets."""

    def __init__(
        self,
        child: Child,
        ending: "asyncio.Task[int]",
        directory: Path,
        tasks: TaskOwner,
        *,
        orders: socket.socket | None = None,
        reach: Reach | None = None,
    ) -> None:
        self._child = child
        self._log = directory / _LOG
        self.tell: Callable[[str, str], None] = lambda *_: None
        """Takes events for the session's log, once it is a session's."""
        self._reach = reach
        #: What was this machine's when it was made; what is refused can't be changed later.
        self._own = machines_networks() if reach is not None else []
        self._orders = orders
        self._is_wanted = True
        self._ending = tasks.spawn(self._live(ending), name="sandbox:interface", is_awaited=True)

    @property
    def pid(self) -> int:
        """The process that carries its packets."""
        return self._child.pid

    @property
    def is_good(self) -> bool:
        """Whether a session may still get it.

        It has to be there, and to refuse all addresses that are this machine's by now.
        """
        return not self._ending.done() and machines_networks() == self._own

    async def make(self, accounts: Accounts | None, cgroups: Sequence[int]) -> int:
        """Have it made; return the line that the session's first process is to have.

        It is the caller's to close.

        Args:
            accounts: Where its user comes from: not the session's, whose process it would be.
                None: it has ours.
            cgroups: What its process joins, as `Group.open_to_join` returns it.

        Raises:
            OSError: If that can't be.
        """
        assert self._orders is not None, "it is made once"
        assert self._reach is not None
        uid = None if accounts is None else await in_thread(accounts.next)
        data = self._reach.order(uid)
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
        log = os.open(self._log, flags, 0o600)
        orders, self._orders = self._orders, None
        try:
            socket.send_fds(orders, [data], (theirs.fileno(), log, *cgroups))
        except OSError:
            ours.close()
            raise
        finally:
            orders.close()
            theirs.close()
            os.close(log)
        return ours.detach()

    async def _live(self, ending: "asyncio.Task[int]") -> None:
        status = exit_status(await ending)
        # That it ends well is that the session has ended.
        if self._is_wanted and status != _ENDED_WELL:
            said = await in_thread(self._last_words)
            self.tell(
                "InterfaceLost",
                f"{PROGRAM}, which carried its packets, ended with {status}{said}: the agent "
                "reaches nothing any more until it is started again; it is still reached",
            )

    def _last_words(self) -> str:
        with contextlib.suppress(OSError), self._log.open("rb") as file:
            file.seek(max(0, self._log.stat().st_size - _MAX_SAID_BYTES))
            lines = file.read().decode(errors="replace").strip().splitlines()
            return f" ({lines[-1]})" if lines else ""
        return ""

    # Changing the process of the platform that looks after it

    def hold(self) -> None:
        """Notice its end, and do nothing about it for now."""
        self._child.hold()

    def go_on(self) -> None:
        """Do again what is due at its end."""
        self._child.go_on()

    def let_go(self) -> None:
        """Touch nothing of it any more: another process looks after it."""
        self._is_wanted = False
        self._child.let_go()
        self._ending.cancel()

    def close(self) -> None:
        """Have it end. Twice is fine."""
        self._is_wanted = False
        if self._orders is not None:
            self._orders.close()
            self._orders = None
        self._child.signal_group(signal.SIGKILL)

    async def aclose(self) -> None:
        """End it, and return when that is so. Twice is fine."""
        self.close()
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.shield(self._ending)
