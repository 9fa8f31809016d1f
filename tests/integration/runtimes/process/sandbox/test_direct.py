"""Agents with an interface: what they reach, what they don't, and what is left of it."""

import asyncio
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from ipaddress import IPv4Network
from pathlib import Path
from typing import Any

import packaging
import pytest

import trunkline
from tests.conformance.runtimes.support import AGENT, RecordingSink, Starter, ask, wait_gone
from tests.integration.runtimes.process.test_passed_on import Two
from trunkline.protocol.ids import VersionId
from trunkline.runtimes.interface import BuildFailedError, Freezer, Instance, VersionSource
from trunkline.runtimes.process.runtime import ProcessRuntime
from trunkline.runtimes.process.sandbox.addresses import machines_networks
from trunkline.runtimes.process.sandbox.levels import SandboxUnavailableError
from trunkline.runtimes.process.settings import ProcessSettings

HERE = Path(__file__).parent
ORDINARY_UID = 1_999_999_999
SYSTEM_PYTHON = "/usr/bin/python3"
DIRECT = "trunkline.runtimes.process.sandbox.direct"
REACHED = {
    "tcp": "hello", "udp": "hello", "udp from elsewhere": ["elsewhere", "11.0.0.2", True],
    "much": 4 * 1024**2, "a name": "11.0.0.2",
    "a private name": "10.9.9.9", "tcp to an allowed network": "hello",
    "udp to an allowed network": "hello",
}  # fmt: skip
WORDS = "slirp4netns isn't installed (Debian: apt-get install slirp4netns)"


@pytest.fixture(scope="module", autouse=True)
def tools() -> None:
    assert os.geteuid() == 0, "networks are made as root"
    for program in ("slirp4netns", "ip", "unshare", "nsenter", "setpriv"):
        assert shutil.which(program), f"these tests need {program}: make test installs it"


@pytest.fixture(scope="module")
def root() -> Iterator[Path]:
    # Short, for paths of sockets, and passable, for another user.
    folder = Path(tempfile.mkdtemp(prefix="tl-"))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


@pytest.fixture(scope="module", params=["spawn", "zygote"])
def start(request: pytest.FixtureRequest) -> str:
    """How agents are started."""
    how: str = request.param
    return how


