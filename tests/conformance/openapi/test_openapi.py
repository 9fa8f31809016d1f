"""The OpenAPI document says what the platform does, no more and no less.

schemathesis makes requests out of the document, good ones and bad ones, sends them to a running
platform and compares the answers with what the document says of them.
"""

import json
import os
import shutil
import string
import subprocess
from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest

from tests.support.environments import bin_with
from tests.support.platform import Platform, running_platform
from trunkline.platform.openapi import document

# The first one waits for a platform, or for an environment with schemathesis.
pytestmark = pytest.mark.timeout(240)

HERE = Path(__file__).parent
AGENT = HERE / "agent"
#: Another one finds other things: run with it by hand.
_SEED = os.environ.get("SCHEMATHESIS_SEED", "1")
_EXAMPLES = os.environ.get("SCHEMATHESIS_EXAMPLES", "8")
_SAID = {"type": "message", "role": "user", "content": "hello"}


@pytest.fixture(scope="module")
def platform() -> Iterator[Platform]:
    # Every other request makes a session of its own.
    limits = {"TRUNKLINE_SESSIONS_MAX_RUNNING": "6", "TRUNKLINE_SESSIONS_IDLE_TIMEOUT_S": "3"}
    with running_platform(**limits) as platform:
        yield platform


def deploy(platform: Platform, name: str, folder: Path) -> None:
    """Deploy the agent under a name."""
    shutil.copytree(AGENT, folder)
    manifest = folder / "agent.yaml"
    manifest.write_text(manifest.read_text().replace("name: probe", f"name: {name}"))
    platform.deploy(folder)


def furnish(platform: Platform, folder: Path, token: str) -> dict[str, str]:
    """Make one of everything, and a second one to be removed; return what they are called."""
    for name in ("probe", "spare"):
        deploy(platform, name, folder / name)
    agent = f"{platform.endpoint}/agents/probe/endpoint"
    with httpx2.Client(
        headers={"authorization": f"Bearer {token}"},
        params={"api-version": "v1"},
        timeout=60,
        trust_env=False,
    ) as http:

        def make(path: str, body: dict[str, object]) -> dict[str, str]:
            answer = http.post(f"{agent}/{path}", json=body)
            assert answer.status_code in (200, 201), answer.text
            return answer.json()

        for session in ("s1", "s2"):
            make("sessions", {"agent_session_id": session})
            url = f"{agent}/sessions/{session}/files/content"
            assert http.put(url, params={"path": "notes.txt"}, content=b"x").status_code == 201
        make("protocols/openai/responses", {"input": "hello", "agent_session_id": "s1"})
        conversations = [
            make("protocols/openai/conversations", {"items": [_SAID]})["id"] for _ in range(2)
        ]
        items = http.get(f"{agent}/protocols/openai/conversations/{conversations[0]}/items").json()
    return {
        "conversation": conversations[0],
        "spare_conversation": conversations[1],
        "item": items["data"][0]["id"],
    }


@pytest.mark.timeout(300)
def test_no_answer_is_other_than_described(platform: Platform, tmp_path: Path) -> None:
    token = platform.token()
    names = furnish(platform, tmp_path, token)
    config = tmp_path / "schemathesis.toml"
    template = string.Template((HERE / "schemathesis.toml").read_text())
    # The dollars of its regular expressions stay.
    config.write_text(template.safe_substitute(names))
    done = subprocess.run(
        [
            bin_with("schemathesis") / "schemathesis", "--config-file", config, "run",
            f"{platform.url}/openapi.json", "--header", f"Authorization: Bearer {token}",
            "--seed", _SEED, "--max-examples", _EXAMPLES, "--request-timeout", "30",
            "--continue-on-failure", "--generation-database", "none", "--no-color",
            # How well it can make requests up is no matter here.
            "--suppress-health-check", "filter_too_much",
        ],
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
        cwd=tmp_path,
        env={name: os.environ[name] for name in ("PATH", "HOME")},
    )  # fmt: skip
    assert done.returncode == 0, f"{done.stdout[-20_000:]}\n{done.stderr}\n{platform.log()[-3000:]}"


def test_the_document_is_a_document(tmp_path: Path) -> None:
    file = tmp_path / "openapi.json"
    file.write_bytes(document.encoded())
    done = subprocess.run(
        [bin_with("schemathesis") / "openapi-spec-validator", file],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


async def test_it_is_served_to_anybody(platform: Platform) -> None:
    async with httpx2.AsyncClient(trust_env=False) as http:
        answer = await http.get(f"{platform.url}/openapi.json")
    assert answer.headers["content-type"] == "application/json"
    assert answer.json() == json.loads(document.encoded())
