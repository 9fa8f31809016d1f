"""A secret reaches the agent it is for, and nobody else: not the API, a log, or the store."""

import json
from pathlib import Path
from typing import Any

import httpx2
import pytest

from tests.support.platform import Platform, ask

FILLED, KEPT, PLAIN = "sk-filled-in-0123456789", "sk-kept-9876543210", "just a greeting"

AGENT_YAML = """
kind: hosted
name: keeper
protocols:
  - protocol: invocations_ws
    version: 1.0.0
environment_variables:
  - name: FILLED
    value: ${FILLED}
  - name: KEPT
    value: "prefix ${{secrets.KEPT}}"
  - name: PLAIN
    value: just a greeting
"""
MAIN = """
import json, os, sys
from trunkline.agentserver import InvocationAgentServerHost

app = InvocationAgentServerHost()

@app.ws_handler
async def talk(websocket):
    async for text in websocket.iter_text():
        print("FILLED is", os.environ["FILLED"], "and KEPT", os.environ["KEPT"], flush=True)
        print(os.environ["PLAIN"], file=sys.stderr, flush=True)
        names = ("FILLED", "KEPT", "PLAIN")
        await websocket.send_text(json.dumps({name: os.environ[name] for name in names}))

app.run()
"""


@pytest.fixture(scope="module")
def keeper(platform: Platform, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("keeper")
    (folder / "agent.yaml").write_text(AGENT_YAML)
    (folder / "main.py").write_text(MAIN)
    done = platform.run("env", "set", f"FILLED={FILLED}", cwd=folder)
    assert done.code == 0, done.stderr
    platform.deploy(folder, cwd=folder)
    return folder


def shown(platform: Platform, token: str, path: str) -> httpx2.Response:
    return httpx2.get(
        f"{platform.endpoint}/{path}",
        params={"api-version": "v1"},
        headers={"Authorization": f"Bearer {token}"},
        trust_env=False,
    )


def everything_in(folder: Path) -> bytes:
    """All of the state directory but the agents' code and its environments."""
    skipped = ("environments", "wheels", "code", "code.zip")
    return b"".join(
        path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and not set(path.relative_to(folder).parts) & set(skipped)
    )


async def test_a_session_without_the_secret_it_names_is_not_started(
    platform: Platform, token: str, keeper: Path
) -> None:
    with pytest.raises(Exception, match="424"):
        await platform.connect("keeper", "early", token=token)
    assert "trunkline secret set KEPT" in platform.run("connect", "keeper", stdin="x\n").stderr


async def test_secrets_reach_the_agent_and_nobody_else(
    platform: Platform, token: str, keeper: Path
) -> None:
    done = platform.run("secret", "set", "KEPT", stdin=f"{KEPT}\n")
    assert done.code == 0, done.stderr
    assert KEPT not in done.stdout + done.stderr
    async with platform.connect("keeper", "one", token=token) as websocket:
        told: dict[str, Any] = await ask(websocket, "tell")
    assert told == {"FILLED": FILLED, "KEPT": f"prefix {KEPT}", "PLAIN": PLAIN}
    for path in ("agents", "agents/keeper", "agents/keeper/versions", "agents/keeper/versions/1",
                 "secrets"):  # fmt: skip
        text = shown(platform, token, path).text
        assert FILLED not in text, path
        assert KEPT not in text, path
    definition = shown(platform, token, "agents/keeper/versions/1").json()["definition"]
    assert definition["secret_environment_variables"] == ["FILLED"]
    assert definition["environment_variables"] == {"KEPT": "prefix ${{secrets.KEPT}}",
                                                   "PLAIN": PLAIN}  # fmt: skip
    listed = platform.run("secret", "list", "--output", "json")
    assert [each["name"] for each in json.loads(listed.stdout)] == ["KEPT"]
    console = platform.run("monitor", "keeper", "--session-id", "one", "--tail", "50").stdout
    assert "FILLED is [FILLED] and KEPT [KEPT]" in console
    assert PLAIN in console
    written = everything_in(platform.state_dir)
    for secret in (FILLED, KEPT):
        assert secret not in platform.log()
        assert secret.encode() not in written


def test_the_same_again_is_the_same_version_and_a_new_value_another(
    platform: Platform, token: str, keeper: Path
) -> None:
    assert platform.deploy(keeper, cwd=keeper)[1] == "1"
    platform.run("env", "set", "FILLED=another-value-1", cwd=keeper)
    assert platform.deploy(keeper, cwd=keeper)[1] == "2"
    platform.run("env", "set", f"FILLED={FILLED}", cwd=keeper)
    assert platform.deploy(keeper, cwd=keeper)[1] == "3"


async def test_a_new_value_is_for_new_sessions(
    platform: Platform, token: str, keeper: Path
) -> None:
    assert platform.run("secret", "set", "KEPT", stdin="sk-second-value\n").code == 0
    async with platform.connect("keeper", "two", token=token) as websocket:
        assert (await ask(websocket, "tell"))["KEPT"] == "prefix sk-second-value"
    assert platform.run("secret", "delete", "KEPT").code == 0
    assert platform.run("secret", "delete", "KEPT").code == 1
    assert platform.run("secret", "set", "KEPT", stdin="").code == 2
    assert platform.run("secret", "set", "not-a-name", stdin="x").code == 1


def test_a_definition_can_be_sent_back_as_it_was_read(
    platform: Platform, token: str, keeper: Path
) -> None:
    version = shown(platform, token, "agents/keeper/versions/3").json()
    with httpx2.Client(
        headers={"Authorization": f"Bearer {token}"}, params={"api-version": "v1"}, trust_env=False
    ) as http:
        code = http.get(f"{platform.endpoint}/agents/keeper/code:download").content
        files = {
            "metadata": (None, json.dumps({"definition": version["definition"]})),
            "code": ("agent.zip", code, "application/zip"),
        }
        answer = http.post(f"{platform.endpoint}/agents/keeper/versions", files=files)
        assert answer.status_code == 200, answer.text
        unknown = version["definition"] | {"secret_environment_variables": ["FILLED", "NEVER"]}
        files["metadata"] = (None, json.dumps({"definition": unknown}))
        answer = http.post(f"{platform.endpoint}/agents/keeper/versions", files=files)
        assert answer.status_code == 400
        assert "NEVER" in answer.json()["error"]["message"]
