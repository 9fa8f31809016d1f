"""What all sandboxes of a version have in common: one can be made before it is anybody's."""

import os
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from trunkline.protocol.ids import NodeId
from trunkline.runtimes.interface import Launch
from trunkline.runtimes.process.sandbox import view as views
from trunkline.runtimes.process.sandbox.accounts import Accounts
from trunkline.runtimes.process.sandbox.cgroups import Cgroups, Group, Limits
from trunkline.runtimes.process.sandbox.direct import Reach
from trunkline.runtimes.process.sandbox.inside.plan import Plan
from trunkline.runtimes.process.sandbox.seccomp import program
from trunkline.runtimes.process.sandbox.spare import VIEW_ROOT

#: In a sandbox's directory: where the agent's sockets are.
SOCKETS = "in"


@cache
def _filter() -> str:
    return program().hex()


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """All that a sandbox is made by, but for whose it is."""

    launch: Launch
    limits: Limits
    may_freeze: bool
    node: NodeId
    tmp_bytes: int
    own_network: bool
    proxy_port: int
    """Where the way out listens in its network; 0: there is none."""
    door_port: int
    """Where the door to the platform is in its network; 0: there is none."""
    reach: Reach | None
    """Whom it reaches by an interface; None: it has none."""

    def make_folders(
        self, directory: Path, home: Path | None, accounts: Accounts | None
    ) -> int | None:
        """Make what is in a sandbox's directory; return whom its agent runs as, if not as us.

        Args:
            directory: The sandbox's own.
            home: The session's; None: it isn't anybody's yet.
            accounts: Where users come from.

        Raises:
            OSError: If it can't be made.
        """
        sockets = directory / SOCKETS
        sockets.mkdir(mode=0o700)
        if accounts is None:
            return None
        for folder in views.readable_folders(self.launch.command[0], self.launch.working_dir):
            views.make_readable(folder)
        uid = accounts.next() if home is None else accounts.own(home)
        os.chown(sockets, uid, uid)
        return uid

    def make_group(self, cgroups: Cgroups, directory: Path) -> Group:
        """Make a sandbox's control groups.

        Raises:
            OSError: If the kernel refuses.
        """
        return cgroups.make(
            f"trunkline-{self.node}-{directory.name}", self.limits, may_freeze=self.may_freeze
        )

    def plan(self, directory: Path, uid: int | None) -> Plan:
        """Return what is to be made, with places for what is the session's alone.

        Raises:
            OSError: If what is to be seen can't be read.
        """
        seen = views.view_of(
            self.launch.command[0],
            self.launch.working_dir,
            uid=os.geteuid() if uid is None else uid,
            own_network=self.own_network,
        )
        interface = None
        if self.reach is not None:
            seen.files.append(views.name_servers(self.reach.name_servers))
            interface = self.reach.interface()
        return Plan(
            command=self.launch.command,
            environment={},
            working_dir=self.launch.working_dir,
            root=str(directory / VIEW_ROOT),
            binds=tuple(seen.binds),
            links=tuple(seen.links),
            files=tuple(seen.files),
            own_files=tuple(seen.own_files),
            tmp_bytes=self.tmp_bytes,
            uid=uid,
            own_network=self.own_network,
            proxy_port=self.proxy_port,
            filter=_filter(),
            door_port=self.door_port,
            places=(views.HOME, views.SOCKETS),
            interface=interface,
        )


def binds_of(directory: Path, home: Path) -> tuple[tuple[str, str, str], ...]:
    """Return what of the machine is one session's alone, as a plan's binds."""
    return (str(home), views.HOME, "rw"), (str(directory / SOCKETS), views.SOCKETS, "rw")
