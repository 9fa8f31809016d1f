"""The platform's own process, as :mod:`trunkline.platform.keeper` starts it."""

import argparse
import ctypes
import os
import signal
import socket
import sys
from collections.abc import Sequence
from pathlib import Path

from trunkline.aio.passing import Passing, PassingError
from trunkline.platform.arrival import Predecessor
from trunkline.platform.up import UpOptions, run_up
from trunkline.runtimes.process.kept import KeeperLine

_PR_SET_PDEATHSIG = 1


def main(arguments: Sequence[str] | None = None) -> int:
    """Serve until told to stop; return the exit code."""
    parser = argparse.ArgumentParser(prog="trunkline up")
    parser.add_argument("host")
    parser.add_argument("port", type=int)
    parser.add_argument("state_dir", type=Path)
    parser.add_argument("--keeper", type=int, nargs=2, metavar=("PID", "FD"))
    parser.add_argument("--replace", type=int, metavar="FD")
    given = parser.parse_args(arguments)
    # Until somebody handles it, it must not end this process.
    signal.signal(signal.SIGUSR2, lambda _number, _frame: None)
    keeper = None
    if given.keeper:
        pid, line = given.keeper
        if not _die_with(pid):
            return 1
        keeper = KeeperLine(Passing(_inherited(line)))
    predecessor = None
    if given.replace is not None:
        try:
            predecessor = Predecessor(_inherited(given.replace))
        except PassingError as exc:
            sys.stderr.write(f"error: no process could be replaced: {exc}\n")
            return 1
    return run_up(
        UpOptions(
            host=given.host,
            port=given.port,
            state_dir=given.state_dir,
            keeper=keeper,
            predecessor=predecessor,
        )
    )


def _inherited(file: int) -> socket.socket:
    # Agents and tools must not get it.
    os.set_inheritable(file, False)
    return socket.socket(fileno=file)


def _die_with(parent: int) -> bool:
    """Have the kernel end this process when its parent ends; tell whether that still lives."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0)
    return os.getppid() == parent


if __name__ == "__main__":
    sys.exit(main())
