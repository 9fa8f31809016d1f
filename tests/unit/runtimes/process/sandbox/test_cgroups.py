"""How control groups are found, made and read: version 1 and 2 on recorded trees."""

import os
from pathlib import Path

import pytest

from trunkline.runtimes.interface import Measured, ResourceUse
from trunkline.runtimes.process.sandbox import cgroups
from trunkline.runtimes.process.sandbox.cgroups import Group, Limits, Usage, find_cgroups
from trunkline.runtimes.process.sandbox.freezer import Freezer, FreezerPlace

LIMITS = Limits(cpu=1.5, memory_bytes=1024**3, pids=64, home_bytes=1)
V2_OWN = "0::/system.slice/trunkline.service\n"


def v2_tree(root: Path, *, controllers: str = "cpuset cpu io memory pids", procs: str = "7\n"):
    """A group as systemd delegates it."""
    own = root / "system.slice" / "trunkline.service"
    own.mkdir(parents=True)
    (own / "cgroup.controllers").write_text(controllers + "\n")
    (own / "cgroup.subtree_control").write_text("\n")
    (own / "cgroup.procs").write_text(procs)
    return own


def mounts(root: Path) -> str:
    return f"cgroup2 {root} cgroup2 rw,nosuid,nodev,noexec,relatime 0 0\n"


def test_version_2_moves_the_platform_aside_and_hands_the_controllers_down(tmp_path: Path) -> None:
    own = v2_tree(tmp_path, procs="7\n8\n")
    found = find_cgroups(mounts=mounts(tmp_path), own=V2_OWN, pids=(7, 8))
    assert (found.version, found.missing) == (2, {})
    assert (own / "platform" / "cgroup.procs").read_text() == "8"
    assert (own / "cgroup.subtree_control").read_text() == "+memory +cpu +pids"
    group = found.make("trunkline-n-1", LIMITS)
    (folder,) = group.folders
    written = {path.name: path.read_text() for path in folder.iterdir()}
    assert written == {
        "memory.max": "1073741824",
        "memory.swap.max": "0",
        "memory.oom.group": "1",
        "cpu.max": "150000 100000",
        "cpu.weight": "150",
        "pids.max": "64",
    }


def test_version_2_is_read(tmp_path: Path) -> None:
    v2_tree(tmp_path)
    group = find_cgroups(mounts=mounts(tmp_path), own=V2_OWN, pids=(7,)).make("g", LIMITS)
    (folder,) = group.folders
    (folder / "memory.events").write_text("low 0\nhigh 0\nmax 12\noom 2\noom_kill 1\n")
    (folder / "pids.events").write_text("max 5\n")
    (folder / "cpu.stat").write_text("usage_usec 9\nnr_periods 40\nnr_throttled 30\n")
    assert group.usage() == Usage(1, 5, 40, 30)
    (folder / "cgroup.procs").write_text("")
    descriptors = group.open_to_join()
    assert len(descriptors) == 1


