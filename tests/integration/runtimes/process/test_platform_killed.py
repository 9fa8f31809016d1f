"""Agents end with the platform, even if it has no time to stop them."""

import asyncio
import json
import os
import shutil
import signal
import sys
from pathlib import Path

import pytest

from tests.conformance.runtimes.support import AGENT, wait_gone
from trunkline.runtimes.process.runtime import ProcessRuntime
from trunkline.runtimes.process.sandbox.cgroups import find_cgroups
from trunkline.runtimes.process.settings import ProcessSettings

PLATFORM = """
import asyncio, json, os, sys
from pathlib import Path
sys.path.insert(0, os.getcwd())
from tests.conformance.runtimes.support import RecordingSink, Starter
from trunkline.runtimes.process.runtime import ProcessRuntime
from trunkline.runtimes.process.settings import ProcessSettings
import uvloop

async def main(root):
    settings = ProcessSettings(state_dir=root, run_dir=root / "run", start="START")
    runtime = ProcessRuntime(settings)
    starter = Starter(runtime, root)
    assert (await runtime.warm_up(starter.spec())).mode == "START"
    instance = await runtime.start(starter.spec(), RecordingSink())
    print(json.dumps({"pid": instance.pid}), flush=True)
    await asyncio.Event().wait()

with asyncio.Runner(loop_factory=getattr(LOOP_MODULE, "new_event_loop")) as runner:
    runner.run(main(Path(sys.argv[1])))
"""


@pytest.mark.skipif(shutil.which("setpriv") is None, reason="needs setpriv of util-linux")
@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
@pytest.mark.parametrize("start", ["spawn", "zygote"])
async def test_agent_dies_with_a_killed_platform(tmp_path: Path, loop: str, start: str) -> None:
    platform = await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        PLATFORM.replace("LOOP_MODULE", loop).replace("START", start),
        str(tmp_path),
        stdout=asyncio.subprocess.PIPE,
        cwd=AGENT.parents[3],
    )
    assert platform.stdout is not None
    pid = json.loads(await platform.stdout.readline())["pid"]
    platform.send_signal(signal.SIGKILL)
    await platform.wait()
    await wait_gone(pid)
    # What it couldn't remove the next platform does that starts here, whosever it is.
    groups = list(find_cgroups().groups(f"trunkline-node-{platform.pid}-"))
    for group in groups:
        os.utime(group, (0, 0))
    settings = ProcessSettings(state_dir=tmp_path, run_dir=tmp_path / "run")
    await (await ProcessRuntime(settings).opened()).aclose()
    assert not [group for group in groups if group.exists()]
