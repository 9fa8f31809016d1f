"""The variables an agent process is given."""

import re
from pathlib import Path
from typing import Any

import pytest

from tests.unit.sessions.support import LAUNCH, key, world
from trunkline.sessions.launches import launch_from_json, launch_to_json
from trunkline.sessions.settings import SessionSettings


async def environment_of(folder: Path, session_id: str = "s", **definition: Any) -> dict[str, str]:
    async with world(folder) as w:
        await w.add_version(**definition)
        await w.acquire(session_id)
        return dict(w.runtime.specs[0].environment)


async def test_the_contracts_variables(tmp_path: Path) -> None:
    env = await environment_of(tmp_path, "my:session.1")
    assert env["FOUNDRY_HOSTING_ENVIRONMENT"]
    assert env["FOUNDRY_AGENT_NAME"] == "echo"
    assert env["FOUNDRY_AGENT_VERSION"] == "1"
    assert env["FOUNDRY_AGENT_SESSION_ID"] == "my:session.1"
    assert re.fullmatch(r"[0-9a-f]{32}", env["FOUNDRY_AGENT_SESSION_GUID"])
    assert re.fullmatch(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", env["FOUNDRY_AGENT_ID"])
    assert env["FOUNDRY_PROJECT_ENDPOINT"] == "http://127.0.0.1:1/api/projects/default"
    assert env["WS_KEEPALIVE_INTERVAL"] == "30"
    assert env["TRUNKLINE_STOP_TIMEOUT"] == "20"
    assert {"PORT", "HOME", "PATH", "TRUNKLINE_AGENT_SOCKET"}.isdisjoint(env)


async def test_ids_stay_the_same_from_start_to_start(tmp_path: Path) -> None:
    one = await environment_of(tmp_path / "one")
    two = await environment_of(tmp_path / "two")
    assert one == two


async def test_each_session_has_a_guid_and_all_share_the_agents_id(tmp_path: Path) -> None:
    one = await environment_of(tmp_path / "one", "a")
    two = await environment_of(tmp_path / "two", "b")
    assert one["FOUNDRY_AGENT_SESSION_GUID"] != two["FOUNDRY_AGENT_SESSION_GUID"]
    assert one["FOUNDRY_AGENT_ID"] == two["FOUNDRY_AGENT_ID"]


async def test_the_definitions_own_variables_and_none_that_are_reserved(tmp_path: Path) -> None:
    own = {
        "MODEL": "m",
        "EMPTY": "",
        "FOUNDRY_AGENT_NAME": "forged",
        "FOUNDRY_ANYTHING": "forged",
        "AGENT_ANYTHING": "forged",
        "PORT": "1",
        "HOME": "/root",
        "TRUNKLINE_AGENT_SOCKET": "/tmp/x",
        "TRUNKLINE_STOP_TIMEOUT": "3600",
    }
    env = await environment_of(tmp_path, environment_variables=own)
    assert (env["MODEL"], env["EMPTY"], env["FOUNDRY_AGENT_NAME"]) == ("m", "", "echo")
    assert "forged" not in env.values()
    assert env["TRUNKLINE_STOP_TIMEOUT"] == "20"
    assert {"PORT", "HOME", "TRUNKLINE_AGENT_SOCKET"}.isdisjoint(env)


async def test_the_definition_may_set_the_keepalive(tmp_path: Path) -> None:
    env = await environment_of(tmp_path, environment_variables={"WS_KEEPALIVE_INTERVAL": "0"})
    assert env["WS_KEEPALIVE_INTERVAL"] == "0"


@pytest.mark.parametrize(("interval", "text"), [(0.0, "0"), (12.5, "12.5"), (100_000.0, "100000")])
async def test_the_platforms_keepalive_is_written_as_a_number(
    tmp_path: Path, interval: float, text: str
) -> None:
    async with world(tmp_path, keepalive_interval_s=interval) as w:
        await w.add_version()
        await w.acquire()
        assert w.runtime.specs[0].environment["WS_KEEPALIVE_INTERVAL"] == text


async def test_a_session_id_as_odd_as_allowed_makes_a_home_like_any_other(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        await w.add_version()
        for session_id in ("..", ".", "a" * 256, "-rf", "C:", "con"):
            await w.acquire(session_id)
        for spec in w.runtime.specs:
            assert re.fullmatch(r"[0-9a-f]{32}", spec.home.parent.name)
            assert spec.home.parent.parent == w.sessions_dir
        assert (
            w.runtime.specs[2].environment["FOUNDRY_AGENT_SESSION_ID"] == key("a" * 256).session_id
        )


def test_a_launch_comes_back_as_it_was() -> None:
    assert launch_from_json(launch_to_json(LAUNCH)) == LAUNCH
    assert launch_from_json({"command": [], "working_dir": "", "environment": {}}).notes == ()


@pytest.mark.parametrize(
    ("name", "value"),
    [("idle_timeout_s", 0), ("ready_timeout_s", -1), ("stop_timeout_s", 0),
     ("keepalive_interval_s", -0.1), ("log_max_bytes", 1024 * 1024 - 1)],
)  # fmt: skip
def test_settings_that_make_no_sense(name: str, value: float) -> None:
    with pytest.raises(ValueError, match=name):
        SessionSettings(**{name: value})
