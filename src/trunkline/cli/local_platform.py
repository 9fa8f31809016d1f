"""The platform of one ``trunkline run``: a process of its own, with its state in the project."""

import asyncio
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from trunkline import config
from trunkline.aio.tasks import TaskOwner
from trunkline.cli.target import run_file
from trunkline.client import Endpoint
from trunkline.manifest.env_files import STATE_FOLDER
from trunkline.protocol.errors import TrunklineError

_READY = "ready "
_STOP_TIMEOUT_S = 20.0
_LOG_LINES = 20
#: Variables that would make it another platform than the project's own.
_NOT_TAKEN = ("TRUNKLINE_ENDPOINT", "TRUNKLINE_TOKEN", "TRUNKLINE_HOME", "FOUNDRY_PROJECT_ENDPOINT")


class LocalPlatformError(TrunklineError):
    """The platform didn't start, or ended."""

    code = "local_platform_failed"


class LocalPlatform:
    """``trunkline up`` with the state directory ``.trunkline/run`` of a project."""

    def __init__(self, project: Path, *, host: str, port: int, settings: Mapping[str, str]) -> None:
        """Describe it; nothing runs yet.

        Args:
            project: The project's folder.
            host: The address to listen on.
            port: The port; 0 takes a free one.
            settings: Environment variables for it.
        """
        self.state_dir = run_file(project).parent
        self._run_file = run_file(project)
        self._ignore_file = project / STATE_FOLDER / ".gitignore"
        self._host = host
        self._port = port
        self._settings = settings
        self._process: asyncio.subprocess.Process | None = None
        self.base = ""
        """Its address."""

    async def start(self) -> None:
        """Start it, and wait until it serves.

        Raises:
            LocalPlatformError: If it doesn't.
        """
        self.state_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not self._ignore_file.exists():
            self._ignore_file.write_text("*\n")
        env = {k: v for k, v in config.environment().items() if k not in _NOT_TAKEN}
        with (self.state_dir / "platform.log").open("wb") as log:
            self._process = await asyncio.create_subprocess_exec(
                *_dying_with_parent(), sys.executable, "-m", "trunkline", "up",
                "--host", self._host, "--port", str(self._port),
                "--state-dir", str(self.state_dir),
                stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=log,
                env={**env, **self._settings},
                # Ctrl-C is for this process; it stops the other one when it is done with it.
                start_new_session=True,
            )  # fmt: skip
        assert self._process.stdout is not None
        line = (await self._process.stdout.readline()).decode().strip()
        if not line.startswith(_READY):
            await self.aclose()
            raise LocalPlatformError(f"the local platform didn't start: {self.log_end()}")
        self.base = line.removeprefix(_READY)

    def announce(self, base: str) -> Endpoint:
        """Say where it is to be reached, for ``--endpoint local``; return that."""
        endpoint = Endpoint.parse(base)
        said = {"url": endpoint.url, "state_dir": str(self.state_dir.absolute())}
        self._run_file.write_text(json.dumps(said) + "\n")
        return endpoint

    async def wait(self) -> None:
        """Wait until it ends, which it shouldn't.

        Raises:
            LocalPlatformError: When it does.
        """
        assert self._process is not None
        code = await self._process.wait()
        raise LocalPlatformError(f"the local platform ended with {code}: {self.log_end()}")

    def log_end(self) -> str:
        """Return the end of its log."""
        with suppress(OSError):
            text = (self.state_dir / "platform.log").read_text(errors="replace")
            return "\n".join(text.rstrip().splitlines()[-_LOG_LINES:]) or "it said nothing"
        return "it said nothing"

    async def aclose(self) -> None:
        """Stop it, and wait for that. Twice is fine."""
        self._run_file.unlink(missing_ok=True)
        process = self._process
        if process is None or process.returncode is not None:
            return
        process.terminate()
        ended = TaskOwner().spawn(process.wait(), name="local platform:end", is_awaited=True)
        # Ctrl-C has cancelled the task this is done in, where `asyncio.timeout` doesn't tell the
        # time from another cancellation before Python 3.11.4.
        await asyncio.wait((ended,), timeout=_STOP_TIMEOUT_S)
        if not ended.done():
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
        await ended


def _dying_with_parent() -> tuple[str, ...]:
    setpriv = shutil.which("setpriv")
    return (setpriv, "--pdeathsig", "TERM", "--") if setpriv else ()
