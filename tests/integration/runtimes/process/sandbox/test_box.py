"""What a sandbox leaves outside: users, links, files, and the switch that insists."""

import asyncio
import itertools
import os
import socket
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.conformance.runtimes.support import RecordingSink, Starter, ask
from trunkline.runtimes.process.runtime import ProcessRuntime
from trunkline.runtimes.process.sandbox.accounts import Accounts
from trunkline.runtimes.process.sandbox.levels import SandboxUnavailableError, describe
from trunkline.runtimes.process.settings import ProcessSettings
from trunkline.sessions.home_files import HomeFiles


@pytest.fixture
async def runtime(tmp_path: Path) -> AsyncIterator[ProcessRuntime]:
    runtime = ProcessRuntime(ProcessSettings(state_dir=tmp_path / "state", sandbox="required"))
    yield runtime
    await runtime.aclose()


async def test_each_session_is_a_user_that_it_stays(
    runtime: ProcessRuntime, tmp_path: Path
) -> None:
    starter = Starter(runtime, tmp_path)
    first, second = starter.spec(), starter.spec()
    (first.home / "before").mkdir()
    (first.home / "before" / "file").write_text("put there while nothing ran")
    (first.home / "before" / "link").symlink_to("/etc/passwd")
    for spec in (first, second, first):
        instance = await runtime.start(spec, RecordingSink())
        await instance.stop()
    users = [spec.home.stat().st_uid for spec in (first, second)]
    assert users[0] != users[1]
    assert all(2_000_000_000 <= user < 2_100_000_000 for user in users)
    for name in ("before", "before/file", "before/link", "about.json"):
        assert (first.home / name).lstat().st_uid == users[0]
    assert os.stat("/etc/passwd").st_uid == 0


async def test_files_that_are_put_there_belong_to_the_sessions_user(
    runtime: ProcessRuntime, tmp_path: Path
) -> None:
    spec = Starter(runtime, tmp_path).spec()
    await (await runtime.start(spec, RecordingSink())).stop()
    uploaded = tmp_path / "uploaded"
    uploaded.write_text("hello")
    HomeFiles(spec.home).put("new/folder/file", uploaded)
    user = spec.home.stat().st_uid
    assert user != os.geteuid()
    for name in ("new", "new/folder", "new/folder/file"):
        assert (spec.home / name).stat().st_uid == user


def test_user_ids_are_given_out_in_turn_and_by_one_at_a_time(tmp_path: Path) -> None:
    one, other = (Accounts(tmp_path, first=3_000_000, count=10) for _ in range(2))
    homes = [tmp_path / f"home-{number}" for number in range(4)]
    for home in homes:
        home.mkdir()
    given = [accounts.own(home) for home, accounts in zip(homes, (one, other) * 2, strict=True)]
    assert len(set(given)) == 4
    steps = {(b - a) % 10 for a, b in itertools.pairwise(given)}
    assert steps == {1}
    assert [one.own(home) for home in homes] == given


PLANTER = """
import os, sys, time
os.symlink(sys.argv[1], os.environ["TRUNKLINE_AGENT_SOCKET"])
print("planted", flush=True)
time.sleep(600)
"""


async def test_a_link_to_anothers_socket_is_not_followed(
    runtime: ProcessRuntime, tmp_path: Path
) -> None:
    starter = Starter(runtime, tmp_path)
    victim, _ = await starter.start()
    assert b"200" in await ask(victim.address, "/readiness")
    spec = starter.spec(ready_timeout_s=3)
    command = (spec.launch.command[0], "-I", "-c", PLANTER, victim.address.path or "")
    object.__setattr__(spec.launch, "command", command)
    sink = RecordingSink()
    with pytest.raises(Exception, match="wasn't ready within 3 s"):
        await runtime.start(spec, sink)
    assert sink.stdout == "planted\n"


async def test_the_port_inside_is_not_the_machines(runtime: ProcessRuntime, tmp_path: Path) -> None:
    starter = Starter(runtime, tmp_path)
    one, _ = await starter.start("--listen", "port")
    two, _ = await starter.start("--listen", "port")
    assert one.address != two.address
    assert b"hello" in await ask(one.address, "/x")
    assert b"hello" in await ask(two.address, "/x")
    with socket.socket() as sock:
        # Nobody listens there out here.
        assert sock.connect_ex(("127.0.0.1", 8088)) != 0


async def test_a_large_answer_comes_whole_through_the_bridge(
    runtime: ProcessRuntime, tmp_path: Path
) -> None:
    spec = Starter(runtime, tmp_path).spec()
    code = (
        "import http.server, os\n"
        "class H(http.server.BaseHTTPRequestHandler):\n"
        "    def do_GET(self):\n"
        "        self.send_response(200); self.end_headers()\n"
        "        if self.path == '/big': self.wfile.write(bytes(range(256)) * 65536)\n"
        "http.server.HTTPServer(('127.0.0.1', int(os.environ['PORT'])), H).serve_forever()\n"
    )
    object.__setattr__(spec.launch, "command", (spec.launch.command[0], "-I", "-c", code))
    instance = await runtime.start(spec, RecordingSink())
    answer = await ask(instance.address, "/big")
    assert answer.partition(b"\r\n\r\n")[2] == bytes(range(256)) * 65536


async def test_required_names_what_is_lacking(tmp_path: Path) -> None:
    settings = ProcessSettings(state_dir=tmp_path, sandbox="required", network="host")
    with pytest.raises(SandboxUnavailableError, match="network: TRUNKLINE_PROCESS_NETWORK is host"):
        await ProcessRuntime(settings).opened()


async def test_auto_goes_on_and_says_that_there_is_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "trunkline.runtimes.process.sandbox.spare._LAUNCH",
        "import sys; sys.exit(5)",
    )
    runtime = ProcessRuntime(ProcessSettings(state_dir=tmp_path))
    level = await runtime.find_level()
    assert level.ground is None
    assert describe(level)[0].startswith("isolation: NONE: ")
    instance = await runtime.start(Starter(runtime, tmp_path).spec(), RecordingSink())
    assert b"200" in await ask(instance.address, "/readiness")
    await runtime.aclose()


async def test_off_is_off_and_says_so(tmp_path: Path) -> None:
    runtime = ProcessRuntime(ProcessSettings(state_dir=tmp_path, sandbox="off"))
    level = await runtime.find_level()
    assert describe(level)[0] == "isolation: NONE: TRUNKLINE_PROCESS_SANDBOX is off"
    await runtime.aclose()
    await asyncio.sleep(0)
