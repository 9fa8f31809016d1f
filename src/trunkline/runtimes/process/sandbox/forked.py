"""An agent that is forked from a zygote, to whoever waits for it and signals it."""

import asyncio
import contextlib
import os
import secrets
import select
import signal
import socket
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

from trunkline.aio.tasks import TaskOwner
from trunkline.aio.threads import in_thread
from trunkline.runtimes.process.sandbox.cgroups import Group
from trunkline.runtimes.process.sandbox.control import Control
from trunkline.runtimes.process.sandbox.direct import Interface
from trunkline.runtimes.process.sandbox.spare import NAME_BYTES, remove_directory


class ForkedChild:
    """An agent's process and its group; neither is a child of the platform's or its keeper's.

    The nursery tells how it ended when all of its sandbox has. What :class:`~.child.Child` says
    of its methods holds here, too.
    """

    def __init__(self, control: Control) -> None:
        self._control = control
        self._is_ours = True
        self._is_to_end = False
        self._pid = 0
        self._may_end = asyncio.Event()
        self._may_end.set()
        control.on_nest = self._on_nest

    @property
    def pid(self) -> int:
        """The agent's number on this machine; 0 before it has one."""
        if not self._pid and self._control.agent_pidfd >= 0:
            with open(f"/proc/self/fdinfo/{self._control.agent_pidfd}", encoding="utf-8") as file:
                facts = dict(line.split(":", 1) for line in file if ":" in line)
            # Minus one once it has ended.
            self._pid = max(int(facts.get("Pid", 0)), 0)
        return self._pid

    def hold(self) -> None:
        self._may_end.clear()

    def go_on(self) -> None:
        self._may_end.set()

    def let_go(self) -> None:
        self._is_ours = False

    def signal_group(self, number: signal.Signals) -> None:
        if not self._is_ours or self._control.ended.done():
            return
        if number == signal.SIGKILL:
            # The first process in there: with it, all of them end.
            self._is_to_end = True
            self._on_nest()
        elif self._is_running and (pid := self.pid):
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(pid, number)

    async def wait(self) -> int:
        try:
            code = await asyncio.shield(self._control.ended)
            await self._may_end.wait()
        finally:
            self.signal_group(signal.SIGKILL)
        return code

    @property
    def _is_running(self) -> bool:
        if self._control.agent_pidfd < 0:
            return False
        # A pidfd can be read once its process has ended.
        poll = select.poll()
        poll.register(self._control.agent_pidfd, select.POLLIN)
        return not poll.poll(0)

    def _on_nest(self) -> None:
        if self._is_to_end and self._control.nest_pidfd >= 0:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                signal.pidfd_send_signal(self._control.nest_pidfd, signal.SIGKILL)


class Fork:
    """One agent to be forked, with its directory and the platform's end of its socket."""

    def __init__(
        self,
        run_dir: Path,
        deliver: Callable[[Sequence[int]], Awaitable[None]],
        tasks: TaskOwner,
        nursery_pid: int,
    ) -> None:
        """Prepare; nothing is asked of the nursery before there is a plan.

        Args:
            run_dir: Where its directory is made.
            deliver: Gives the nursery a session's files: its plan, its control socket, and
                others.
            tasks: Owns what waits for its end.
            nursery_pid: The nursery's process.
        """
        self.nursery_pid = nursery_pid
        self.group: Group | None = None
        self.interface: Interface | None = None
        self.uid: int | None = None
        self.is_made = False
        """Whether its sandbox is there, with an agent in it that waits to be told whose it is."""
        self.directory = run_dir / secrets.token_hex(NAME_BYTES)
        self.directory.mkdir(mode=0o700)
        self._deliver = deliver
        ours, self._theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.control = Control.over(ours, self._ask)
        self.child = ForkedChild(self.control)
        self.ending = tasks.spawn(self.child.wait(), name="sandbox:forked", is_awaited=True)

    async def _ask(self, files: Sequence[int]) -> None:
        plan, *others = files
        try:
            await self._deliver((plan, self._theirs.fileno(), *others))
        finally:
            os.close(plan)
            self._theirs.close()

    async def give_up(self) -> None:
        """End one that is made and was nobody's, and remove what is left."""
        self.child.signal_group(signal.SIGKILL)
        # The nursery ends it as well, should its first process not be known yet.
        self.control.close()
        await self.ending
        if self.interface is not None:
            await self.interface.aclose()
        group, self.group = self.group, None
        if group is not None:
            await in_thread(group.remove)
        self.remove()

    def remove(self) -> None:
        """Remove its directory, and end its socket if nobody has it."""
        self._theirs.close()
        remove_directory(self.directory)
