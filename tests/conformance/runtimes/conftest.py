import asyncio
import os
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
import uvloop

from tests.conformance.runtimes.support import AGENT_PLATFORM_ENVIRONMENT, Starter
from trunkline.runtimes.interface import Runtime, StartMode
from trunkline.runtimes.process.runtime import ProcessRuntime
from trunkline.runtimes.process.settings import ProcessSettings


def pytest_asyncio_loop_factories() -> dict[str, Callable[[], asyncio.AbstractEventLoop]]:
    return {"asyncio": asyncio.new_event_loop, "uvloop": uvloop.new_event_loop}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Leave to the long run what no platform does: sandboxes on asyncio's own event loop."""
    for item in items:
        if item.path.is_relative_to(Path(__file__).parent) and any(
            f"[asyncio-{kind}" in item.name for kind in ("sandboxed", "forked")
        ):
            item.add_marker(pytest.mark.long)


def make_process_runtime(tmp_path: Path, sandbox: str, start: str) -> ProcessRuntime:
    return ProcessRuntime(
        ProcessSettings(
            state_dir=tmp_path / "state",
            platform_environment=AGENT_PLATFORM_ENVIRONMENT,
            drain_timeout_s=0.3,
            sandbox=sandbox,
            start=start,
        )
    )


@pytest.fixture(
    params=[("off", "spawn"), ("required", "spawn"), ("required", "zygote")],
    ids=["process", "sandboxed", "forked"],
)
def kind(request: pytest.FixtureRequest) -> tuple[str, str]:
    """Whether the process runtime's agents are in sandboxes, and how they are started."""
    kind: tuple[str, str] = request.param
    return kind


@pytest.fixture
def sandbox(kind: tuple[str, str]) -> str:
    """Whether the process runtime's agents are in sandboxes. As root, all of it is to be had."""
    mode, _ = kind
    return mode if mode == "off" or os.geteuid() == 0 else "auto"


@pytest.fixture
async def runtime(sandbox: str, kind: tuple[str, str], tmp_path: Path) -> AsyncIterator[Runtime]:
    _, start = kind
    made = make_process_runtime(tmp_path, sandbox, start)
    if start == "zygote":
        first = Starter(made, tmp_path / "first").spec()
        status = await made.warm_up(first)
        assert status.mode == StartMode.ZYGOTE, status.reason
    yield made
    await made.aclose()


@pytest.fixture
def starter(runtime: Runtime, tmp_path: Path) -> Starter:
    return Starter(runtime, tmp_path)
