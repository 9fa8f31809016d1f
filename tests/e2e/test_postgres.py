"""A platform whose store is PostgreSQL: it outlives the platform, and its password stays unseen."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest

from tests.support.platform import Platform, ask, clean_environment
from tests.support.postgres import PASSWORD, PostgresServer, running_server


@pytest.fixture(scope="module")
def server() -> Iterator[PostgresServer]:
    """A server that a test may stop."""
    with running_server() as server:
        yield server


@pytest.fixture(scope="module")
def database(server: PostgresServer) -> Iterator[str]:
    with server.database() as url:
        yield url


@pytest.fixture(scope="module")
def settings(database: str) -> dict[str, str]:
    # A platform that starts again finds its sessions free as soon as the one before counts as
    # dead.
    return {
        "TRUNKLINE_STORE_URL": database,
        "TRUNKLINE_SESSIONS_UPKEEP_INTERVAL_S": "0.2",
        "TRUNKLINE_SESSIONS_NODE_TIMEOUT_S": "1",
    }


async def test_a_session_goes_on_after_a_restart(
    platform: Platform, probe: str, token: str
) -> None:
    async with platform.connect(probe, "pg", token=token) as websocket:
        assert await ask(websocket, "remember this") == "remembered"
    assert platform.stop() == 0
    platform.start()
    async with platform.connect(probe, "pg", token=token) as websocket:
        assert await ask(websocket, "recall") == "this"
    listed = json.loads(platform.run("sessions", "list", probe, "-o", "json").stdout)
    assert [session["agent_session_id"] for session in listed] == ["pg"]
    assert not (platform.state_dir / "trunkline.db").exists()


async def test_the_password_is_nowhere_to_be_seen(
    platform: Platform, probe: str, token: str, database: str
) -> None:
    async with platform.connect(probe, "pg", token=token) as websocket:
        environment = (await ask(websocket, "facts"))["environment"]
    assert not any(name.startswith("TRUNKLINE_STORE") for name in environment)
    shown = [json.dumps(environment), platform.log()]
    pids = (platform.pid, platform.serving_pid)
    shown += [Path(f"/proc/{pid}/cmdline").read_bytes().decode() for pid in pids]
    encoded = database.partition("://")[2].partition("@")[0].partition(":")[2]
    assert len(shown) == 4
    for text in shown:
        assert PASSWORD not in text
        assert encoded not in text


async def test_a_store_that_goes_away_comes_back(
    platform: Platform, probe: str, token: str, server: PostgresServer
) -> None:
    ready = f"{platform.url}/readyz"
    agents = f"{platform.endpoint}/agents?api-version=v1"
    with httpx2.Client(trust_env=False, timeout=60) as http:
        headers = {"Authorization": f"Bearer {token}"}
        async with platform.connect(probe, "outage", token=token) as websocket:
            assert await ask(websocket, "remember this") == "remembered"
            server.stop()
            try:
                refused = http.get(agents, headers=headers)
                assert (refused.status_code, refused.headers["retry-after"]) == (503, "1")
                assert refused.json()["error"]["message"] == "the store doesn't answer; try again"
                assert http.get(ready).json()["reason"] == "the store doesn't answer"
                # Whoever is connected isn't disturbed.
                assert await ask(websocket, "recall") == "this"
            finally:
                server.start()
            assert http.get(ready).status_code == 200
            assert http.get(agents, headers=headers).status_code == 200
            assert await ask(websocket, "recall") == "this"


def test_a_platform_without_its_store_does_not_start(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "trunkline", "up", "--port", "0", "--state-dir", str(tmp_path)],
        capture_output=True, text=True, check=False, timeout=60,
        env=clean_environment()
        | {"TRUNKLINE_STORE_URL": f"postgresql://u:s3cret@/d?host={tmp_path}", "PATH": os.defpath},
    )  # fmt: skip
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"error: PostgreSQL ({tmp_path}, database d): ")
    assert "No such file or directory" in line
    assert "s3cret" not in line
