"""Agent hosts from the package index: the platform's own, and another."""

import os
import subprocess
from pathlib import Path

import pytest

from trunkline.protocol.ids import AgentName, NodeId, ProjectName, SessionId, SessionKey, VersionId
from trunkline.runtimes.interface import (
    ExitStatus,
    InstanceSpec,
    Launch,
    LogStream,
    VersionSource,
)
from trunkline.runtimes.process.environment import EnvironmentBuilder
from trunkline.runtimes.process.runtime import ProcessRuntime
from trunkline.runtimes.process.settings import ProcessSettings


class Log:
    def __init__(self) -> None:
        self.text = ""

    def write(self, text: str) -> None:
        self.text += text


def run(launch: Launch) -> str:
    return subprocess.check_output(
        launch.command,
        cwd=launch.working_dir,
        env=dict(launch.environment),
        stderr=subprocess.STDOUT,
        text=True,
    )


@pytest.mark.timeout(180)
@pytest.mark.parametrize("requirements", [None, "trunkline>=0.1\n"], ids=["added", "named"])
async def test_own_host_is_installed_and_imports(tmp_path: Path, requirements: str | None) -> None:
    code = tmp_path / "agent"
    code.mkdir()
    (code / "main.py").write_text("import trunkline.agentserver as a; print(a.__file__)")
    if requirements is not None:
        (code / "requirements.txt").write_text(requirements)
    settings = ProcessSettings(state_dir=tmp_path / "state", platform_environment=dict(os.environ))
    log = Log()
    launch = await EnvironmentBuilder(settings).build(
        VersionSource(
            agent="agent",
            version=VersionId("1"),
            code_dir=code,
            runtime=None,
            entry_point=("python", "main.py"),
            dependency_resolution="remote_build",
        ),
        log,
    )
    printed = run(launch)
    assert printed.startswith(launch.environment["VIRTUAL_ENV"])
    assert "+ starlette==" in log.text


class Sink:
    def __init__(self) -> None:
        self.events: list[str] = []

    def write(self, stream: LogStream, data: bytes) -> None:
        pass

    def close_stream(self, stream: LogStream) -> None:
        pass

    def event(self, reason: str, message: str) -> None:
        self.events.append(f"{reason}: {message}")


@pytest.mark.long
@pytest.mark.timeout(600)
async def test_microsofts_host_is_ready_on_its_port(tmp_path: Path) -> None:
    code, home = tmp_path / "agent", tmp_path / "home"
    code.mkdir()
    home.mkdir()
    (code / "requirements.txt").write_text("azure-ai-agentserver-invocations\n")
    (code / "main.py").write_text(
        "from azure.ai.agentserver.invocations import InvocationAgentServerHost\n"
        "InvocationAgentServerHost().run()\n"
    )
    runtime = ProcessRuntime(
        ProcessSettings(state_dir=tmp_path / "state", platform_environment=dict(os.environ))
    )
    log, sink = Log(), Sink()
    launch = await runtime.build(
        VersionSource(
            agent="agent",
            version=VersionId("1"),
            code_dir=code,
            runtime=None,
            entry_point=("python", "main.py"),
            dependency_resolution="remote_build",
        ),
        log,
    )
    assert "+ trunkline" not in log.text
    instance = await runtime.start(
        InstanceSpec(
            key=SessionKey(ProjectName("default"), AgentName("agent"), SessionId("s")),
            version=VersionId("1"),
            launch=launch,
            home=home,
            environment={},
            node=NodeId("node-1"),
            ready_timeout_s=60,
            stop_timeout_s=30,
        ),
        sink,
    )
    (ready,) = [event for event in sink.events if event.startswith("Ready: ")]
    assert ready.endswith("on port 8088")
    assert await instance.stop() == ExitStatus(code=0)
    await runtime.aclose()
