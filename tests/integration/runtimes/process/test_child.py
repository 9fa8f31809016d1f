"""Processes and their groups, with and without the kernel's process descriptors."""

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conformance.runtimes.support import is_running, wait_gone
from trunkline.runtimes.process.child import Child, start_child
from trunkline.runtimes.process.output import OutputPipe


@pytest.fixture(params=["pidfd", "thread"], autouse=True)
def way_to_wait(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_: int) -> int:
        raise PermissionError

    if request.param == "thread":
        monkeypatch.setattr(os, "pidfd_open", refuse)


def start(code: str, tmp_path: Path, stdout: int = subprocess.DEVNULL) -> Child:
    return start_child(
        (sys.executable, "-I", "-c", code),
        cwd=tmp_path,
        env={},
        stdout=stdout,
        stderr=subprocess.DEVNULL,
    )


@pytest.fixture
def inheritable_fd() -> Iterator[int]:
    read, write = os.pipe()
    os.set_inheritable(write, True)
    yield write
    os.close(read)
    os.close(write)


@pytest.mark.parametrize(
    ("code", "returncode"),
    [("raise SystemExit(7)", 7), ("import os; os.kill(os.getpid(), 9)", -9)],
)
async def test_end_is_told(tmp_path: Path, code: str, returncode: int) -> None:
    assert await start(code, tmp_path).wait() == returncode


async def test_nothing_is_signalled_after_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    child = start("", tmp_path)
    await child.wait()
    signalled: list[int] = []
    monkeypatch.setattr(os, "killpg", lambda pid, _: signalled.append(pid))
    child.signal_group(signal.SIGKILL)
    assert signalled == []


async def test_cancelled_wait_kills(tmp_path: Path) -> None:
    child = start("import signal; signal.pause()", tmp_path)
    wait = asyncio.create_task(child.wait())
    await asyncio.sleep(0)
    wait.cancel()
    with pytest.raises(asyncio.CancelledError):
        await wait
    await wait_gone(child.pid)
    assert not is_running(child.pid)


async def test_descriptors_of_ours_are_not_inherited(tmp_path: Path, inheritable_fd: int) -> None:
    got = bytearray()
    pipe = OutputPipe(got.extend)
    child = start("import os; print(os.listdir('/proc/self/fd'))", tmp_path, pipe.write_fd)
    pipe.close_write_end()
    await child.wait()
    await pipe.ended.wait()
    assert got.decode().strip() == "['0', '1', '2', '3']"


async def test_program_that_is_not_there_raises_or_ends(tmp_path: Path) -> None:
    # Through setpriv it is setpriv that fails, as a shell would.
    try:
        child = start_child(("/nowhere",), cwd=tmp_path, env={}, stdout=-3, stderr=-3)
    except FileNotFoundError:
        return
    assert await child.wait() == 127
