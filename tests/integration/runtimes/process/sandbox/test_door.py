"""The port through which a sandbox reaches the platform: where it is, and when it opens."""

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import cast

import pytest

from tests.conformance.runtimes.support import RecordingSink, Starter
from trunkline.protocol.ids import SessionKey
from trunkline.runtimes.process.runtime import ProcessRuntime
from trunkline.runtimes.process.settings import ProcessSettings

#: Asks at the address it is told, prints what it gets, and serves as the runtime wants it.
ASKS = """
import os, socket, sys
from urllib.parse import urlsplit
where = urlsplit(os.environ["FOUNDRY_PROJECT_ENDPOINT"])
server = socket.socket(socket.AF_UNIX)
server.bind(os.environ["TRUNKLINE_AGENT_SOCKET"])
other = socket.create_server(("127.0.0.1", int(os.environ["PORT"])))
server.listen()
print(where.geturl(), flush=True)
with socket.create_connection((where.hostname, where.port)) as sock:
    sock.sendall(b"hello")
    print(sock.recv(4096).decode(), flush=True)
while True:
    connection, _ = server.accept()
    with connection:
        connection.recv(4096)
        connection.sendall(b"HTTP/1.1 200 OK\\r\\nContent-Length: 0\\r\\n\\r\\n")
"""


class Greeter(asyncio.Protocol):
    def __init__(self, greeting: str) -> None:
        self._greeting = greeting

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        writing = cast("asyncio.WriteTransport", transport)
        writing.write(self._greeting.encode())
        writing.close()


class Keeper:
    def __init__(self, key: SessionKey) -> None:
        self._key = key

    def new_connection(self) -> asyncio.Protocol:
        return Greeter(f"you are {self._key.session_id}")

    def finish(self) -> None:
        pass

    def close(self) -> None:
        pass


class Platform:
    """Stands for the platform: it says who asks."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.is_open = asyncio.Event()

    async def opened(self) -> None:
        await self.is_open.wait()

    def keeper_for(self, key: SessionKey, tell: Callable[[str], None]) -> Keeper:
        return Keeper(key)


@pytest.fixture
async def runtime(tmp_path: Path) -> AsyncIterator[ProcessRuntime]:
    runtime = ProcessRuntime(ProcessSettings(state_dir=tmp_path / "state", sandbox="required"))
    yield runtime
    await runtime.aclose()


@pytest.mark.parametrize(
    ("platforms", "told"),
    [(49152, 49152), (443, 443), (8088, 3129), (3128, 3129)],
)
async def test_the_platform_is_at_its_own_port_unless_agents_need_that(
    runtime: ProcessRuntime, tmp_path: Path, platforms: int, told: int
) -> None:
    platform = Platform(platforms)
    platform.is_open.set()
    runtime.use_doors(platform)
    endpoint = {"FOUNDRY_PROJECT_ENDPOINT": f"https://10.1.2.3:{platforms}/api/projects/default"}
    starter = Starter(runtime, tmp_path)
    for session in ("s1", "s2"):
        spec = starter.spec(environment=endpoint)
        object.__setattr__(spec.launch, "command", (spec.launch.command[0], "-I", "-c", ASKS))
        sink = RecordingSink()
        instance = await runtime.start(spec, sink)
        assert sink.stdout == f"http://127.0.0.1:{told}/api/projects/default\nyou are {session}\n"
        await instance.stop()


async def test_it_opens_when_the_platform_can_answer(
    runtime: ProcessRuntime, tmp_path: Path
) -> None:
    platform = Platform(49152)
    runtime.use_doors(platform)
    starter = Starter(runtime, tmp_path)
    spec = starter.spec()
    object.__setattr__(spec.launch, "command", (spec.launch.command[0], "-I", "-c", ASKS))
    sink = RecordingSink()
    starting = asyncio.create_task(runtime.start(spec, sink))
    await sink.wait_until(lambda: "/api/projects/default" in sink.stdout)
    # It has connected, or is about to, and waits.
    platform.is_open.set()
    await starting
    assert sink.stdout.endswith("you are s1\n")


async def test_one_that_never_opens_is_given_up_with_its_sandbox(
    runtime: ProcessRuntime, tmp_path: Path
) -> None:
    runtime.use_doors(Platform(49152))
    starter = Starter(runtime, tmp_path)
    spec = starter.spec()
    object.__setattr__(spec.launch, "command", (spec.launch.command[0], "-I", "-c", ASKS))
    sink = RecordingSink()
    starting = asyncio.create_task(runtime.start(spec, sink))
    await sink.wait_until(lambda: "/api/projects/default" in sink.stdout)
    starting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await starting
    assert "Exited" in sink.reasons


async def test_with_the_machines_network_nothing_is_different(tmp_path: Path) -> None:
    runtime = ProcessRuntime(ProcessSettings(state_dir=tmp_path / "state", network="host"))
    runtime.use_doors(Platform(49152))
    told = "https://10.1.2.3:49152/api/projects/default"
    spec = Starter(runtime, tmp_path).spec(environment={"FOUNDRY_PROJECT_ENDPOINT": told})
    code = ASKS[: ASKS.index("with socket.create")] + ASKS[ASKS.index("while True") :]
    object.__setattr__(spec.launch, "command", (spec.launch.command[0], "-I", "-c", code))
    sink = RecordingSink()
    await runtime.start(spec, sink)
    assert sink.stdout == f"{told}\n"
    await runtime.aclose()
