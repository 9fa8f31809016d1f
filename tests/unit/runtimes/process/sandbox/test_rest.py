"""The program that a forked session's first process becomes."""

import os
import signal
import time
from pathlib import Path

import pytest

from trunkline.runtimes.process.sandbox.inside import rest


@pytest.fixture
def resting() -> int:
    file = rest.program()
    assert file is not None, "there is no such program for this machine"
    pid = os.fork()
    if pid == 0:
        rest.rest(file)
    os.close(file)
    deadline = time.monotonic() + 10
    while Path(f"/proc/{pid}/cmdline").read_bytes() != b"nest\0":
        assert time.monotonic() < deadline
        time.sleep(0.01)
    return pid


def test_it_takes_a_few_pages_and_heeds_no_child(resting: int) -> None:
    try:
        facts = dict(
            line.split(":", 1)
            for line in Path(f"/proc/{resting}/status").read_text().splitlines()
            if ":" in line
        )
        assert int(facts["SigIgn"], 16) & 1 << signal.SIGCHLD - 1
        assert int(facts["VmRSS"].split()[0]) < 100
    finally:
        os.kill(resting, signal.SIGKILL)
        assert os.waitpid(resting, 0)[1] == signal.SIGKILL
