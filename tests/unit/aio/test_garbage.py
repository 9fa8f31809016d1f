"""What looks for garbage seldom still finds it, and the platform's process is one that does."""

import subprocess
import sys

#: In a process of its own: what is frozen stays so.
_PROGRAM = """
import gc, weakref
from trunkline.platform import process

class Ring:
    def __init__(self):
        self.itself = self

def serve(options):
    frozen = gc.get_freeze_count()
    ring = weakref.ref(Ring())
    kept = [Ring() for _ in range(2000)]
    assert ring() is not None, "it was looked for too early"
    kept += [Ring() for _ in range(6000)]
    assert ring() is None, "it was never looked for"
    assert frozen > 10_000, "what was imported is looked through"
    assert all(isinstance(each, Ring) for each in kept)
    return 0

process.run_up = serve
raise SystemExit(process.main(["127.0.0.1", "0", "/nowhere"]))
"""


def test_the_platforms_process_looks_for_garbage_seldom_and_finds_it() -> None:
    ended = subprocess.run(
        [sys.executable, "-c", _PROGRAM], capture_output=True, text=True, check=False
    )
    assert (ended.returncode, ended.stderr) == (0, "")
