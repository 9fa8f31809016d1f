import json
import sys

import pytest

from trunkline.runtimes.interface import BuildFailedError
from trunkline.runtimes.process.interpreter import (
    Interpreter,
    nearest,
    own_interpreter,
    parse_list,
    wanted_minor,
)


@pytest.mark.parametrize(
    ("runtime", "minor"),
    [
        (None, None),
        ("", None),
        ("python", None),
        ("python_3", None),
        ("python_3_13", 13),
        ("Python_3_14", 14),
        ("python3.12", 12),
        ("python:3.12", 12),
        ("python 3.11", 11),
    ],
)
def test_wanted_version(runtime: str | None, minor: int | None) -> None:
    assert wanted_minor(runtime) == minor


@pytest.mark.parametrize("runtime", ["dotnet_10", "node_22", "python_2_7", "pythonic"])
def test_only_python_runs(runtime: str) -> None:
    with pytest.raises(BuildFailedError, match=f"'{runtime}' can't be run: only Python can"):
        wanted_minor(runtime)


@pytest.mark.parametrize(
    ("minors", "wanted", "best"),
    [
        ([11, 12, 13], 13, 13),
        ([11, 12], 14, 12),
        ([12, 14], 13, 14),
        ([11, 15], 12, 11),
        ([11], 14, 11),
    ],
)
def test_nearest_and_upward_on_a_tie(minors: list[int], wanted: int, best: int) -> None:
    candidates = [Interpreter((3, minor, 1), f"/py{minor}") for minor in minors]
    assert nearest(candidates, wanted).minor == best


def test_first_of_equals_is_taken() -> None:
    first, second = Interpreter((3, 11, 7), "/own"), Interpreter((3, 11, 9), "/other")
    assert nearest([first, second], 13) is first


def row(**changes: object) -> dict[str, object]:
    version = {"major": 3, "minor": 12, "patch": 4}
    return {
        "path": "/py",
        "implementation": "cpython",
        "variant": "default",
        "version_parts": version,
    } | changes


def test_list_holds_what_we_can_use() -> None:
    rows = [
        row(),
        row(path=None),
        row(implementation="pypy"),
        row(variant="freethreaded"),
        row(version_parts={"major": 3, "minor": 10, "patch": 0}),
        row(version_parts={"major": 2, "minor": 18, "patch": 0}),
    ]
    assert parse_list(json.dumps(rows)) == [Interpreter((3, 12, 4), "/py")]
    assert parse_list("no JSON") == []


def test_own_one_says_what_it_is() -> None:
    own = own_interpreter()
    assert own.path == sys.executable
    assert str(own) == "Python " + sys.version.split()[0]
    assert own.major_minor == f"3.{own.minor}"
