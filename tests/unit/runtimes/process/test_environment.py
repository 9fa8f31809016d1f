from dataclasses import replace
from pathlib import Path

import pytest

from trunkline.runtimes.process.environment import Recipe, telling_line
from trunkline.runtimes.process.interpreter import Interpreter
from trunkline.runtimes.process.own_wheel import OwnWheel
from trunkline.runtimes.process.requirements import Requirements

WHEEL = OwnWheel(Path("/wheels/abc/trunkline-1-py3-none-any.whl"), "abc")
MAIN = Path("/code/requirements.txt")


def recipe(**changes: object) -> Recipe:
    made = Recipe(
        interpreter=Interpreter((3, 11, 7), "/py"),
        requirements=Requirements(main=MAIN, files={"requirements.txt": b"six"}),
        wheel=WHEEL,
        adds_host=True,
        resolution="remote_build",
        code_dir=Path("/code"),
    )
    return replace(made, **changes)  # type: ignore[arg-type]


def test_key_is_the_same_for_the_same_facts_in_another_folder() -> None:
    assert recipe().key == recipe(code_dir=Path("/other")).key
    elsewhere = Requirements(main=Path("/other/r.txt"), files={"requirements.txt": b"six"})
    assert recipe().key == recipe(requirements=elsewhere).key


@pytest.mark.parametrize(
    "changes",
    [
        {"interpreter": Interpreter((3, 11, 8), "/py")},
        {"interpreter": Interpreter((3, 11, 7), "/other")},
        {"requirements": Requirements(main=MAIN, files={"requirements.txt": b"six>1"})},
        {"requirements": Requirements(main=MAIN, files={"requirements.txt": b"six", "b": b""})},
        {"wheel": None},
        {"wheel": OwnWheel(WHEEL.path, "def")},
        {"adds_host": False},
        {"resolution": "bundled"},
    ],
)
def test_key_differs_with_each_fact(changes: dict[str, object]) -> None:
    assert recipe(**changes).key != recipe().key


def test_key_of_what_comes_from_the_folder_is_the_folders() -> None:
    local = Requirements(main=MAIN, files={"requirements.txt": b"./lib"}, is_local=True)
    one, two = (recipe(requirements=local, code_dir=Path(path)) for path in ("/a", "/b"))
    assert one.key != two.key


def test_host_and_requirements_are_resolved_together() -> None:
    assert recipe().installs() == [("-r", str(MAIN), str(WHEEL.path))]


def test_hashes_keep_the_host_apart() -> None:
    hashed = Requirements(main=MAIN, requires_hashes=True)
    assert recipe(requirements=hashed).installs() == [("-r", str(MAIN)), (str(WHEEL.path),)]


def test_named_trunkline_is_found_in_our_wheel() -> None:
    expected = [("-r", str(MAIN), "--find-links", "/wheels/abc")]
    assert recipe(adds_host=False).installs() == expected
    hashed = Requirements(main=MAIN, requires_hashes=True)
    assert recipe(adds_host=False, requirements=hashed).installs() == expected


def test_foreign_host_is_left_alone() -> None:
    assert recipe(adds_host=False, wheel=None).installs() == [("-r", str(MAIN))]


def test_without_requirements_only_the_host_is_installed() -> None:
    assert recipe(requirements=Requirements()).installs() == [(str(WHEEL.path),)]
    bare = recipe(requirements=Requirements(), adds_host=False, wheel=None)
    assert bare.installs() == []


@pytest.mark.parametrize(
    ("lines", "told"),
    [
        ((), "the tool said nothing"),
        (("one", "two", "  "), "two"),
        (("Using x", "error: it broke", "hint: y"), "it broke"),
        (
            (
                "error: No solution found",
                "  cause: Because a needs b",
                "         And because c needs d.",
                "",
                "hint: try e",
            ),
            "No solution found: Because a needs b And because c needs d.",
        ),
        (
            ("error: Couldn't parse `r`", "  cause: bad `>>=`", "         x >>= 3", "      ^^^"),
            "Couldn't parse `r`: bad `>>=` x >>= 3",
        ),
        (("error: " + "x" * 1000,), "x" * 600),
    ],
)
def test_telling_line(lines: tuple[str, ...], told: str) -> None:
    assert telling_line(lines) == told