def test_a_group_is_gone_once_its_last_process_has_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that was killed ends when it gets a processor: on a busy machine, not soon."""
    busy, idle = tmp_path / "memory", tmp_path / "cpu"
    busy.mkdir()
    idle.mkdir()
    # The kernel refuses to remove one with processes; here a file does.
    (busy / "cgroup.procs").write_text("9\n")
    looks = 0

    def pause(_: float) -> None:
        nonlocal looks
        looks += 1
        assert not idle.exists(), "it waits for another"
        if looks == 200:
            (busy / "cgroup.procs").unlink()

    monkeypatch.setattr(cgroups.time, "sleep", pause)
    Group([busy, idle, tmp_path / "gone"], 1).remove()
    assert looks == 200
    assert not busy.exists()


def test_a_group_that_does_not_end_is_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "cgroup.procs").write_text("9\n")
    monkeypatch.setattr(cgroups, "_REMOVE_WITHIN_S", 0.0)
    Group([tmp_path], 2).remove()
    assert tmp_path.exists()


def test_empty_groups_that_are_old_are_swept(tmp_path: Path) -> None:
    own = v2_tree(tmp_path)
    found = find_cgroups(mounts=mounts(tmp_path), own=V2_OWN, pids=(7,))
    for name in ("trunkline-a-1", "trunkline-b-1", "trunkline-used-1", "somebodys"):
        (own / name).mkdir()
    # The kernel refuses to remove one with processes; here a file does.
    (own / "trunkline-used-1" / "cgroup.procs").write_text("9\n")
    for name in ("trunkline-a-1", "trunkline-used-1", "somebodys"):
        os.utime(own / name, (0, 0))
    found.remove_forgotten()
    left = {folder.name for folder in own.iterdir() if folder.is_dir()}
    assert left == {"platform", "trunkline-b-1", "trunkline-used-1", "somebodys"}


def test_version_2_with_others_in_the_group_is_not_touched(tmp_path: Path) -> None:
    own = v2_tree(tmp_path, procs="7\n99\n")
    found = find_cgroups(mounts=mounts(tmp_path), own=V2_OWN, pids=(7, 8))
    assert found.version == 0
    assert "holds other processes than the platform" in found.missing["memory"]
    assert not (own / "platform").exists()


def test_version_2_without_a_controller_says_which(tmp_path: Path) -> None:
    v2_tree(tmp_path, controllers="memory pids")
    found = find_cgroups(mounts=mounts(tmp_path), own=V2_OWN, pids=(7,))
    assert found.missing.keys() == {"cpu"}
    assert "Delegate=yes" in found.missing["cpu"]


def test_version_2_that_may_not_be_written_says_so(tmp_path: Path) -> None:
    v2_tree(tmp_path)
    found = find_cgroups(
        mounts=mounts(tmp_path), own=V2_OWN, pids=(7,), is_usable=lambda folder: False
    )
    assert found.version == 0
    assert "can't be written to" in found.missing["pids"]


def test_version_1_has_a_folder_for_each_controller(tmp_path: Path) -> None:
    text, own = "", ""
    for number, name in enumerate(("memory", "cpu,cpuacct", "pids"), 1):
        folder = tmp_path / name
        (folder / "own").mkdir(parents=True)
        text += f"cgroup {folder} cgroup rw,relatime,{name} 0 0\n"
        own += f"{number}:{name}:/own\n"
    found = find_cgroups(mounts=text, own=own)
    assert (found.version, found.missing) == (1, {})
    group = found.make("g", LIMITS)
    assert [folder.parent for folder in group.folders] == [
        tmp_path / name / "own" for name in ("memory", "cpu,cpuacct", "pids")
    ]
    assert (group.folders[0] / "memory.limit_in_bytes").read_text() == "1073741824"
    assert (group.folders[1] / "cpu.cfs_quota_us").read_text() == "150000"
    assert (group.folders[1] / "cpu.shares").read_text() == "1536"
    (group.folders[0] / "memory.oom_control").write_text("oom_kill_disable 0\noom_kill 3\n")
    assert group.usage().memory_kills == 3


def test_what_is_used_and_may_be_is_read_in_version_2(tmp_path: Path) -> None:
    v2_tree(tmp_path)
    group = find_cgroups(mounts=mounts(tmp_path), own=V2_OWN, pids=(7,)).make("g", LIMITS)
    (folder,) = group.folders
    assert group.resource_use() == ResourceUse()
    (folder / "cpu.stat").write_text("usage_usec 2500000\nuser_usec 1\nsystem_usec 2\n")
    (folder / "memory.current").write_text("4096\n")
    assert group.resource_use() == ResourceUse(
        cpu=Measured(used=2.5, limit=1.5), memory=Measured(used=4096, limit=1024**3)
    )
    (folder / "memory.max").write_text("max\n")
    (folder / "cpu.stat").write_text("nr_periods 3\n")
    assert group.resource_use() == ResourceUse()
    group.folders = []
    assert group.resource_use() == ResourceUse()


@pytest.mark.parametrize("counted", ["cpu,cpuacct", "cpuacct"])
def test_what_is_used_is_read_in_version_1_wherever_it_is_counted(
    tmp_path: Path, counted: str
) -> None:
    text, own = "", ""
    names: tuple[str, ...] = ("memory", "cpu,cpuacct", "pids")
    if counted not in names:
        names = ("memory", "cpu", "pids", counted)
    for number, name in enumerate(names, 1):
        folder = tmp_path / name
        (folder / "own").mkdir(parents=True)
        text += f"cgroup {folder} cgroup rw,relatime,{name} 0 0\n"
        own += f"{number}:{name}:/own\n"
    found = find_cgroups(mounts=text, own=own)
    assert found.missing == {}
    group = found.make("g", LIMITS)
    (tmp_path / counted / "own" / "g" / "cpuacct.usage").write_text("1500000000\n")
    (tmp_path / "memory" / "own" / "g" / "memory.usage_in_bytes").write_text("8192\n")
    assert group.resource_use() == ResourceUse(
        cpu=Measured(used=1.5, limit=1.5), memory=Measured(used=8192, limit=1024**3)
    )


@pytest.mark.parametrize("own", ["", "0::/\n"])
def test_nothing_is_told_as_nothing(own: str) -> None:
    found = find_cgroups(mounts="", own=own)
    assert found.missing.keys() == {"memory", "cpu", "pids"}


def test_version_2_freezes_the_group_that_bounds(tmp_path: Path) -> None:
    v2_tree(tmp_path)
    found = find_cgroups(mounts=mounts(tmp_path), own=V2_OWN, pids=(7,))
    group = found.make("g", LIMITS, may_freeze=True)
    (folder,) = group.folders
    freezer = group.freezer
    assert freezer is not None
    assert freezer.folders == (folder,)
    (folder / "cgroup.procs").write_text("")
    assert len(group.open_to_join()) == 1
    freezer.freeze()
    assert (folder / "cgroup.freeze").read_text() == "1"
    assert not freezer.is_frozen
    (folder / "cgroup.events").write_text("populated 1\nfrozen 1\n")
    assert freezer.is_frozen
    (folder / "cpu.stat").write_text("usage_usec 1500000\nuser_usec 1\n")
    assert freezer.cpu_s() == 1.5
    again = Freezer.from_description(freezer.describe())
    again.thaw()
    assert (folder / "cgroup.freeze").read_text() == "0"


def test_version_1_freezes_in_a_group_of_its_own(tmp_path: Path) -> None:
    text, own = "", ""
    for number, name in enumerate(("memory", "cpu,cpuacct", "pids", "freezer"), 1):
        (tmp_path / name).mkdir()
        text += f"cgroup {tmp_path / name} cgroup rw,relatime,{name} 0 0\n"
        own += f"{number}:{name}:/\n"
    found = find_cgroups(mounts=text, own=own)
    assert found.make("plain", LIMITS).freezer is None
    group = found.make("g", LIMITS, may_freeze=True)
    freezer = group.freezer
    assert freezer is not None
    assert freezer.folders == (tmp_path / "freezer/g", tmp_path / "cpu,cpuacct/g")
    for folder in (*group.folders, *freezer.folders):
        (folder / "tasks").write_text("")
    # The folder that bounds and counts processor time is one, and joined once.
    assert len(group.open_to_join()) == 4
    freezer.freeze()
    assert (tmp_path / "freezer/g/freezer.state").read_text() == "FROZEN"
    assert freezer.is_frozen
    (tmp_path / "cpu,cpuacct/g/cpuacct.usage").write_text("2500000000\n")
    assert freezer.cpu_s() == 2.5
    found.thaw_stale("g")
    assert (tmp_path / "freezer/g/freezer.state").read_text() == "THAWED"
    assert not freezer.is_frozen


def test_version_2_beside_version_1_is_where_agents_are_frozen(tmp_path: Path) -> None:
    text, own = f"cgroup2 {tmp_path}/unified cgroup2 rw 0 0\n", "0::/\n"
    for number, name in enumerate(("memory", "cpu", "cpuacct", "pids", "freezer"), 1):
        (tmp_path / name).mkdir()
        text += f"cgroup {tmp_path / name} cgroup rw,relatime,{name} 0 0\n"
        own += f"{number}:{name}:/\n"
    (tmp_path / "unified").mkdir()
    found = find_cgroups(mounts=text, own=own)
    assert (found.version, found.missing) == (1, {})
    assert found.freezer == FreezerPlace(2, tmp_path / "unified", tmp_path / "unified")
    # Where that may not be written to, version 1 does it.
    found = find_cgroups(mounts=text, own=own, is_usable=lambda folder: folder.name != "unified")
    assert found.freezer == FreezerPlace(1, tmp_path / "freezer", tmp_path / "cpuacct")


def test_who_can_not_freeze_says_why(tmp_path: Path) -> None:
    v2_tree(tmp_path)
    found = find_cgroups(
        mounts=mounts(tmp_path), own=V2_OWN, pids=(7,), is_usable=lambda folder: False
    )
    assert isinstance(found.freezer, str)
    assert "can't be written to" in found.freezer
    assert found.make("g", LIMITS, may_freeze=True).freezer is None
    text = f"cgroup {tmp_path} cgroup rw,freezer 0 0\n"
    found = find_cgroups(mounts=text, own="1:freezer:/\n")
    assert found.freezer == "no control group counts processor time (cpuacct)"
    assert find_cgroups(mounts="", own="").freezer == "this machine's control groups can't freeze"


def group_of(tmp_path: Path, version: int) -> Group:
    """Make a group that bounds processors."""
    if version == 2:
        v2_tree(tmp_path)
        found = find_cgroups(mounts=mounts(tmp_path), own=V2_OWN, pids=(7,))
    else:
        found = find_cgroups(mounts=f"cgroup {tmp_path} cgroup rw,cpu 0 0\n", own="1:cpu:/\n")
    return found.make("g", LIMITS)


@pytest.mark.parametrize("version", [1, 2])
def test_a_group_gives_way_and_gets_its_weight_back(tmp_path: Path, version: int) -> None:
    group = group_of(tmp_path, version)
    # A kernel without the file can't.
    assert not group.give_way(to_others=True)
    (folder,) = group.folders
    (folder / "cpu.idle").write_text("0")
    assert group.give_way(to_others=True)
    assert group.gives_way
    weight = folder / ("cpu.shares" if version == 1 else "cpu.weight")
    held = weight.read_text()
    weight.write_text("3")
    assert group.give_way(to_others=False)
    assert not group.gives_way
    assert weight.read_text() == held == ("1536" if version == 1 else "150")


@pytest.mark.parametrize("version", [1, 2])
def test_a_groups_processor_time_is_bounded_anew(tmp_path: Path, version: int) -> None:
    group = group_of(tmp_path, version)
    (folder,) = group.folders
    file = folder / ("cpu.cfs_quota_us" if version == 1 else "cpu.max")
    before = file.read_text()
    group.bound_cpu(0.01)
    assert file.read_text() == ("1000" if version == 1 else "1000 100000")
    group.bound_cpu(LIMITS.cpu)
    assert file.read_text() == before == ("150000" if version == 1 else "150000 100000")


def test_what_a_machine_does_not_bound_is_not_made_up(tmp_path: Path) -> None:
    group = find_cgroups(mounts=f"cgroup {tmp_path} cgroup rw,pids 0 0\n", own="1:pids:/\n").make(
        "g", LIMITS
    )
    group.bound_cpu(0.01)
    (folder,) = group.folders
    assert not (folder / "cpu.cfs_quota_us").exists()
