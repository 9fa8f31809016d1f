"""The view that a version's sessions have in common: built once, and never of yesterday's files."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

PROGRAM = """
import json, os, sys
from dataclasses import replace
from pathlib import Path
from trunkline.runtimes.process.sandbox.inside import kernel
from trunkline.runtimes.process.sandbox.inside.common import CommonView
from trunkline.runtimes.process.sandbox.inside.mounts import add_own, new_proc
from trunkline.runtimes.process.sandbox.inside.plan import Plan

root = Path(sys.argv[1])
for name in ("root", "code", "code/late"):
    (root / name).mkdir()
(root / "code/note").write_text("first")
(root / "single").write_text("first")
kernel.unshare(kernel.CLONE_NEWNS)
kernel.mount("none", "/", "", kernel.MS_REC | kernel.MS_SLAVE)
plan = Plan(
    command=(), environment={}, working_dir="/", root="",
    binds=(("/usr", "/usr", "ro"), (str(root / "code"), "/tmp/deep/code", "ro"),
           (str(root / "single"), "/etc/single", "ro")),
    links=(), files=(("/etc/hostname", "session"),), own_files=(("/etc/passwd", "mine"),),
    tmp_bytes=1 << 20, uid=None, own_network=True, proxy_port=0, filter="",
)


def seen(plan, *look):
    space = common.of(plan)
    # What is open keeps its number, so another one has another.
    kept.append(os.dup(space))
    told, tell = os.pipe()
    if os.fork() == 0:
        processes = new_proc()
        kernel.enter(space, kernel.CLONE_NEWNS)
        kernel.unshare(kernel.CLONE_NEWNS)
        add_own(plan, processes)
        found = {}
        for path in look:
            try:
                found[path] = Path(path).read_text()
            except IsADirectoryError:
                found[path] = sorted(os.listdir(path))
            except OSError as error:
                found[path] = type(error).__name__
        for path in ("/new", "/etc/passwd", "/dev/new", "/tmp/deep/code/new", "/proc/sys/new"):
            try:
                Path(path).write_text("")
                found["wrote"] = path
            except OSError:
                pass
        Path("/tmp/own").write_text("")
        os.write(tell, json.dumps(found).encode())
        os._exit(0)
    os.close(tell)
    os.wait()
    with open(told) as file:
        return json.loads(file.read()), os.fstat(space).st_ino


common, kept = CommonView(str(root / "root")), []
places = ("/etc/hostname", "/etc/passwd", "/tmp", "/tmp/deep/code/note", "/etc/single", "/dev/shm")
steps = {"first": seen(plan, *places)}
steps["other user"] = seen(replace(plan, own_files=(("/etc/passwd", "yours"),)), *places)
(root / "single.new").write_text("second")
os.replace(root / "single.new", root / "single")
steps["replaced"] = seen(plan, *places)
kernel.mount("tmpfs", str(root / "code/late"), "tmpfs", 0)
(root / "code/late/there").write_text("")
steps["mounted"] = seen(plan, *places, "/tmp/deep/code/late")
steps["again"] = seen(plan, *places)
print(json.dumps(steps))
"""


def test_it_is_built_once_and_anew_when_something_of_it_is_new(tmp_path: Path) -> None:
    assert os.geteuid() == 0, "this test mounts something"
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(tmp_path)],
        capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    steps: dict[str, Any] = json.loads(done.stdout)
    views = {name: view for name, (_, view) in steps.items()}
    found = {name: seen for name, (seen, _) in steps.items()}

    assert found["first"] == {
        "/etc/hostname": "session",
        "/etc/passwd": "mine",
        "/tmp": ["deep"],
        "/tmp/deep/code/note": "first",
        "/etc/single": "first",
        "/dev/shm": [],
    }
    # What one has of its own, or writes, no other one sees.
    assert found["other user"] == found["first"] | {"/etc/passwd": "yours"}
    assert views["other user"] == views["first"]

    assert found["replaced"] == found["first"] | {"/etc/single": "second"}
    assert views["replaced"] != views["first"]

    assert found["mounted"].pop("/tmp/deep/code/late") == ["there"]
    assert found["mounted"] == found["again"] == found["replaced"]
    assert views["mounted"] != views["replaced"]
    assert views["again"] == views["mounted"]
