"""Agents that don't work: each gets a clear answer, keeps its log, and hangs nothing."""

import asyncio
import json
import re
from pathlib import Path

import pytest
from websockets.exceptions import InvalidStatus
from websockets.http11 import Response

from tests.support.platform import Platform

YAML = """\
kind: hosted
name: {name}
protocols: [{{protocol: invocations_ws, version: 1.0.0}}]
"""


@pytest.fixture(scope="module")
def settings() -> dict[str, str]:
    return {"TRUNKLINE_SESSIONS_READY_TIMEOUT_S": "3", "TRUNKLINE_SESSIONS_STOP_TIMEOUT_S": "1"}


def write_agent(folder: Path, name: str, main: str, **files: str) -> Path:
    folder.mkdir()
    (folder / "agent.yaml").write_text(YAML.format(name=name))
    (folder / "main.py").write_text(main)
    for path, text in files.items():
        (folder / path.replace("_txt", ".txt")).write_text(text)
    return folder


async def refused(platform: Platform, agent: str, session_id: str, token: str) -> tuple[int, dict]:
    with pytest.raises(InvalidStatus) as caught:
        await platform.connect(agent, session_id, token=token)
    response = caught.value.response
    assert response.headers["x-agent-session-id"] == session_id
    assert response.headers["x-request-id"]
    assert response.body is not None
    return response.status_code, json.loads(response.body)["error"]


async def test_an_agent_that_exits_at_start(platform: Platform, token: str, tmp_path: Path) -> None:
    main = "import sys\nprint('about to fail', flush=True)\nsys.exit('no model found')\n"
    platform.deploy(write_agent(tmp_path / "a", "exits", main))
    status, error = await refused(platform, "exits", "s", token)
    assert (status, error["code"]) == (424, "session_not_ready")
    assert "exit code 1" in error["message"]
    assert "trunkline monitor exits --session-id s" in error["message"]
    events = platform.events("exits", "s")
    assert "about to fail" in events
    assert "no model found" in events
    assert "Exited: exit code 1" in events


def test_a_syntax_error_is_told_at_deploy(platform: Platform, tmp_path: Path) -> None:
    folder = write_agent(tmp_path / "a", "broken", "def f(:\n")
    done = platform.run("deploy", str(folder))
    assert done.code == 1
    assert "main.py" in done.stderr
    assert "SyntaxError" in done.stderr or "invalid syntax" in done.stderr
    assert "Traceback" not in done.stderr


async def test_an_agent_that_forgets_to_serve(
    platform: Platform, token: str, tmp_path: Path
) -> None:
    platform.deploy(write_agent(tmp_path / "a", "forgetful", "x = 1\n"))
    status, error = await refused(platform, "forgetful", "s", token)
    assert (status, error["code"]) == (424, "session_not_ready")
    assert "does it end with app.run()?" in error["message"]


async def test_an_agent_that_never_gets_ready(
    platform: Platform, token: str, tmp_path: Path
) -> None:
    main = (
        "import signal, time\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        "print('thinking', flush=True)\nwhile True: time.sleep(60)\n"
    )
    platform.deploy(write_agent(tmp_path / "a", "never", main))
    # Two who wait for one start get one answer each, at the same time.
    answers = await asyncio.gather(*(refused(platform, "never", "s", token) for _ in range(2)))
    for status, error in answers:
        assert (status, error["code"]) == (424, "session_not_ready")
        assert "ready_timeout_s" in error["message"]
    events = platform.events("never", "s")
    assert "thinking" in events
    assert events.count("system   Started") == 1


