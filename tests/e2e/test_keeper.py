"""The process that stays, and what becomes of the others when one of them ends."""

import os
import re
import signal
import time
from pathlib import Path

import pytest

from tests.support.platform import Platform, ask, kill, until_ended, until_gone


async def test_the_platforms_own_process_is_killed(
    platform: Platform, probe: str, token: str
) -> None:
    async with platform.connect(probe, "kept", token=token) as websocket:
        agent = (await ask(websocket, "facts"))["pid"]
        os.kill(platform.serving_pid, signal.SIGKILL)
        # Its keeper tells how the platform ended, and has ended the agents; what is in a
        # sandbox is gone a moment after that.
        assert platform.wait() == -signal.SIGKILL
        await until_gone(agent)
    platform.start()


async def test_the_keeper_is_killed(platform: Platform, probe: str, token: str) -> None:
    async with platform.connect(probe, "kept", token=token) as websocket:
        agent = (await ask(websocket, "facts"))["pid"]
        serving = platform.serving_pid
        platform.signal(signal.SIGKILL)
        platform.wait()
        await until_ended(serving)
        await until_gone(agent)
    platform.start()


async def test_an_agents_end_is_told_by_the_keeper(
    platform: Platform, probe: str, token: str
) -> None:
    async with platform.connect(probe, "ends", token=token) as websocket:
        agent = (await ask(websocket, "facts"))["pid"]
    launcher = int(re.findall(r"Started: process (\d+)", platform.events(probe, "ends"))[-1])
    kill(agent)
    deadline = time.monotonic() + 20
    while "Exited: signal 9" not in platform.events(probe, "ends"):
        assert time.monotonic() < deadline
    # It was reaped, by the one who can.
    await until_gone(agent)
    assert not Path(f"/proc/{launcher}").exists()


def test_a_bad_setting_is_told_through_the_keeper(tmp_path: Path) -> None:
    platform = Platform(tmp_path / "state", TRUNKLINE_GATEWAY_MAX_HEAD_BYTES="1")
    with pytest.raises(AssertionError, match="no ready line"):
        platform.start()
    assert platform.wait() == 2
    assert "TRUNKLINE_GATEWAY_MAX_HEAD_BYTES=1 must be at least 1024" in platform.log()
