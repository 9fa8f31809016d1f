"""The platform that `trunkline run` has behind it: started, and ended whatever it does."""

import asyncio
import os
import signal
from pathlib import Path

import pytest

from trunkline.cli import local_platform
from trunkline.cli.local_platform import LocalPlatform


@pytest.mark.timeout(240)
async def test_a_platform_that_does_not_end_is_killed_after_ctrl_c(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(local_platform, "_STOP_TIMEOUT_S", 0.5)
    platform = LocalPlatform(tmp_path, host="127.0.0.1", port=0, settings={})
    serves = asyncio.Event()

    async def work() -> None:
        try:
            await platform.start()
            serves.set()
            await platform.wait()
        finally:
            await platform.aclose()

    # What Ctrl-C does is cancel the task; a process that stands still doesn't hear SIGTERM.
    running = asyncio.create_task(work())
    await serves.wait()
    process = platform._process
    assert process is not None
    assert process.stdout is not None
    os.kill(process.pid, signal.SIGSTOP)
    running.cancel()
    await asyncio.wait((running,))
    is_left = process.returncode is None
    if is_left:
        process.kill()
    # What serves ends when that process does.
    await process.stdout.read()
    assert not is_left
    assert process.returncode == -signal.SIGKILL
