"""Ends agents with an interface in every way there is, in the `world`, and prints what is left.

Run as any user, with the arguments of ``direct_drive``. A platform of its own has three of them:
one is stopped, one crashes, and the third is alive when the platform is killed.
"""

import asyncio
import contextlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

import direct_drive
import world

from trunkline.runtimes.process.runtime import ProcessRuntime
from trunkline.runtimes.process.settings import ProcessSettings

KINDS = ("net", "user", "pid", "mnt", "uts", "ipc")
FACTS = {
    "peer": world.PEER, "port": world.PORT, "private": world.PRIVATE, "peers": (), "refused": (),
    "platform_port": 1, "neighbours_port": 7070, "tries": False,
}  # fmt: skip
PATIENCE_S = 20.0


def namespaces_of(pid):
    """Return a process's namespaces that aren't ours; those that can't be seen are left out."""
    found = set()
    for kind in KINDS:
        with contextlib.suppress(OSError):
            found.add(os.readlink(f"/proc/{pid}/ns/{kind}"))
    return found - {os.readlink(f"/proc/self/ns/{kind}") for kind in KINDS}


def left_of(namespaces):
    """Return who is still in one of some namespaces, and what keeps one without a process."""
    left = []
    for pid in [name for name in os.listdir("/proc") if name.isdecimal()]:
        with contextlib.suppress(OSError):
            if "Z" not in re.search(r"State:\t(.*)", Path(f"/proc/{pid}/status").read_text())[1]:
                left += [f"process {pid} in {each}" for each in namespaces_of(pid) & namespaces]
    mounts = Path("/proc/self/mountinfo").read_text()
    return left + [f"a mount of {each}" for each in namespaces if each in mounts]


def until_gone(namespaces):
    """Wait until nobody is in them any more; return who is in the end."""
    until = time.monotonic() + PATIENCE_S
    while (left := left_of(namespaces)) and time.monotonic() < until:
        time.sleep(0.05)
    return left


async def be_platform():
    root = Path(direct_drive.folder)
    os.umask(0o077)
    runtime = ProcessRuntime(
        ProcessSettings(
            state_dir=root / "state", run_dir=root / "run", start=direct_drive.start,
            network="direct",
        )
    )  # fmt: skip
    specs = {
        name: direct_drive.spec(root, name, FACTS) for name in ("stopped", "crashed", "killed")
    }
    await runtime.warm_up(specs["stopped"])
    instances = {
        name: await runtime.start(spec, direct_drive.Sink()) for name, spec in specs.items()
    }
    seen = {
        name: sorted(namespaces_of(instance.pid) | namespaces_of(instance._box._interface.pid))
        for name, instance in instances.items()
    }
    groups = [
        folder for name in ("stopped", "crashed") for folder in instances[name]._box._group.folders
    ]
    assert groups or os.geteuid(), "root bounds agents by groups"
    await instances["stopped"].stop()
    os.kill(instances["crashed"].pid, signal.SIGSEGV)
    await instances["crashed"].wait_exited()
    ended = {each for name in ("stopped", "crashed") for each in seen[name]} - {*seen["killed"]}
    print(
        json.dumps(
            {
                "seen": seen,
                "left": until_gone(ended),
                "groups": [str(group) for group in groups if group.exists()],
            }
        ),
        flush=True,
    )
    await asyncio.Event().wait()


def main():
    interfaces = sorted(name for _, name in socket.if_nameindex())
    platform = subprocess.Popen(
        [sys.executable, *sys.orig_argv[1:]], stdout=subprocess.PIPE, text=True,
        env=os.environ | {"ROLE": "platform"},
    )  # fmt: skip
    line = platform.stdout.readline()
    said = json.loads(line)
    alive = left_of(set(said["seen"]["killed"]))
    platform.kill()
    platform.wait()
    left = until_gone(set(said["seen"]["killed"]))
    print(
        json.dumps(
            {
                **said,
                "alive": alive,
                "left_when_killed": left,
                "carriers": direct_drive.carriers(),
                "interfaces": [interfaces, sorted(name for _, name in socket.if_nameindex())],
            }
        )
    )


if os.environ.get("ROLE") == "platform":
    asyncio.run(be_platform())
else:
    main()
