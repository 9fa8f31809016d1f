"""Finds what agents of a platform that died left running, and ends it.

``setpriv`` ends an agent with its platform, but not what the agent itself started. Every process
of an agent inherits a variable that names the platform process it belongs to; on Linux, where
``/proc`` shows it, they are found by it. One that wiped its environment isn't found.
"""

import contextlib
import os
import select
import signal
from pathlib import Path

from trunkline.protocol.environment import NODE
from trunkline.protocol.ids import NodeId

_PROC = Path("/proc")


def end_leftovers(node: NodeId) -> int:
    """Kill every process that a platform process's agents left; return how many there were.

    They are gone when this returns. A process that is started meanwhile is found by the next
    pass: passes end when one finds nothing.
    """
    ended = 0
    while found := _processes_of(node):
        for descriptor in found:
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(descriptor, signal.SIGKILL)
        for descriptor in found:
            # A pidfd is readable once its process has ended.
            select.select([descriptor], [], [])
            os.close(descriptor)
        ended += len(found)
    return ended


def _processes_of(node: NodeId) -> list[int]:
    marker = f"{NODE}={node}".encode()
    found = []
    for folder in _PROC.glob("[0-9]*"):
        # The descriptor comes first: what is read after it is about that very process.
        try:
            descriptor = os.pidfd_open(int(folder.name))
        except OSError:
            continue
        try:
            is_ours = marker in (folder / "environ").read_bytes().split(b"\0")
        except OSError:
            is_ours = False
        if is_ours and int(folder.name) != os.getpid():
            found.append(descriptor)
        else:
            os.close(descriptor)
    return found
