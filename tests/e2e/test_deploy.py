"""What a deploy makes of a folder."""

import json
from pathlib import Path

from tests.e2e.conftest import AGENTS
from tests.support.platform import Platform, ask


async def test_the_same_folder_again_is_the_same_version(platform: Platform, probe: str) -> None:
    first = platform.deploy(AGENTS / "probe")
    assert platform.deploy(AGENTS / "probe") == first


async def test_values_of_the_environment_fill_the_file(
    platform: Platform, probe: str, token: str, tmp_path: Path
) -> None:
    assert platform.run("env", "set", "GREETING", "moin $x", cwd=tmp_path).code == 0
    assert 'GREETING="moin' in platform.run("env", "get-values", cwd=tmp_path).stdout
    _, version, _ = platform.deploy(AGENTS / "probe", cwd=tmp_path)
    assert int(version) > 1
    async with platform.connect(probe, "greeted", token=token) as websocket:
        assert (await ask(websocket, "facts"))["environment"]["GREETING"] == "moin $x"


async def test_a_session_keeps_its_version(
    platform: Platform, probe: str, token: str, tmp_path: Path
) -> None:
    async with platform.connect(probe, "bound", token=token) as websocket:
        before = (await ask(websocket, "facts"))["environment"]["FOUNDRY_AGENT_VERSION"]
    platform.run("env", "set", "GREETING=another", cwd=tmp_path)
    _, newer, _ = platform.deploy(AGENTS / "probe", cwd=tmp_path)
    assert newer != before
    async with platform.connect(probe, "bound", token=token) as websocket:
        assert (await ask(websocket, "facts"))["environment"]["FOUNDRY_AGENT_VERSION"] == before
    async with platform.connect(probe, "fresh", token=token) as websocket:
        assert (await ask(websocket, "facts"))["environment"]["FOUNDRY_AGENT_VERSION"] == newer


async def test_the_copy_is_what_runs(platform: Platform, token: str, tmp_path: Path) -> None:
    folder = tmp_path / "agent"
    folder.mkdir()
    (folder / "agent.yaml").write_text(
        (AGENTS / "probe" / "agent.yaml").read_text().replace("name: probe", "name: copied")
    )
    (folder / "start.py").write_text((AGENTS / "probe" / "main.py").read_text())
    with (folder / "agent.yaml").open("a") as file:
        file.write("code_configuration: {entry_point: start.py}\n")
    platform.deploy(folder)
    (folder / "start.py").write_text("raise SystemExit")
    async with platform.connect("copied", "s", token=token) as websocket:
        facts = await ask(websocket, "facts")
    assert not Path(facts["cwd"]).is_relative_to(tmp_path)


async def test_a_python_that_is_not_here_falls_back_and_says_so(
    platform: Platform, token: str, tmp_path: Path
) -> None:
    folder = tmp_path / "agent"
    folder.mkdir()
    text = (AGENTS / "probe" / "agent.yaml").read_text().replace("name: probe", "name: newer")
    (folder / "agent.yaml").write_text(f"{text}code_configuration: {{runtime: python_3_14}}\n")
    (folder / "main.py").write_text((AGENTS / "probe" / "main.py").read_text())
    done = platform.run("deploy", str(folder))
    assert done.code == 0, done.stderr
    async with platform.connect("newer", "s", token=token) as websocket:
        version = (await ask(websocket, "facts"))["python"]
    if not version.startswith("3.14"):
        assert f"python_3_14 is not on this machine; using Python {version}" in done.stderr


async def test_what_list_and_show_print(platform: Platform, probe: str) -> None:
    agents = json.loads(platform.run("list", "--output", "json").stdout)
    assert "probe" in json.dumps(agents)
    shown = json.loads(platform.run("show", "probe", "--output", "json").stdout)
    assert shown["name"] == "probe"
    assert shown["status"] == "active"
