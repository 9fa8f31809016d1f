"""The platform's own process, as :mod:`trunkline.platform.keeper` starts it."""

import argparse
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

from trunkline.aio.garbage import collect_seldom
from trunkline.aio.passing import Passing, PassingError
from trunkline.platform.arrival import Predecessor
from trunkline.platform.inherited import die_with, inherited
from trunkline.platform.up import UpOptions, run_up
from trunkline.runtimes.process.kept import KeeperLine


def main(arguments: Sequence[str] | None = None) -> int:
    """Serve until told to stop; return the exit code."""
    parser = argparse.ArgumentParser(prog="trunkline up")
    parser.add_argument("host")
    parser.add_argument("port", type=int)
    parser.add_argument("state_dir", type=Path)
    parser.add_argument("--keeper", type=int, nargs=2, metavar=("PID", "FD"))
    parser.add_argument("--replace", type=int, metavar="FD")
    parser.add_argument("--workers", type=int)
    given = parser.parse_args(arguments)
    # Until somebody handles it, it must not end this process.
    signal.signal(signal.SIGUSR2, lambda _number, _frame: None)
    keeper = None
    if given.keeper:
        pid, line = given.keeper
        if not die_with(pid):
            return 1
        keeper = KeeperLine(Passing(inherited(line)))
    predecessor = None
    if given.replace is not None:
        try:
            predecessor = Predecessor(inherited(given.replace))
        except PassingError as exc:
            sys.stderr.write(f"error: no process could be replaced: {exc}\n")
            return 1
    collect_seldom()
    return run_up(
        UpOptions(
            host=given.host,
            port=given.port,
            state_dir=given.state_dir,
            keeper=keeper,
            predecessor=predecessor,
            workers=given.workers,
        )
    )


if __name__ == "__main__":
    sys.exit(main())
