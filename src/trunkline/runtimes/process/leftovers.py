"""Finds what agents of a platform that died left running, and ends it.

``setpriv`` ends an agent with its platform, but not what the agent itself started. Every process
of an agent inherits a variable that names the platform process it belongs to; on Linux, where
``/proc`` shows it, they are found by it. One that wiped its environment isn't found.
"""

import contextlib
import errno
import os
import select
import signal
import time
from collections.abc import Iterator
from pathlib import Path

from trunkline.protocol.environment import NODE
from trunkline.protocol.errors import UnavailableError
from trunkline.protocol.ids import NodeId

_PROC = Path("/proc")
#: A process that is killed ends at once, unless the kernel waits in its place, for a disk say.
_PATIENCE_S = 10.0
_EXHAUSTED = (errno.EMFILE, errno.ENFILE, errno.ENOMEM)


def end_leftovers(node: NodeId) -> int:
    """Kill every process that a platform process's agents left; return how many there were.

    They are gone when this returns. A process that is started meanwhile is found by the next
    pass: passes end when one finds nothing.

    Raises:
        UnavailableError: If some don't end, or it can't be told whether there are any.
    """
    until = time.monotonic() + _PATIENCE_S
    ended = 0
    while count := _end_some(node, until):
        ended += count
    return ended


def _end_some(node: NodeId, until: float) -> int:
    with contextlib.ExitStack() as resources:
        try:
            found = _processes_of(node, resources)
        except OSError as error:
            # Taking them for ended would start their sessions a second time.
            raise UnavailableError(
                f"it can't be seen what a platform process left running: {error.strerror}"
            ) from error
        for descriptor in found:
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(descriptor, signal.SIGKILL)
        for descriptor in found:
            if not _has_ended(descriptor, until):
                raise UnavailableError("processes of a dead platform process don't end when killed")
    return len(found)


def _has_ended(descriptor: int, until: float) -> bool:
    # A pidfd is readable once its process has ended. Its number may be too high for select().
    poll = select.poll()
    poll.register(descriptor, select.POLLIN)
    return bool(poll.poll(max(0.0, until - time.monotonic()) * 1000))


def _processes_of(node: NodeId, resources: contextlib.ExitStack) -> list[int]:
    marker = f"{NODE}={node}".encode()
    found = []
    # Not glob(): it takes a folder that can't be read for an empty one.
    for pid in [int(name) for name in os.listdir(_PROC) if name.isdecimal()]:
        with contextlib.ExitStack() as one, _tolerance():
            # The descriptor comes first: what is read after it is about that very process.
            descriptor = os.pidfd_open(pid)
            one.callback(os.close, descriptor)
            is_ours = marker in (_PROC / str(pid) / "environ").read_bytes().split(b"\0")
            if is_ours and pid != os.getpid():
                resources.push(one.pop_all())
                found.append(descriptor)
    return found


@contextlib.contextmanager
def _tolerance() -> Iterator[None]:
    # One that is gone, or another user's, isn't ours. But nothing is seen without descriptors.
    try:
        yield
    except OSError as error:
        if error.errno in _EXHAUSTED:
            raise