def in_the_world(folder: Path, *command: str, tun: str = "") -> dict[str, Any]:
    done = subprocess.run(
        ["unshare", "-n", "-m", SYSTEM_PYTHON, "-I", str(HERE / "world.py"), str(folder), *command],
        capture_output=True, text=True, timeout=120, check=False, cwd="/",
        env={"PATH": f"{os.defpath}:/usr/sbin:/sbin", "TUN_IS_ROOTS": tun},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


def breaches(found: dict[str, Any]) -> list[str]:
    return [
        name for name, (is_done, _) in found["results"].items() if is_done and name[:3] == "no "
    ]


@pytest.fixture(scope="module")
def as_root(root: Path, start: str) -> dict[str, Any]:
    return driven_by_root(root / f"root-{start}", "direct_drive.py", start)


def driven_by_root(place: Path, program: str, start: str) -> dict[str, Any]:
    place.mkdir()
    package = str(Path(trunkline.__file__).parents[1])
    return in_the_world(
        place, sys.executable, "-I", str(HERE / program), package, str(place / "w"),
        sys.executable, start, tun="yes",
    )  # fmt: skip


@pytest.fixture(scope="module")
def as_ordinary_user(root: Path, start: str) -> dict[str, Any]:
    return driven_by_an_ordinary_user(root / f"user-{start}", "direct_drive.py", start)


def driven_by_an_ordinary_user(place: Path, program: str, start: str) -> dict[str, Any]:
    (place / "w").mkdir(parents=True)
    package = place / "package"
    shutil.copytree(Path(trunkline.__file__).parent, package / "trunkline")
    shutil.copytree(Path(packaging.__file__).parent, package / "packaging")
    for name in ("direct_drive.py", "direct_ends.py", "direct_probes.py", "world.py"):
        shutil.copy(HERE / name, place / name)
    subprocess.run(["chmod", "-R", "a+rX", str(place)], check=True)
    os.chown(place / "w", ORDINARY_UID, ORDINARY_UID)
    return in_the_world(
        place, "setpriv", f"--reuid={ORDINARY_UID}", f"--regid={ORDINARY_UID}", "--clear-groups",
        "--", SYSTEM_PYTHON, "-I", str(place / program), str(package), str(place / "w"),
        SYSTEM_PYTHON, start,
    )  # fmt: skip


@pytest.fixture(params=["as_root", "as_ordinary_user"])
def found(request: pytest.FixtureRequest, start: str) -> dict[str, Any]:
    answer: dict[str, Any] = request.getfixturevalue(request.param)
    assert answer["start"] == start
    return answer


def test_public_addresses_and_names_are_reached(found: dict[str, Any]) -> None:
    results = found["results"]
    assert {name: results[name] for name in REACHED} == {
        name: [True, value] for name, value in REACHED.items()
    }
    assert results["interfaces"] == [True, ["lo", "tap0"]]


def test_names_are_asked_of_whom_the_setting_says(
    as_root: dict[str, Any], as_ordinary_user: dict[str, Any]
) -> None:
    assert as_root["results"]["name servers"] == [True, "nameserver 198.18.0.3\n"]
    assert as_ordinary_user["results"]["name servers"] == [True, "nameserver 11.0.0.2\n"]


def test_nothing_else_is(found: dict[str, Any]) -> None:
    assert len([name for name in found["results"] if name[:3] == "no "]) > 100
    assert breaches(found) == []


def test_who_carries_packets_may_do_nothing(found: dict[str, Any]) -> None:
    # One for each session, and maybe one for a sandbox that is made ahead.
    assert len(found["carriers"]) >= 2
    for facts in found["carriers"]:
        assert facts["NoNewPrivs"] == "1"
        assert facts["Seccomp"] == "2"
        # Ports below 1024, in a user namespace to which no network of this machine belongs.
        assert {int(facts[name], 16) for name in ("CapEff", "CapPrm", "CapBnd")} == {1 << 10}
        assert "0" not in facts["Uid"].split()
    assert found["left"] == []


def test_it_is_a_user_of_its_own_where_there_are_users(as_root: dict[str, Any]) -> None:
    users = [facts["Uid"].split()[0] for facts in as_root["carriers"]]
    assert len(set(users)) == len(users) >= 2
    assert all(2_000_000_000 <= int(user) < 2_100_000_000 for user in users)
    assert {facts["Groups"].strip() for facts in as_root["carriers"]} == {""}


def test_routes_are_not_what_holds_an_agent_back(as_root: dict[str, Any]) -> None:
    assert as_root["without_routes"] == [["11.0.0.2", 7007]]


def test_the_network_is_said_to_be_one(as_root: dict[str, Any]) -> None:
    words = "a network of its own, and an interface to public addresses (slirp4netns)"
    assert as_root["protections"]["network"] == [True, words]


@pytest.mark.long
def test_no_other_probe_gets_further_with_an_interface(root: Path, start: str) -> None:
    place = root / f"probes-{start}"
    place.mkdir()
    package = str(Path(trunkline.__file__).parents[1])
    answer = in_the_world(
        place, sys.executable, "-I", str(HERE / "drive.py"), package, str(place / "w"), "auto",
        sys.executable, start, "direct",
    )  # fmt: skip
    got = {name for name, (got, _) in answer["results"].items() if got is not None}
    # That one is what an interface is for.
    assert got == {"send_a_datagram"}


# Its life


def carrier_of(instance: Instance) -> int:
    """Return the process that carries an agent's packets."""
    pid: int = instance._box._interface.pid  # type: ignore[attr-defined]
    assert Path(f"/proc/{pid}/comm").read_text() == "slirp4netns\n"
    return pid


@pytest.mark.long
@pytest.mark.parametrize("who", ["root", "ordinary user"])
def test_nothing_is_left_however_it_ends(root: Path, start: str, who: str) -> None:
    driven = driven_by_root if who == "root" else driven_by_an_ordinary_user
    found = driven(root / f"ends-{who[:4]}-{start}", "direct_ends.py", start)
    # Its own users, mounts, processes and network, and another's users and network for its packets.
    assert all(len(namespaces) >= 5 for namespaces in found["seen"].values()), found
    assert found["alive"]
    assert (found["left"], found["groups"]) == ([], [])
    assert (found["left_when_killed"], found["carriers"]) == ([], [])
    assert found["interfaces"] == [["lo", "near"]] * 2


@pytest.fixture
async def runtime(tmp_path: Path, start: str) -> AsyncIterator[ProcessRuntime]:
    runtime = ProcessRuntime(
        ProcessSettings(state_dir=tmp_path / "s", sandbox="required", network="direct", start=start)
    )
    yield runtime
    await runtime.aclose()


@pytest.fixture
async def starter(runtime: ProcessRuntime, tmp_path: Path, start: str) -> Starter:
    starter = Starter(runtime, tmp_path)
    assert (await runtime.warm_up(starter.spec())).mode == start
    return starter


async def test_it_ends_with_its_session(starter: Starter) -> None:
    stopped, log = await starter.start()
    crashed, _ = await starter.start()
    processes = [carrier_of(each) for each in (stopped, crashed)]
    await stopped.stop()
    assert "InterfaceLost" not in log.reasons
    os.kill(crashed.pid, signal.SIGKILL)
    await crashed.wait_exited()
    assert [pid for pid in processes if Path(f"/proc/{pid}").exists()] == []


async def test_its_end_is_told_and_the_agent_goes_on(starter: Starter) -> None:
    instance, log = await starter.start()
    os.kill(carrier_of(instance), signal.SIGKILL)
    await log.wait_until(lambda: "InterfaceLost" in log.reasons)
    words = dict(log.events)["InterfaceLost"]
    assert words.startswith("slirp4netns, which carried its packets, ended with signal 9")
    assert await ask(instance.address, "/about")
    await instance.stop()


async def test_one_that_was_made_ahead_and_has_ended_is_nobodys(
    runtime: ProcessRuntime, starter: Starter, start: str
) -> None:
    if start == "spawn":
        assert runtime.forks_ahead == 0
        return
    await runtime.warm_up(starter.spec())
    (ahead,) = [nursery._ahead for nursery in runtime._nurseries._nurseries]
    assert ahead is not None
    (made,) = ahead._made
    assert made.interface is not None
    os.kill(made.interface.pid, signal.SIGKILL)
    await asyncio.wait([made.interface._ending])
    instance, log = await starter.start()
    assert carrier_of(instance) != made.interface.pid
    await instance.stop()
    assert "InterfaceLost" not in log.reasons


async def test_one_that_does_not_know_all_of_the_machines_addresses_is_nobodys(
    runtime: ProcessRuntime, starter: Starter, monkeypatch: pytest.MonkeyPatch
) -> None:
    instance, _ = await starter.start()
    interface = instance._box._interface  # type: ignore[attr-defined]
    assert interface.is_good
    more = [*machines_networks(), IPv4Network("8.8.8.8/32")]
    monkeypatch.setattr(f"{DIRECT}.machines_networks", lambda: more)
    assert not interface.is_good
    await instance.stop()


async def test_it_is_in_the_sessions_limits_and_is_frozen_with_it(
    runtime: ProcessRuntime, starter: Starter
) -> None:
    spec = replace(starter.spec(), may_freeze=True)
    instance = await runtime.start(spec, RecordingSink())
    groups = Path(f"/proc/{carrier_of(instance)}/cgroup").read_text().splitlines()
    ours = {folder.name for folder in instance._box._group.folders}  # type: ignore[attr-defined]
    # Memory, processors, processes, and the freezer.
    assert len([line for line in groups if line.rpartition("/")[2] in ours]) >= 4
    freezer = instance.freezer
    assert not isinstance(freezer, str)
    await frozen(freezer)
    pid = carrier_of(instance)
    await instance.stop()
    assert not Path(f"/proc/{pid}").exists()


async def frozen(freezer: Freezer) -> None:
    freezer.freeze()
    async with asyncio.timeout(5):
        while not freezer.is_frozen:  # noqa: ASYNC110 - the kernel tells nobody
            await asyncio.sleep(0.005)


async def test_it_goes_with_its_agent_to_another_process_of_the_platform(
    tmp_path: Path, start: str
) -> None:
    two = Two(tmp_path, start, network="direct")
    try:
        assert (await two.old.warm_up(two.starter.spec())).mode == start
        instance, sink = await two.start()
        pid = carrier_of(instance)
        moved = two.move(instance, sink)
        two.old.let_go()
        await two.old.aclose()
        assert carrier_of(moved) == pid
        assert await ask(moved.address, "/about")
        await moved.stop()
        assert not Path(f"/proc/{pid}").exists()
        assert "InterfaceLost" not in sink.reasons
    finally:
        await two.old.aclose()
        await two.new.aclose()


PLATFORM = """
import asyncio, os, sys
from pathlib import Path
sys.path.insert(0, os.getcwd())
from tests.conformance.runtimes.support import RecordingSink, Starter
from trunkline.runtimes.process.runtime import ProcessRuntime
from trunkline.runtimes.process.settings import ProcessSettings

async def main(root, start):
    runtime = ProcessRuntime(
        ProcessSettings(state_dir=root, run_dir=root / "run", start=start, network="direct")
    )
    starter = Starter(runtime, root)
    assert (await runtime.warm_up(starter.spec())).mode == start
    instance = await runtime.start(starter.spec(), RecordingSink())
    print(instance._box._interface.pid, flush=True)
    await asyncio.Event().wait()

asyncio.run(main(Path(sys.argv[1]), sys.argv[2]))
"""


async def test_it_ends_with_a_killed_platform(tmp_path: Path, start: str) -> None:
    platform = await asyncio.create_subprocess_exec(
        sys.executable, "-c", PLATFORM, str(tmp_path), start,
        stdout=asyncio.subprocess.PIPE, cwd=AGENT.parents[3],
    )  # fmt: skip
    assert platform.stdout is not None
    pid = int(await platform.stdout.readline())
    assert Path(f"/proc/{pid}/comm").read_text() == "slirp4netns\n"
    platform.send_signal(signal.SIGKILL)
    await platform.wait()
    await wait_gone(pid)


# What is asked for and can't be had


@pytest.fixture
def no_program(monkeypatch: pytest.MonkeyPatch) -> None:
    which = shutil.which
    monkeypatch.setattr(
        shutil, "which", lambda name: None if name == "slirp4netns" else which(name)
    )


@pytest.mark.usefixtures("no_program")
async def test_a_platform_without_the_program_does_not_start(tmp_path: Path) -> None:
    runtime = ProcessRuntime(ProcessSettings(state_dir=tmp_path, network="direct"))
    with pytest.raises(SandboxUnavailableError) as caught:
        await runtime.opened()
    assert str(caught.value) == f"TRUNKLINE_PROCESS_NETWORK is direct: its interface: {WORDS}"


def source(folder: Path, **environment: str) -> VersionSource:
    return VersionSource(
        agent="a", version=VersionId("1"), code_dir=folder, runtime=None,
        entry_point=("main.py",), dependency_resolution="bundled", environment=environment,
    )  # fmt: skip


class NoLog:
    def write(self, text: str) -> None:
        pass


async def test_a_version_is_told_what_it_can_not_have_when_it_is_deployed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runtime = ProcessRuntime(ProcessSettings(state_dir=tmp_path, network="host"))
    try:
        with pytest.raises(BuildFailedError, match="names hosts, and the network is direct"):
            await runtime.build(
                source(tmp_path, TRUNKLINE_NETWORK="direct", TRUNKLINE_EGRESS_ALLOW="a.example"),
                NoLog(),
            )
        monkeypatch.setattr(shutil, "which", lambda _: None)
        with pytest.raises(BuildFailedError) as caught:
            await runtime.build(source(tmp_path, TRUNKLINE_NETWORK="direct"), NoLog())
        assert str(caught.value) == f"its network is direct, and {WORDS}"
    finally:
        await runtime.aclose()
