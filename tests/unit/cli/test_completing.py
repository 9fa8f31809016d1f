"""What a shell is told may come next."""

import subprocess
from pathlib import Path

import pytest

from trunkline.cli import table
from trunkline.cli.completing import SCRIPTS, candidates
from trunkline.cli.main import main
from trunkline.cli.state import SessionMemory


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["mon"], ["monitor"]),
        (["--de"], ["--debug"]),
        (["--debug", "mon"], ["monitor"]),
        (["sessions", "s"], ["show", "stop"]),
        (["files", "r"], []),
        (["connect", "--se"], ["--send-file", "--session-id"]),
        (["connect", "--output", ""], ["json", "text"]),
        (["connect", "-o", "j"], ["json"]),
        (["monitor", "echo", "--type", "s"], ["system"]),
        (["connect", "--no-re"], ["--no-reconnect"]),
        (["connect", "--rate", ""], []),
        (["connect", ""], ["echo", "voice"]),
        (["connect", "--output", "json", "v"], ["voice"]),
        (["connect", "echo", ""], []),
        (["replay", ""], []),
        (["replay", "call.trk", "e"], ["echo"]),
        (["sessions", "list", "e"], ["echo"]),
        (["deploy", ""], []),
        (["nothing", ""], []),
        (["sessions", "nothing", ""], []),
    ],
)
def test_candidates(
    words: list[str], expected: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TRUNKLINE_HOME", str(tmp_path))
    memory = SessionMemory(tmp_path)
    memory.remember("http://a/api/projects/p", "echo", "s")
    memory.remember("http://b/api/projects/p", "voice", "s")
    assert candidates(words) == expected


def test_every_command_is_a_candidate() -> None:
    assert candidates([""]) == sorted(table.COMMANDS)


@pytest.mark.parametrize("shell", sorted(SCRIPTS))
def test_scripts(shell: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["completion", shell]) == 0
    assert "trunkline completion words" in capsys.readouterr().out


def test_bash_takes_its_script(tmp_path: Path) -> None:
    fake = tmp_path / "trunkline"
    fake.write_text('#!/bin/bash\nshift 3; printf "%s\\n" "$@" > "$0.asked"; echo one; echo two\n')
    fake.chmod(0o755)
    script = SCRIPTS["bash"] + 'COMP_WORDS=(trunkline connect "a b"); COMP_CWORD=2; _trunkline\n'
    script += 'printf "%s\\n" "${COMPREPLY[@]}"\n'
    done = subprocess.run(
        ["bash", "-c", script], capture_output=True, text=True, check=True,
        env={"PATH": f"{tmp_path}:/usr/bin:/bin"},
    )  # fmt: skip
    assert done.stdout == "one\ntwo\n"
    assert (tmp_path / "trunkline.asked").read_text() == "connect\na b\n"
