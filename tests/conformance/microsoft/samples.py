"""Microsoft's samples as processes on trunkline's host, with one line of each changed."""

import asyncio
import contextlib
import os
import re
import signal
import socket
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path

import httpx2
from websockets.asyncio.client import connect

_THEIRS = "from azure.ai.agentserver.invocations import InvocationAgentServerHost\n"
_OURS = "from trunkline.agentserver import InvocationAgentServerHost\n"
_ATTEMPTS = 3


def with_our_import(source: str) -> str:
    """Return the source with its import of the host replaced, and nothing else."""
    before, found, after = source.partition(_THEIRS)
    assert found, "the sample doesn't import the host in the documented way"
    rest = before + after
    # Its own text may speak of other names, but no other line may import any.
    imports = re.findall(r"^\s*(?:from|import)\s+azure\b.*$", rest, re.MULTILINE)
    assert imports == [], "the sample imports more than the host"
    return before + _OURS + after


@dataclass
class Sample:
    """A sample that serves on a port of this machine."""

    process: asyncio.subprocess.Process
    port: int
    lines: list[str] = field(default_factory=list)

    def http(self) -> httpx2.AsyncClient:
        return httpx2.AsyncClient(base_url=f"http://127.0.0.1:{self.port}")

    def websocket(self) -> connect:
        return connect(f"ws://127.0.0.1:{self.port}/invocations_ws", proxy=None)

    async def has_started(self) -> bool:
        """Wait until it listens; False if its port was taken meanwhile."""
        assert self.process.stdout is not None
        async for line in self.process.stdout:
            self.lines.append(line.decode())
            if "agent host listening on" in self.lines[-1]:
                return True
        if "cannot listen on" in self.lines[-1]:
            return False
        raise AssertionError("".join(self.lines))

    async def stop(self) -> int:
        """Ask it to end, and return its exit code."""
        assert self.process.stdout is not None
        with contextlib.suppress(ProcessLookupError):
            self.process.send_signal(signal.SIGTERM)
        self.lines.append((await self.process.stdout.read()).decode())
        return await self.process.wait()


@contextlib.asynccontextmanager
async def serving(source: Path, folder: Path) -> AsyncIterator[Sample]:
    """Run a sample until the end of the block; it has to end in good order.

    Args:
        source: The sample's module.
        folder: Where to put the changed one.
    """
    script = folder / source.name
    script.write_text(with_our_import(source.read_text()))
    sample = await _start(script)
    try:
        yield sample
        code = await sample.stop()
        log = "".join(sample.lines)
        assert code == 0, log
        assert "Traceback" not in log, log
    finally:
        if sample.process.returncode is None:
            sample.process.kill()
            # Reads the output to its end, so that the pipe is closed when this returns.
            await sample.process.communicate()


async def _start(script: Path) -> Sample:
    for _ in range(_ATTEMPTS):
        port = _free_port()
        process = await asyncio.create_subprocess_exec(
            sys.executable, script.name, cwd=script.parent,
            env={"PATH": os.environ.get("PATH", ""), "PORT": str(port)},
            stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
        )  # fmt: skip
        sample = Sample(process, port)
        if await sample.has_started():
            return sample
        await process.wait()
    raise AssertionError("each port the system picked was taken before the sample had it")


def _free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])
