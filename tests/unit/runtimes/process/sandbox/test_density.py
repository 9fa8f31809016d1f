"""What a heap gives out after its free places were taken."""

import subprocess
import sys
import textwrap

from trunkline.runtimes.process.sandbox.inside import density

#: Objects of many sizes, of which a few are gone again; and how many pages those that are
#: made afterwards lie on.
PROGRAM = """
    import importlib.util, sys
    spec = importlib.util.spec_from_file_location("density", sys.argv[1])
    density = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(density)
    sizes = [*range(40, 500, 20), *range(520, 1000, 60)]
    many = [bytes(size) for _ in range(400) for size in sizes]
    del many[::37]
    if sys.argv[2] == "taken":
        density.take_free_places()
    made = [bytes(size) for _ in range(5) for size in sizes]
    print(len({id(each) // 4096 for each in made}))
"""


def pages(what: str) -> int:
    assert density.__file__ is not None
    done = subprocess.run(
        [sys.executable, "-I", "-c", textwrap.dedent(PROGRAM), density.__file__, what],
        check=True,
        capture_output=True,
        text=True,
    )
    return int(done.stdout)


def test_what_comes_after_it_lies_together() -> None:
    assert pages("taken") < pages("left") / 2
