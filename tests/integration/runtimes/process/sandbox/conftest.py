"""Agents that are programs of a few lines, for the tests of how they are started."""

import asyncio
import json
import os
import sys
import textwrap
from collections.abc import AsyncIterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.conformance.runtimes.support import RecordingSink, Starter
from trunkline.runtimes.interface import InstanceSpec, Launch, StartStatus
from trunkline.runtimes.process.runtime import ProcessRuntime
from trunkline.runtimes.process.settings import ProcessSettings

SERVE = """
import contextlib as _contextlib, json as _json, os as _os, socket as _socket
def serve(found):
    with open(_os.path.join(_os.environ["HOME"], "found.json"), "w") as file:
        _json.dump(found, file)
    server = _socket.socket(_socket.AF_UNIX)
    server.bind(_os.environ["TRUNKLINE_AGENT_SOCKET"])
    server.listen()
    while True:
        connection, _ = server.accept()
        # Who asks may have gone.
        with connection, _contextlib.suppress(ConnectionError):
            connection.recv(4096)
            connection.sendall(b"HTTP/1.1 200 OK\\r\\nContent-Length: 0\\r\\n\\r\\n")
"""


class Agents:
    """Starts programs of a few lines, with modules of somebody else's beside them."""

    def __init__(self, root: Path, start: str = "zygote", **settings: Any) -> None:
        self.runtime = ProcessRuntime(
            ProcessSettings(
                state_dir=root / "state",
                run_dir=root / "run",
                platform_environment={"PATH": os.defpath},
                start=start,
                **settings,
            )
        )
        self._starter = Starter(self.runtime, root / "homes")
        self._code = root / "code"
        self._modules = self._code / ".python_packages" / "lib" / "site-packages"
        self._modules.mkdir(parents=True)

    def spec(
        self,
        program: str,
        *arguments: str,
        modules: Mapping[str, str] | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> InstanceSpec:
        (self._code / "main.py").write_text(SERVE + textwrap.dedent(program))
        for name, text in (modules or {}).items():
            (self._modules / f"{name}.py").write_text(textwrap.dedent(text))
        return replace(
            self._starter.spec(environment=environment),
            launch=Launch(
                command=(sys.executable, "main.py", *arguments),
                working_dir=str(self._code),
                environment={"PYTHONPATH": str(self._modules), "PYTHONHASHSEED": "random"},
            ),
        )

    def again(self, spec: InstanceSpec) -> InstanceSpec:
        """Return the same for another session."""
        home = self._starter.spec().home
        return replace(spec, home=home)

    async def find(self, spec: InstanceSpec) -> Any:
        """Start a session, and return what its program has found out."""
        instance = await self.runtime.start(spec, RecordingSink())
        await instance.stop()
        return json.loads((spec.home / "found.json").read_text())

    def status(self, spec: InstanceSpec) -> StartStatus:
        return self.runtime.start_status(spec.key.project, spec.key.agent, spec.version)

    async def warm_up(self, spec: InstanceSpec) -> StartStatus:
        async with asyncio.timeout(60):
            return await self.runtime.warm_up(spec)


@pytest.fixture
async def agents(tmp_path: Path) -> AsyncIterator[Agents]:
    made = Agents(tmp_path)
    yield made
    await made.runtime.aclose()
