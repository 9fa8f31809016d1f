"""The platform's own process, as :mod:`trunkline.platform.keeper` starts it."""

import argparse
import ctypes
import os
import signal
import socket
import sys
from collections.abc import Sequence
from pathlib import Path

from trunkline.aio.passing import Passing
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
    given = parser.parse_args(arguments)
    keeper = None
    if given.keeper:
        pid, line = given.keeper
        if not _die_with(pid):
            return 1
        keeper = KeeperLine(_passing(line))
    return run_up(
        UpOptions(host=given.host, port=given.port, state_dir=given.state_dir, keeper=keeper)
    )


def _passing(file: int) -> Passing:
    # Agents and tools must not get it.
    os.set_inheritable(file, False)
    return Passing(socket.socket(fileno=file))


def _die_with(parent: int) -> bool:
    """Have the kernel end this process when its parent ends; tell whether that still lives."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0)
    return os.getppid() == parent


if __name__ == "__main__":
    sys.exit(main())
