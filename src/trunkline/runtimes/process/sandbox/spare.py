"""A launcher that was started before anybody needs it: a start doesn't wait for an interpreter.

It is nobody's yet: no plan, no agent, no session's name. What it is given later is one session's,
and it is never used for another.
"""

import asyncio
import contextlib
import os
import secrets
import shutil
import signal
import sys
from collections.abc import Mapping
from pathlib import Path

import trunkline
from trunkline.aio.tasks import TaskOwner
from trunkline.protocol.environment import NODE
from trunkline.protocol.ids import NodeId
from trunkline.runtimes.process.child import Child, Spawn, start_child
from trunkline.runtimes.process.sandbox.control import Control

NAME_BYTES = 6
#: In the directory of who builds a view: where.
VIEW_ROOT = "root"
_LAUNCH = (
    "import sys; sys.path.insert(0, sys.argv.pop(1)); "
    "from trunkline.runtimes.process.sandbox.inside.launcher import main; main()"
)


def remove_directory(path: Path) -> None:
    """Remove a sandbox's directory; what an agent nested too deep goes with the run directory."""
    with contextlib.suppress(RecursionError):
        shutil.rmtree(path, ignore_errors=True)


class Launcher:
    """One launcher, with its directory and the platform's end of its socket."""

    def __init__(self, run_dir: Path, node: NodeId, spawn: Spawn, tasks: TaskOwner) -> None:
        """Start one. In the event loop's thread only, as `start_child` says.

        Raises:
            OSError: If it can't be started.
        """
        self.directory = run_dir / secrets.token_hex(NAME_BYTES)
        self.directory.mkdir(mode=0o700)
        (self.directory / VIEW_ROOT).mkdir(mode=0o700)
        # What it prints to comes with the plan.
        nowhere = os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC)
        try:
            self.control = Control(self.directory / "control.sock")
            self.child: Child = start_child(
                self._command,
                cwd="/",
                env=self._environment(node),
                stdout=nowhere,
                stderr=nowhere,
                spawn=spawn,
            )
        except OSError:
            self.remove()
            raise
        finally:
            os.close(nowhere)
        self.ending = tasks.spawn(self.child.wait(), name="sandbox:launcher", is_awaited=True)

    @property
    def _command(self) -> tuple[str, ...]:
        package = str(Path(trunkline.__file__).parent.parent)
        path = str(self.directory / "control.sock")
        return (sys.executable, "-I", "-S", "-c", _LAUNCH, package, path)

    def _environment(self, node: NodeId) -> Mapping[str, str]:
        # By it, it is found if the platform is killed.
        return {NODE: node}

    def remove(self) -> None:
        """Remove its directory."""
        remove_directory(self.directory)


class Spares:
    """At most one launcher ahead."""

    def __init__(self, run_dir: Path, spawn: Spawn, tasks: TaskOwner) -> None:
        self._run_dir = run_dir
        self._spawn = spawn
        self._tasks = tasks
        self._spare: Launcher | None = None
        self._is_closed = False

    def take(self, node: NodeId) -> Launcher:
        """Return a launcher, and have another one ready for the next.

        Raises:
            OSError: If none can be started.
        """
        taken, self._spare = self._spare, None
        if taken is None or taken.ending.done():
            if taken is not None:
                taken.remove()
            taken = Launcher(self._run_dir, node, self._spawn, self._tasks)
        asyncio.get_running_loop().call_soon(self._refill, node)
        return taken

    def _refill(self, node: NodeId) -> None:
        if self._spare is None and not self._is_closed:
            # Whoever comes next finds out what is wrong.
            with contextlib.suppress(OSError):
                self._spare = Launcher(self._run_dir, node, self._spawn, self._tasks)

    async def aclose(self) -> None:
        """End the one that nobody needed. Twice is fine."""
        self._is_closed = True
        spare, self._spare = self._spare, None
        if spare is not None:
            spare.child.signal_group(signal.SIGKILL)
            await spare.ending
            spare.control.close()
            spare.remove()
