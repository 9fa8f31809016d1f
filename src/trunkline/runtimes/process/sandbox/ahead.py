"""Sandboxes that are made before anybody needs them, each with an agent forked into it.

Such an agent has its user, its limits, its namespaces and its filter, and was looked at. It doesn't
know whose it is, has no home, and runs nothing of its author's until it is told. It becomes one
session's, or nobody's; what was one's is never another's.
"""

import asyncio
import contextlib
import os
from collections.abc import Callable
from dataclasses import replace

from trunkline.aio.tasks import TaskOwner
from trunkline.aio.threads import in_thread
from trunkline.runtimes.process.sandbox.control import SandboxFailedError
from trunkline.runtimes.process.sandbox.forked import Fork
from trunkline.runtimes.process.sandbox.ground import Ground
from trunkline.runtimes.process.sandbox.inside.plan import Plan
from trunkline.runtimes.process.sandbox.shape import Shape

#: A caller is being answered when another one is to be made; that is to come first.
_DELAY_S = 0.05
_BORN_TIMEOUT_S = 20.0


class Ahead:
    """Those of one zygote's. `aclose` it."""

    def __init__(
        self, ground: Ground, fork: Callable[[], Fork], tasks: TaskOwner, most: int
    ) -> None:
        """Prepare.

        Args:
            ground: What all sandboxes have in common.
            fork: Begins one.
            tasks: Owns what makes and ends them.
            most: How many there may be.
        """
        self._ground = ground
        self._fork = fork
        self._tasks = tasks
        self._most = most
        self._shape: Shape | None = None
        self._made: list[Fork] = []
        self._making: asyncio.Task[None] | None = None
        self._ending: set[asyncio.Task[None]] = set()
        self._is_closed = False

    @property
    def count(self) -> int:
        """How many are made and nobody's."""
        return len(self._made)

    def take(self, shape: Shape) -> Fork | None:
        """Return one of a shape, which is the caller's; None: there is none."""
        if shape != self._shape:
            return None
        while self._made:
            fork = self._made.pop(0)
            is_good = fork.interface is None or fork.interface.is_good
            if is_good and not fork.ending.done():
                return fork
            self._end(fork)
        return None

    def fill(self, shape: Shape) -> None:
        """Begin to make as many of a shape as there may be, unless that is being done."""
        if self._is_closed:
            return
        if shape != self._shape:
            self._shape = shape
            while self._made:
                self._end(self._made.pop())
        if self._making is None:
            self._making = self._tasks.spawn(self._fill(), name="sandbox:ahead")

    async def filled(self) -> None:
        """Wait until those that are being made are made, or can't be."""
        if self._making is not None:
            await asyncio.wait([self._making])

    async def _fill(self) -> None:
        try:
            while len(self._made) < self._most:
                await asyncio.sleep(_DELAY_S)
                shape = self._shape
                assert shape is not None
                fork = await self._make(shape)
                if shape == self._shape and not self._is_closed:
                    self._made.append(fork)
                else:
                    self._end(fork)
        except (OSError, SandboxFailedError):
            # Who comes next finds out what is wrong.
            return
        finally:
            self._making = None

    async def _make(self, shape: Shape) -> Fork:
        fork = self._fork()
        try:
            plan = await in_thread(self._prepare, shape, fork)
            fork.group = shape.make_group(self._ground.cgroups, fork.directory)
            if shape.reach is not None:
                fork.interface = self._ground.interface(shape, fork.directory)
            descriptors = fork.group.open_to_join()
            try:
                if fork.interface is not None:
                    made = await fork.interface.make(self._ground.accounts, descriptors)
                    descriptors.append(made)
                await fork.control.send_plan(plan, descriptors)
            finally:
                for descriptor in descriptors:
                    os.close(descriptor)
            try:
                async with asyncio.timeout(_BORN_TIMEOUT_S):
                    await fork.control.wait_born()
            except TimeoutError:
                raise SandboxFailedError from None
        except BaseException:
            self._end(fork)
            raise
        fork.is_made = True
        return fork

    def _prepare(self, shape: Shape, fork: Fork) -> Plan:
        fork.uid = shape.make_folders(fork.directory, None, self._ground.accounts)
        return replace(shape.plan(fork.directory, fork.uid), is_ahead=True)

    def _end(self, fork: Fork) -> None:
        task = self._tasks.spawn(fork.give_up(), name="sandbox:ahead:end")
        self._ending.add(task)
        task.add_done_callback(self._ending.discard)

    def close(self) -> None:
        """Begin to end all of them, and make no more. Twice is fine."""
        self._is_closed = True
        while self._made:
            self._end(self._made.pop())
        if self._making is not None:
            self._making.cancel()

    async def aclose(self) -> None:
        """End all of them. Twice is fine."""
        self.close()
        if self._making is not None:
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.wait([self._making])
        if self._ending:
            await asyncio.wait(self._ending)
