"""One agent's sandbox, from before it is made until nothing of it is left."""

import asyncio
import contextlib
import json
import os
import socket
import stat
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from pathlib import Path

from trunkline.aio.tasks import TaskOwner
from trunkline.aio.threads import in_thread
from trunkline.protocol.environment import (
    AGENT_SOCKET,
    DEFAULT_PORT,
    HOME,
    PORT,
    PROJECT_ENDPOINT,
)
from trunkline.runtimes.interface import (
    Address,
    Doing,
    FreezerFailedError,
    InstanceSpec,
    Passed,
    ResourceUse,
)
from trunkline.runtimes.process.child import Started
from trunkline.runtimes.process.sandbox import view as views
from trunkline.runtimes.process.sandbox.bridge import PortBridge
from trunkline.runtimes.process.sandbox.cgroups import Group, Limits, Usage
from trunkline.runtimes.process.sandbox.control import Control
from trunkline.runtimes.process.sandbox.direct import Interface
from trunkline.runtimes.process.sandbox.door import Door, door_port
from trunkline.runtimes.process.sandbox.egress import PROXY_PORT, EgressProxy
from trunkline.runtimes.process.sandbox.forked import Fork, ForkedChild
from trunkline.runtimes.process.sandbox.freezer import Freezer
from trunkline.runtimes.process.sandbox.ground import Ground
from trunkline.runtimes.process.sandbox.inside.plan import Plan
from trunkline.runtimes.process.sandbox.policy import NetworkPolicy, SessionNetwork
from trunkline.runtimes.process.sandbox.shape import SOCKETS, Shape, binds_of
from trunkline.runtimes.process.sandbox.spare import Launcher, remove_directory

_AGENT_SOCKET = "agent.sock"
_PROXY_VARIABLES = ("HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy")
_NO_PROXY_VARIABLES = ("NO_PROXY", "no_proxy")