async def test_an_agent_that_crashes_again_and_again(
    platform: Platform, token: str, tmp_path: Path
) -> None:
    main = (
        "import os\nfrom trunkline.agentserver import InvocationAgentServerHost\n"
        "app = InvocationAgentServerHost()\n\n\n@app.ws_handler\nasync def handle(websocket):\n"
        "    await websocket.receive_text()\n    os._exit(3)\n\n\napp.run()\n"
    )
    platform.deploy(write_agent(tmp_path / "a", "crashes", main))

    async def crash() -> None:
        async with platform.connect("crashes", "s", token=token) as websocket:
            await websocket.send("now")
            await websocket.wait_closed()
            assert websocket.close_code == 1011

    async def crash_until_refused() -> tuple[int, Response]:
        # The third is refused, unless the machine is slower than the wait: then a later one.
        for crashes in range(8):
            try:
                await crash()
            except InvalidStatus as refused:
                return crashes, refused.response
        raise AssertionError("it was never refused")

    def failures_in(response: Response) -> int:
        assert response.body is not None
        error = json.loads(response.body)["error"]
        assert (response.status_code, error["code"]) == (503, "session_failing")
        assert "`trunkline monitor crashes --session-id s` shows why" in error["message"]
        failures = re.search(r"failed (\d+) times in a row", error["message"])
        assert failures is not None
        return int(failures[1])

    crashes, response = await crash_until_refused()
    assert failures_in(response) == crashes
    assert 1 <= int(response.headers["retry-after"]) <= 60
    assert "StartDelayed: it failed" in platform.events("crashes", "s")
    # The process that replaces this one knows of them.
    assert (await asyncio.to_thread(platform.run, "gateway", "reload")).code == 0
    more, response = await crash_until_refused()
    assert failures_in(response) == crashes + more
    assert platform.run("sessions", "stop", "crashes", "s").code == 0
    await crash()


async def test_requirements_that_cannot_be_installed(platform: Platform, tmp_path: Path) -> None:
    folder = write_agent(
        tmp_path / "a", "unbuildable", "", requirements_txt="no-such-package-of-anybody==1.0\n"
    )
    done = platform.run("deploy", str(folder))
    assert done.code == 1
    assert done.stdout == ""
    assert "no-such-package-of-anybody" in done.stderr
    assert "Traceback" not in done.stderr


async def test_a_failed_version_is_told_to_its_callers(
    platform: Platform, token: str, tmp_path: Path
) -> None:
    folder = write_agent(
        tmp_path / "a", "failed", "", requirements_txt="no-such-package-of-anybody==2.0\n"
    )
    assert platform.run("deploy", str(folder)).code == 1
    status, error = await refused(platform, "failed", "s", token)
    assert (status, error["code"]) == (424, "version_failed")
    assert "no-such-package-of-anybody" in error["message"]


NETWORK = """\
environment_variables:
  - name: TRUNKLINE_NETWORK
    value: {network}
"""


@pytest.mark.parametrize(
    ("network", "why"),
    [
        ("direct", "TRUNKLINE_NETWORK asks for direct, and this platform allows outbound"),
        ("wide", "TRUNKLINE_NETWORK is 'wide'; give none, outbound, direct or host"),
    ],
)
def test_a_network_that_is_not_to_be_had_is_told_at_deploy(
    platform: Platform, tmp_path: Path, network: str, why: str
) -> None:
    folder = write_agent(tmp_path / "a", f"net-{network}", "")
    with (folder / "agent.yaml").open("a") as file:
        file.write(NETWORK.format(network=network))
    done = platform.run("deploy", str(folder))
    assert done.code == 1
    assert why in done.stderr


@pytest.mark.parametrize(
    ("text", "place", "words"),
    [
        ("kind: hosted\nnme: x\n", "agent.yaml:2:1", "name"),
        ("kind: hosted\nname: my_agent\nprotocols: []\n", "agent.yaml:2:7", "letters, digits"),
        (
            "kind: hosted\nname: x\nprotocols:\n  - protocol: invocation_ws\n    version: 1.0.0\n",
            "agent.yaml:4:15",
            "invocations_ws",
        ),
        ("kind: hosted\n\tname: x\n", "agent.yaml:2", "tab"),
    ],
)
def test_a_mistake_in_agent_yaml_is_named_by_place(
    platform: Platform, tmp_path: Path, text: str, place: str, words: str
) -> None:
    (tmp_path / "agent.yaml").write_text(text)
    (tmp_path / "main.py").write_text("")
    done = platform.run("deploy", str(tmp_path))
    assert done.code != 0
    assert place in done.stderr
    assert words in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout == ""


def test_a_folder_without_agent_yaml(platform: Platform, tmp_path: Path) -> None:
    done = platform.run("deploy", str(tmp_path))
    assert done.code != 0
    assert "agent.yaml" in done.stderr
