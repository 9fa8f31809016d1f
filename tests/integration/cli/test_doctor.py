"""doctor: what it looks at, what it advises, and how it ends."""

import resource
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from types import SimpleNamespace

import pytest

from tests.integration.cli.conftest import FakePlatform, Run
from trunkline.cli import checks
from trunkline.cli.checks import Check, Status
from trunkline.cli.commands.doctor import exit_code
from trunkline.cli.exits import ExitCode
from trunkline.gateway import carrier

AGENT_YAML = """\
kind: hosted
name: echo
protocols: [{protocol: invocations_ws, version: 1.0.0}]
environment_variables: [{name: GREETING, value: "${GREETING}"}]
"""


@pytest.fixture(autouse=True)
def a_machine_with_a_sandbox(monkeypatch: pytest.MonkeyPatch) -> None:
    # What a sandbox protects here has tests of its own; these must pass on any machine.
    async def sandbox(_env: Mapping[str, str]) -> AsyncIterator[Check]:
        yield Check("local.sandbox", Status.PASS, "it has one")

    monkeypatch.setattr(checks, "_sandbox", sandbox)
    monkeypatch.setattr(carrier, "IS_BUILT", True)


@pytest.fixture
def project(cli: Run) -> None:
    # After `cli`, which goes to the project's folder.
    assert cli
    Path("agent.yaml").write_text(AGENT_YAML)
    Path("main.py").touch()


def statuses(cli: Run, *words: str) -> dict[str, str]:
    said = cli("doctor", "-o", "json", *words).json
    assert said["schemaVersion"] == "1.0"
    for check in said["checks"]:
        assert list(check) == ["id", "status", "message", "advice"]
    return {check["id"]: check["status"] for check in said["checks"]}


def test_a_folder_without_an_agent(cli: Run) -> None:
    assert statuses(cli) == {
        "local.python": "info",
        "local.relay": "pass",
        "local.sandbox": "pass",
        "local.state-dir": "pass",
        "local.agent-file": "skip",
        "local.values": "skip",
        "remote.endpoint": "pass",
        "remote.agent-status": "skip",
    }


@pytest.mark.usefixtures("project")
def test_a_project_that_is_deployed(cli: Run) -> None:
    done = cli("doctor")
    assert done.code == 0
    assert done.out.startswith("Local\n")
    assert "\nRemote\n  (✓) endpoint: http" in done.out
    assert "(!) values: without a value: GREETING" in done.out
    assert "version 3 of echo is active" in done.out
    assert "6 passed, 0 failed, 0 skipped, 1 warned, 1 info" in done.out
    assert "To fix:\n  local.values: trunkline env set GREETING VALUE" in done.out
    cli("env", "set", "GREETING", "hi")
    assert statuses(cli)["local.values"] == "pass"


@pytest.mark.usefixtures("project")
def test_local_only_asks_nobody(cli: Run, platform: FakePlatform) -> None:
    found = statuses(cli, "--local-only")
    assert not [name for name in found if name.startswith("remote")]
    assert platform.tokens == []


def test_a_bad_agent_file(cli: Run) -> None:
    Path("agent.yaml").write_text("kind: hosted\nnme: x\n")
    done = cli("doctor")
    assert done.code == ExitCode.FAILED
    assert "(x) agent-file: " in done.out
    assert 'agent.yaml:2:1: nme: is not a field; did you mean "name"?' in done.out
    assert "To fix:\n  local.agent-file: mend what it names" in done.out
    assert statuses(cli)["remote.agent-status"] == "skip"


def test_a_platform_that_isnt_there(cli: Run) -> None:
    done = cli("doctor", "--endpoint", "http://127.0.0.1:1/")
    assert done.code == ExitCode.FAILED
    assert "nothing answers" in done.out
    assert "remote.endpoint: start it with `trunkline up`" in done.out
    assert "(x)" in cli("doctor", "--endpoint", "nonsense").out


def test_a_state_directory_that_cant_be_written(cli: Run, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    done = cli("doctor", "--state-dir", str(tmp_path / "file" / "x"), "--local-only")
    assert done.code == ExitCode.FAILED
    assert "can't be written" in done.out


@pytest.mark.parametrize(
    ("found", "code"),
    [
        ([Status.PASS, Status.SKIP], ExitCode.OK),
        ([Status.WARN], ExitCode.OK),
        ([Status.PASS, Status.FAIL], ExitCode.FAILED),
        ([Status.SKIP, Status.SKIP], ExitCode.USAGE),
    ],
)
def test_how_it_ends(found: list[Status], code: ExitCode) -> None:
    assert exit_code([Check("a", status, "") for status in found]) is code


async def test_settings_that_are_none_are_told() -> None:
    # The real one: it stops before anything of the machine is tried.
    found = [c async for c in checks_sandbox({"TRUNKLINE_GATEWAY_MAX_FRAME_BYTES": "x"})]
    assert [(c.id, c.status) for c in found] == [("local.settings", Status.FAIL)]
    assert "TRUNKLINE_GATEWAY_MAX_FRAME_BYTES" in found[0].message


async def test_too_few_descriptors_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda _: (1024, 3000))
    (found,) = [c async for c in checks_sandbox({}) if c.id == "local.descriptors"]
    assert found.status is Status.WARN
    assert "3000 descriptors, enough for 1000 connections and not for 20000" in found.message
    assert "LimitNOFILE=" in found.advice
    enough = {"TRUNKLINE_GATEWAY_MAX_CONNECTIONS": "1000"}
    (found,) = [c async for c in checks_sandbox(enough) if c.id == "local.descriptors"]
    assert found.status is Status.PASS


def test_a_disk_that_is_nearly_full_is_told(cli: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    full = SimpleNamespace(free=3 * 1024**2)
    monkeypatch.setattr(checks.shutil, "disk_usage", lambda _: full)
    done = cli("doctor", "--local-only")
    assert "(!) state-dir: " in done.out
    assert "3 MiB are free there" in done.out
    assert "local.state-dir: free some space" in done.out


checks_sandbox = checks._sandbox


def test_a_relay_that_was_not_compiled_is_told(cli: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(carrier, "IS_BUILT", False)
    done = cli("doctor", "--local-only")
    assert done.code == 0
    assert "(!) relay: no compiled relay" in done.out
    assert "local.relay: on Linux, with a C compiler" in done.out
