"""Agents that try to get out, as root and as an ordinary user, and one with nothing around it."""

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import packaging
import pytest

import trunkline

DRIVER = Path(__file__).with_name("drive.py")
#: A user of no distribution's.
ORDINARY_UID = 1_999_999_999
SYSTEM_PYTHON = "/usr/bin/python3"
#: What one user can't keep from itself: see "What 'not root' can't prevent" in the docs.
NOT_PREVENTED_WITHOUT_ROOT: dict[str, str] = {}


def drive(
    root: Path, package: str, mode: str, start: str, interpreter: str, *before: str
) -> dict[str, Any]:
    done = subprocess.run(
        [*before, interpreter, "-I", str(DRIVER if not before else root / "drive.py"), package,
         str(root / "work"), mode, interpreter, start, "outbound"],
        capture_output=True, text=True, timeout=120, check=False, cwd="/",
        env={"PATH": os.defpath},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    answer: dict[str, Any] = json.loads(done.stdout)
    mode = "spawn" if start == "spawn" else "zygote"
    assert answer["started"] == [mode], answer["started"]
    return answer


@pytest.fixture(scope="module", params=["spawn", "zygote", "ahead"])
def start(request: pytest.FixtureRequest) -> str:
    """How agents are started."""
    how: str = request.param
    return how


@pytest.fixture(scope="module")
def root() -> Iterator[Path]:
    # Short, for paths of sockets, and passable, for another user.
    folder = Path(tempfile.mkdtemp(prefix="tl-"))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


@pytest.fixture(scope="module")
def as_root(root: Path, start: str) -> dict[str, Any]:
    assert os.geteuid() == 0, "these tests need root: what root can protect is tried as root"
    package = str(Path(trunkline.__file__).parents[1])
    return drive(root / f"root-{start}", package, "auto", start, sys.executable)


@pytest.fixture(scope="module")
def as_ordinary_user(root: Path, start: str) -> dict[str, Any]:
    assert os.geteuid() == 0
    assert Path(SYSTEM_PYTHON).exists(), "these tests need a Python that every user may run"
    place = root / f"user-{start}"
    (place / "work").mkdir(parents=True)
    package = place / "package"
    shutil.copytree(Path(trunkline.__file__).parent, package / "trunkline")
    shutil.copytree(Path(packaging.__file__).parent, package / "packaging")
    for name in ("drive.py", "probes.py", "kernel_probes.py", "probing.py"):
        shutil.copy(DRIVER.with_name(name), place / name)
    subprocess.run(["chmod", "-R", "a+rX", str(place)], check=True)
    os.chown(place / "work", ORDINARY_UID, ORDINARY_UID)
    return drive(
        place, str(package), "auto", start, SYSTEM_PYTHON,
        "setpriv", f"--reuid={ORDINARY_UID}", f"--regid={ORDINARY_UID}", "--clear-groups", "--",
    )  # fmt: skip


@pytest.fixture(scope="module")
def free(root: Path) -> dict[str, Any]:
    package = str(Path(trunkline.__file__).parents[1])
    return drive(root / "free", package, "off", "spawn", sys.executable)


def breaches(found: dict[str, Any]) -> dict[str, str]:
    return {name: got for name, (got, _) in found["results"].items() if got is not None}


def test_root_gives_every_protection(as_root: dict[str, Any]) -> None:
    assert {name: why for name, (ok, why) in as_root["protections"].items() if not ok} == {}


def test_nothing_gets_out_as_root(as_root: dict[str, Any]) -> None:
    assert len(as_root["results"]) > 70
    assert breaches(as_root) == {}
    assert as_root["alive"]


def test_an_ordinary_user_gives_all_but_users_and_limits(
    as_ordinary_user: dict[str, Any],
) -> None:
    lacking = {name for name, (ok, _) in as_ordinary_user["protections"].items() if not ok}
    # Limits depend on whether somebody gave this user control groups.
    assert "user" in lacking
    assert lacking <= {"user", "memory", "cpu", "pids"}


def test_nothing_gets_out_as_an_ordinary_user(as_ordinary_user: dict[str, Any]) -> None:
    assert breaches(as_ordinary_user).keys() == NOT_PREVENTED_WITHOUT_ROOT.keys()
    assert as_ordinary_user["alive"]


def test_the_probes_do_get_out_where_nothing_is_around_them(free: dict[str, Any]) -> None:
    """A probe that can't succeed anywhere proves nothing."""
    prevented = {name: why for name, (got, why) in free["results"].items() if got is None}
    # These need what isn't on every machine.
    assert prevented.keys() <= {
        "open_a_performance_counter", "open_a_socket_to_the_hypervisor", "use_a_keyring",
        "use_io_uring", "be_spared_when_memory_is_short", "read_kernel_memory",
        "look_into_the_first_process", "belong_to_groups", "make_a_user_namespace",
        "clone_into_a_user_namespace", "clone_into_a_user_namespace_the_new_way",
        "open_a_netfilter_socket", "use_userfaultfd",
        "reach_the_machines_addresses", "get_out_through_the_root_of_a_process",
    }, prevented  # fmt: skip
