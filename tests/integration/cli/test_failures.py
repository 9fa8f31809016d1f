"""Every command that can't do what it should: one line with what to do next, and an exit code."""

import io
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.main import get_command

from tests.integration.cli.conftest import Run
from trunkline.cli import table
from trunkline.cli.exits import ExitCode

#: Those that ask a platform, with what they are asked to do.
ASKING = (
    "deploy", "connect a", "record new.trk a", "replay call.trk a", "invoke a", "monitor a -s s",
    "why a -s s", "list", "show a", "endpoint show a", "endpoint update --force", "delete a --yes",
    "code download a", "sessions create a", "sessions list a", "sessions show a s",
    "sessions stop a s", "sessions delete a s", "files upload a agent.yaml -s s",
    "files download a x -s s", "files list a -s s", "files stat a x -s s", "files mkdir a x -s s",
    "files delete a x -s s", "secret set N", "secret list", "secret delete N",
    "keys create ci --role invoker", "keys list", "keys revoke k", "revoke x", "audit",
)  # fmt: skip
#: Those that don't: what goes wrong with them, the exit code, and what their line has to name.
ALONE = (
    ("init .", 2, "--protocol invocations_ws"),
    ("run nowhere", 2, "agent.yaml"),
    ("up --workers 0", 2, "--workers"),
    ("gateway reload", 1, "--state-dir"),
    ("env set nonsense", 2, "KEY=VALUE"),
    ("env get-values -e ../x", 2, "environment"),
    ("env select ../x", 2, "environment"),
    ("proxy --allow-origin nonsense", 2, "https://"),
    ("token --role nonsense", 2, "invoker"),
    ("console --state-dir nowhere", 2, "--state-dir"),
    ("load agent.yaml a", 2, "trunkline record"),
    ("doctor nowhere --local-only", 1, "agent.yaml"),
)
#: What these print is always there; what settings do to `config`, test_config.py has.
NEVER = {
    "env list", "completion bash", "completion zsh", "completion fish", "config check",
    "config show",
}  # fmt: skip


def names() -> Iterator[str]:
    for name in table.COMMANDS:
        inner = getattr(get_command(table.load_app(name)), "commands", None)
        if inner is None:
            yield name
        else:
            yield from (f"{name} {sub}" for sub, each in inner.items() if not each.hidden)


def test_no_command_is_left_out() -> None:
    tried = [*ASKING, *(command for command, _, _ in ALONE)]
    assert {
        name for name in names() if not any(f"{each} ".startswith(f"{name} ") for each in tried)
    } == NEVER


@pytest.fixture
def project(cli: Run) -> Run:
    """A folder with an agent, and a recording."""
    Path("agent.yaml").write_text(
        "kind: hosted\nname: a\nprotocols: [{protocol: invocations_ws, version: 1.0.0}]\n"
        "agent_endpoint: {protocol_configuration: {invocations_ws: {}}}\n"
    )
    Path("main.py").touch()
    done = cli("record", "call.trk", "echo", "--linger-s", "0.1", stdin=b"hi\n")
    assert done.code == 0, done.err
    return cli


@pytest.mark.parametrize("command", ASKING)
def test_a_platform_that_isnt_there(
    project: Run, command: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("a secret"))
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    done = project(*command.split(), "--endpoint", f"http://127.0.0.1:{port}", stdin=b"x\n")
    assert (done.code, done.out) == (ExitCode.FAILED, "")
    last = done.err.splitlines()[-1]
    assert last == (
        f"error: nothing answers at http://127.0.0.1:{port}: start it with `trunkline up`, or name "
        "another platform with --endpoint"
    )


@pytest.mark.parametrize(("command", "code", "named"), ALONE)
def test_what_else_goes_wrong(project: Run, command: str, code: int, named: str) -> None:
    done = project(*command.split())
    assert done.code == code
    # What a doctor finds is its data.
    told, other = (done.out, done.err) if command.startswith("doctor") else (done.err, done.out)
    assert named in told
    assert other == ""
    assert "Traceback" not in done.err
