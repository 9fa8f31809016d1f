"""The platform as a subprocess, and its command line."""

import asyncio
import os
import sys
from pathlib import Path

START_TIMEOUT_S = 60.0
STOP_TIMEOUT_S = 30.0
_READY = "ready "


class PlatformError(Exception):
    """A ``trunkline`` command failed. ``str`` has what it said."""


def _trunkline() -> list[str]:
    beside = Path(sys.executable).with_name("trunkline")
    return [str(beside)] if beside.is_file() else [sys.executable, "-m", "trunkline"]


class Platform:
    """``trunkline up`` in a state directory of its own."""

    def __init__(self, state_dir: Path, log: Path) -> None:
        self._state_dir = state_dir
        self._log = log
        self._process: asyncio.subprocess.Process | None = None
        self._copying: asyncio.Task[None] | None = None
        self.url = ""

    async def start(self) -> None:
        """Start it and return when it serves."""
        self._process = await asyncio.create_subprocess_exec(
            *_trunkline(), "up", "--port", "0", "--state-dir", str(self._state_dir),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )  # fmt: skip
        ready = asyncio.get_running_loop().create_future()
        self._copying = asyncio.create_task(self._copy_output(ready), name="platform-output")
        try:
            async with asyncio.timeout(START_TIMEOUT_S):
                self.url = await ready
        except TimeoutError:
            raise PlatformError(f"it wasn't ready after {START_TIMEOUT_S:.0f} s") from None

    async def _copy_output(self, ready: asyncio.Future[str]) -> None:
        assert self._process is not None
        assert self._process.stdout is not None
        with self._log.open("wb", buffering=0) as log:
            while line := await self._process.stdout.readline():
                log.write(line)
                text = line.decode(errors="replace").strip()
                if text.startswith(_READY) and not ready.done():
                    ready.set_result(text.removeprefix(_READY))
        if not ready.done():
            ready.set_exception(PlatformError("it ended before it was ready"))

    async def run(self, *arguments: str, timeout_s: float = 60.0) -> str:
        """Run another command against this platform and return what it printed."""
        environment = {
            **os.environ,
            "TRUNKLINE_ENDPOINT": f"{self.url}/api/projects/default",
            "TRUNKLINE_HOME": str(self._state_dir),
        }
        process = await asyncio.create_subprocess_exec(
            *_trunkline(), *arguments,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env=environment,
        )  # fmt: skip
        try:
            async with asyncio.timeout(timeout_s):
                output, errors = await process.communicate()
        except BaseException as error:
            if process.returncode is None:
                process.kill()
                await process.wait()
            if isinstance(error, TimeoutError):
                raise PlatformError(
                    f"`trunkline {arguments[0]}` took over {timeout_s:.0f} s"
                ) from None
            raise
        if process.returncode:
            said = (errors or output).decode(errors="replace").strip()
            raise PlatformError(
                f"`trunkline {arguments[0]}` ended with {process.returncode}:\n{said}"
            )
        return output.decode(errors="replace")

    async def stop(self) -> int | None:
        """End it: SIGTERM, then SIGKILL if need be. Returns its exit code; twice is fine."""
        if self._process is None:
            return None
        if self._process.returncode is None:
            self._process.terminate()
            try:
                async with asyncio.timeout(STOP_TIMEOUT_S):
                    await self._process.wait()
            except TimeoutError:
                self._process.kill()
                await self._process.wait()
        if self._copying is not None:
            await self._copying
        return self._process.returncode
