"""What all sandboxes of a platform have in common."""

from dataclasses import dataclass
from ipaddress import IPv4Address
from pathlib import Path

from trunkline.runtimes.process.sandbox.accounts import Accounts
from trunkline.runtimes.process.sandbox.cgroups import Cgroups
from trunkline.runtimes.process.sandbox.direct import Interface, Reach, Stacks
from trunkline.runtimes.process.sandbox.door import Doors
from trunkline.runtimes.process.sandbox.egress import Resolver
from trunkline.runtimes.process.sandbox.policy import NetworkPolicy, SessionNetwork
from trunkline.runtimes.process.sandbox.shape import Shape


@dataclass(frozen=True, slots=True, kw_only=True)
class Ground:
    """What all sandboxes of a platform have in common."""

    run_dir: Path
    accounts: Accounts | None
    """None: agents stay this user, in a user namespace."""
    cgroups: Cgroups
    resolver: Resolver
    tmp_bytes: int
    pids: int
    home_bytes: int
    stacks: Stacks | None = None
    """Where interfaces come from. None: there are none."""
    resolvers: tuple[IPv4Address, ...] = ()
    """Whom agents with an interface ask for names. Empty: whom the machine asks."""
    doors: Doors | None = None
    """The platform, as far as agents reach it. None: not at all."""

    def reach(self, network: SessionNetwork) -> Reach | None:
        """Return whom agents with a network reach by an interface; None: they have none."""
        if network.policy is not NetworkPolicy.DIRECT:
            return None
        return Reach(private=network.egress.private, resolvers=self.resolvers)

    def interface(self, shape: Shape, directory: Path) -> Interface:
        """Return an interface to be, for a sandbox of a shape with one.

        Raises:
            OSError: If there can't be one.
        """
        assert shape.reach is not None
        if self.stacks is None:
            raise OSError(0, "its interface: nobody here makes one")
        return self.stacks.take(shape.node, directory, shape.reach)
