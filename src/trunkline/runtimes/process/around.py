"""What an agent's process needs of the runtime it is of, and of the platform it came from."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from trunkline.aio.tasks import TaskOwner
from trunkline.runtimes.interface import Passed
from trunkline.runtimes.process.appearing import Appearances
from trunkline.runtimes.process.child import Started
from trunkline.runtimes.process.sandbox.nurseries import Nurseries
from trunkline.runtimes.process.sandbox.spare import Spares
from trunkline.runtimes.process.settings import ProcessSettings


@dataclass(frozen=True, slots=True)
class TakenOver:
    """An agent that another process of the platform started."""

    started: Started | None
    """What the keeper has started; None: it was forked."""
    passed: Passed


@dataclass(frozen=True, slots=True, kw_only=True)
class Around:
    """What all agents of a runtime have in common."""

    run_dir: Path
    settings: ProcessSettings
    tasks: TaskOwner
    on_limit: Callable[[str], None]
    """Told the name of each limit that one runs into."""
    spares: Spares
    """Where launchers of sandboxes come from."""
    nurseries: Nurseries
    """Where sessions are forked."""
    measuring: asyncio.Lock
    """Held while an agent's disk is measured."""
    appearances: Appearances
    """Tells when agents' sockets are there."""