class Box:
    """The sandbox of one agent.

    `prepare` it with a launcher, `enter`; when the launcher has ended, `finish`.
    """

    def __init__(
        self,
        ground: Ground,
        spec: InstanceSpec,
        network: SessionNetwork,
        *,
        tasks: TaskOwner,
        tell: Callable[[str, str], None],
    ) -> None:
        """Prepare.

        Args:
            ground: What all sandboxes have in common.
            spec: The agent.
            network: What of a network it has.
            tasks: Owns what runs for it.
            tell: Takes events for the session's log.
        """
        self.ground = ground
        self._spec = spec
        self._network = network
        self._tasks = tasks
        self.limits = Limits(
            cpu=spec.cpu,
            memory_bytes=spec.memory_bytes,
            pids=ground.pids,
            home_bytes=ground.home_bytes,
        )
        self._is_ours = True
        self._launcher: Launcher | Fork | None = None
        self.nursery_pid: int | None = None
        """The nursery's process, if it was forked there."""
        self.interface_pid: int | None = None
        """The process that carries its packets, if it was taken over with one."""
        self._directory = ground.run_dir / "none"
        self._group: Group | None = None
        self._plan: Plan | None = None
        self._environment: Mapping[str, str] = {}
        self._control: Control | None = None
        self._interface: Interface | None = None
        self._tell = tell
        self._bridge: PortBridge | None = None
        self._proxy = EgressProxy(
            network.egress,
            ground.resolver,
            tasks=tasks,
            tell=lambda what: tell("EgressRefused", what),
        )
        self._door: Door | None = None
        if ground.doors is not None and self._has_own_network:
            self._door = Door(ground.doors, spec.key, lambda what: tell("PlatformRefused", what))

    @property
    def _has_own_network(self) -> bool:
        return self._network.policy is not NetworkPolicy.HOST

    @property
    def _door_port(self) -> int:
        return door_port(self.ground.doors) if self._has_own_network else 0

    @property
    def _reached(self) -> Path:
        return self._directory / _AGENT_SOCKET

    @property
    def environment(self) -> Mapping[str, str]:
        """The variables that only a sandbox has; a definition's own win over the proxies'."""
        if self._network.policy is not NetworkPolicy.OUTBOUND:
            return {}
        proxy = f"http://127.0.0.1:{PROXY_PORT}"
        local = "localhost,127.0.0.1,::1"
        return dict.fromkeys(_PROXY_VARIABLES, proxy) | dict.fromkeys(_NO_PROXY_VARIABLES, local)

    @property
    def places(self) -> Mapping[str, str]:
        """The variables that say where things are; nothing wins over these."""
        places = {
            PORT: str(DEFAULT_PORT),
            AGENT_SOCKET: f"{views.SOCKETS}/{_AGENT_SOCKET}",
            HOME: views.HOME,
        }
        if self._door_port:
            # Wherever the platform listens, and with TLS or without: this is where the door is.
            here = f"http://127.0.0.1:{self._door_port}"
            places[PROJECT_ENDPOINT] = f"{here}/api/projects/{self._spec.key.project}"
        return places

    @property
    def shape(self) -> Shape:
        """What it has in common with others of its version's."""
        return Shape(
            launch=self._spec.launch,
            limits=self.limits,
            may_freeze=self._spec.may_freeze,
            node=self._spec.node,
            tmp_bytes=self.ground.tmp_bytes,
            own_network=self._has_own_network,
            proxy_port=PROXY_PORT if self._network.policy is NetworkPolicy.OUTBOUND else 0,
            door_port=self._door_port,
            reach=self.ground.reach(self._network),
        )

    @property
    def is_new(self) -> bool:
        """Whether its session's home is nobody's yet."""
        accounts = self.ground.accounts
        return accounts is None or accounts.owner(self._spec.home) is None

    @property
    def folders(self) -> tuple[Path, ...]:
        """Where the agent can write on disk."""
        return self._spec.home, self.listens_in

    @property
    def failure(self) -> str | None:
        """Why the agent's program couldn't be run, if it couldn't."""
        return self._control.failure if self._control is not None else None

    async def prepare(self, launcher: Launcher | Fork, environment: Mapping[str, str]) -> None:
        """Make what has to be there before.

        Args:
            launcher: What is to make the sandbox. It is the box's from here on.
            environment: All of the agent's.

        Raises:
            OSError: If something can't be made.
        """
        self._launcher = launcher
        if isinstance(launcher, Fork):
            self.nursery_pid = launcher.nursery_pid
        self._control = launcher.control
        self._directory = launcher.directory
        self._environment = environment
        if isinstance(launcher, Fork) and launcher.is_made:
            self._group, launcher.group = launcher.group, None
            self._interface, launcher.interface = launcher.interface, None
            if self._interface is not None:
                self._interface.tell = self._tell
            if (accounts := self.ground.accounts) is not None:
                assert launcher.uid is not None
                await in_thread(accounts.give, self._spec.home, launcher.uid)
            return
        shape = self.shape
        if shape.reach is not None:
            self._interface = self.ground.interface(shape, self._directory)
            self._interface.tell = self._tell
        self._plan = await in_thread(self._make, shape)
        self._group = shape.make_group(self.ground.cgroups, self._directory)

    def _make(self, shape: Shape) -> Plan:
        uid = shape.make_folders(self._directory, self._spec.home, self.ground.accounts)
        return shape.plan(self._directory, uid)

    async def enter(self, stdout: int, stderr: int) -> None:
        """Have the launcher make the sandbox and run the agent in it.

        Args:
            stdout: What the agent prints to. It may be closed when this returns.
            stderr: The same for what it complains.

        Raises:
            SandboxFailedError: If that can't be done.
            OSError: If the agent's way out or in can't be.
        """
        assert self._control is not None
        if self._plan is not None:
            await self._send_plan(self._plan, stdout, stderr)
        if isinstance(self._launcher, Fork):
            named = {
                "command": self._spec.launch.command,
                "environment": dict(self._environment),
                "working_dir": self._spec.launch.working_dir,
            }
            binds = binds_of(self._directory, self._spec.home)
            self._control.be(binds, json.dumps(named).encode(), (stdout, stderr))
        if self._has_own_network:
            self._bridge = PortBridge(self._control, DEFAULT_PORT, self._tasks)
            await self._bridge.open(str(self._directory / "port.sock"))
        waiting = [self._control.wait_started()]
        if self._network.policy is NetworkPolicy.OUTBOUND:
            waiting.append(self._serve(self._proxy.serve, self._control.way_out))
        if self._door is not None:
            # Whoever comes earlier waits in the kernel.
            serving = self._serve(self._door.serve, self._control.door)
            self._tasks.spawn(serving, name="sandbox:door")
        await asyncio.gather(*waiting)

    async def _send_plan(self, plan: Plan, *outputs: int) -> None:
        assert self._control is not None
        assert self._group is not None
        if not isinstance(self._launcher, Fork):
            plan = replace(
                plan,
                environment=dict(self._environment),
                binds=(*plan.binds, *binds_of(self._directory, self._spec.home)),
                places=(),
            )
        descriptors = self._group.open_to_join()
        others = () if isinstance(self._launcher, Fork) else outputs
        try:
            if self._interface is not None:
                descriptors.append(await self._interface.make(self.ground.accounts, descriptors))
            await self._control.send_plan(plan, (*others, *descriptors))
        finally:
            for descriptor in descriptors:
                os.close(descriptor)

    async def _serve(
        self,
        serve: Callable[[socket.socket], Awaitable[None]],
        coming: Callable[[], Awaitable[socket.socket]],
    ) -> None:
        # If it never comes, the agent isn't started either, and that is told.
        with contextlib.suppress(asyncio.CancelledError):
            await serve(await coming())

    def candidate(self) -> Address:
        """Return where the agent may be listening.

        Its own folder may hold anything, such as a link to another session's socket. What is
        connected to is another name of the socket itself, in a folder of ours.
        """
        if not self._reached.exists():
            with contextlib.suppress(OSError):
                os.link(self.listens_in / _AGENT_SOCKET, self._reached, follow_symlinks=False)
                if not stat.S_ISSOCK(os.lstat(self._reached).st_mode):
                    self._reached.unlink()
        if self._reached.is_socket():
            return Address(path=str(self._reached))
        if self._bridge is not None:
            return Address(path=str(self._directory / "port.sock"))
        return Address(port=DEFAULT_PORT)

    @property
    def listens_in(self) -> Path:
        """The folder in which the agent's own socket is to appear."""
        return self._directory / SOCKETS

    def is_own_socket(self, address: Address) -> bool:
        """Tell whether an address is the agent's own socket, and not a way to its port."""
        return address.path == str(self._reached)

    def describe(self, address: Address) -> str:
        """Say where the agent listens, as its author knows the place."""
        if self.is_own_socket(address):
            return "its Unix socket"
        return f"port {DEFAULT_PORT}"

    # Changing the process of the platform that looks after it

    def pass_on(self, address: Address) -> Passed:
        """Return what another process of the platform needs to take it over.

        What the agent has open to the outside ends with this process. What it has asked the
        platform is answered by this one.
        """
        assert self._control is not None
        assert self._group is not None
        self._control.hold()
        if self._interface is not None:
            self._interface.hold()
        # Of one that was forked, the process and the first of its sandbox are known by these.
        processes = [self._control.agent_pidfd, self._control.nest_pidfd]
        files = [self._control.file, self._proxy.file]
        files += [descriptor if descriptor >= 0 else None for descriptor in processes]
        door = None if self._door is None else self._door.file
        data = {
            "name": self._directory.name,
            "folders": [str(folder) for folder in self._group.folders],
            "version": self._group.version,
            "freezer": None if self._group.freezer is None else self._group.freezer.describe(),
            "files": [file is not None for file in files],
            "nursery": self.nursery_pid,
            "interface": None if self._interface is None else self._interface.pid,
            "is_bridged": self._bridge is not None,
            "path": address.path,
            "port": address.port,
            "has_door": door is not None,
        }
        return Passed(data, tuple(file for file in (*files, door) if file is not None))

    def take_back(self) -> None:
        """Go on as if `pass_on` had not been called."""
        if self._control is not None:
            self._control.go_on()
        if self._interface is not None:
            self._interface.go_on()

    def let_go(self) -> None:
        """Touch nothing of it any more."""
        self._is_ours = False
        self._group = None
        if self._control is not None:
            self._control.close()
        if self._bridge is not None:
            self._bridge.stop_listening()
        if self._interface is not None:
            self._interface.let_go()
        self._proxy.close()
        if self._door is not None:
            self._door.let_go()

    def take_over(self, passed: Passed) -> Address:
        """Look after a sandbox that another process of the platform made; return its address."""
        data, files = passed.data, list(passed.files)
        self._directory = self.ground.run_dir / data["name"]
        # One that wasn't passed on comes from a platform that didn't know how to freeze.
        freezer = data.get("freezer")
        self._group = Group(
            [Path(folder) for folder in data["folders"]],
            data["version"],
            None if freezer is None else Freezer.from_description(freezer),
        )
        self.nursery_pid = data.get("nursery")
        self.interface_pid = data.get("interface")
        has_control, has_way_out, *are_known = data["files"]
        if has_control:
            connection = socket.socket(fileno=files.pop(0))
            self._control = Control.take_over(self._directory / "control.sock", connection)
        way_out = socket.socket(fileno=files.pop(0)) if has_way_out else None
        if self._control is not None and are_known and all(are_known):
            self._control.agent_pidfd, self._control.nest_pidfd = files.pop(0), files.pop(0)
        if way_out is not None:
            way_out.setblocking(False)
            self._tasks.spawn(self._proxy.serve(way_out), name="sandbox:way-out")
        if data.get("has_door"):
            self._take_over_door(socket.socket(fileno=files.pop(0)))
        if data["is_bridged"] and self._control is not None:
            self._bridge = PortBridge(self._control, DEFAULT_PORT, self._tasks)
            self._tasks.spawn(self._reopen(self._bridge), name="sandbox:bridge")
        return Address(path=data["path"], port=data["port"])

    def adopt_interface(self, started: Started) -> None:
        """Look after the process that carries the packets of a sandbox that was taken over."""
        if self.ground.stacks is not None:
            self._interface = self.ground.stacks.adopt(started, self._directory)
            self._interface.tell = self._tell

    def forked_child(self) -> ForkedChild:
        """Return the process of one that was forked."""
        assert self._control is not None
        return ForkedChild(self._control)

    def _take_over_door(self, sock: socket.socket) -> None:
        sock.setblocking(False)
        if self._door is None:
            sock.close()
        else:
            self._tasks.spawn(self._door.serve(sock), name="sandbox:door")

    async def _reopen(self, bridge: PortBridge) -> None:
        (self._directory / "port.sock").unlink(missing_ok=True)
        await bridge.open(str(self._directory / "port.sock"))

    # Being frozen

    @property
    def why_not_frozen(self) -> str:
        """Why it can't be frozen; nothing if it can."""
        if self._group is not None and self._group.freezer is not None:
            return ""
        found = self.ground.cgroups.freezer
        return found if isinstance(found, str) else "it wasn't started to be frozen"

    def freeze(self) -> None:
        """Begin to stop all of it where it is.

        Raises:
            FreezerFailedError: If that can't be done.
        """
        if self._group is None or self._group.freezer is None:
            raise FreezerFailedError(self.why_not_frozen)
        try:
            self._group.freezer.freeze()
        except OSError as error:
            raise FreezerFailedError(error.strerror or str(error)) from error

    def thaw(self) -> None:
        """Let it go on, if it is frozen."""
        if self._group is not None and self._group.freezer is not None:
            self._group.freezer.thaw()

    @property
    def is_frozen(self) -> bool:
        """Whether nothing of it runs."""
        return bool(self._group and self._group.freezer and self._group.freezer.is_frozen)

    def doing(self) -> Doing:
        """Return what it does of its own accord."""
        freezer = None if self._group is None else self._group.freezer
        cpu_s = None if freezer is None else freezer.cpu_s()
        return Doing(cpu_s, self._proxy.open, self._proxy.made)

    def usage(self) -> Usage:
        """Return what was counted of its limits so far."""
        return self._group.usage() if self._group is not None else Usage()

    def resource_use(self) -> ResourceUse:
        """Return what it uses, as far as the kernel counts it."""
        return self._group.resource_use() if self._group is not None else ResourceUse()

    def is_running(self) -> bool:
        """Return whether something of it runs, or could if there were a processor for it."""
        return self._group is not None and self._group.is_running()

    @property
    def gives_way(self) -> bool:
        """Whether it gets a processor only when nobody else wants it."""
        return self._group is not None and self._group.gives_way

    def give_way(self, *, to_others: bool) -> bool:
        """As :meth:`Group.give_way`."""
        return self._group is not None and self._group.give_way(to_others=to_others)

    def bound_cpu(self, cpu: float) -> None:
        """As :meth:`Group.bound_cpu`."""
        if self._group is not None:
            self._group.bound_cpu(cpu)

    async def finish(self) -> Usage:
        """Remove what is left once its processes have ended; return what it used. Twice is fine."""
        self.close()
        if self._interface is not None:
            await self._interface.aclose()
        used = self.usage()
        group, self._group = self._group, None
        if group is not None:
            await in_thread(group.remove)
        if self._is_ours and self._directory.name != "none":
            remove_directory(self._directory)
        return used

    def close(self) -> None:
        """End all connections of it."""
        if self._control is not None:
            self._control.close()
        if self._interface is not None:
            self._interface.close()
        if self._bridge is not None:
            self._bridge.close()
        self._proxy.close()
        if self._door is not None:
            self._door.close()
