"""The command line itself."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
from typer.main import get_command

from trunkline.cli import output, table
from trunkline.cli.main import main, take_debug
from trunkline.cli.target import choose_token
from trunkline.client import Endpoint


@pytest.mark.parametrize(
    ("words", "left", "is_debug"),
    [
        (["list"], ["list"], False),
        (["--debug", "list"], ["list"], True),
        (["list", "--debug"], ["list"], True),
        (["invoke", "a", "--", "--debug"], ["invoke", "a", "--", "--debug"], False),
    ],
)
def test_debug_stands_anywhere(words: list[str], left: list[str], is_debug: bool) -> None:
    assert take_debug(words) == (left, is_debug)


def test_help_lists_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    shown = capsys.readouterr().out
    assert all(entry.summary in shown for entry in table.COMMANDS.values())


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out.startswith("trunkline ")


@pytest.mark.parametrize("name", sorted(table.COMMANDS))
def test_every_command_has_help(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([name, "--help"]) == 0
    assert f"Usage: trunkline {name}" in capsys.readouterr().out


def commands() -> Iterator[tuple[str, ...]]:
    for name in table.COMMANDS:
        command = get_command(table.load_app(name))
        inner = getattr(command, "commands", None)
        if inner is None:
            yield (name,)
        else:
            yield from ((name, sub) for sub, each in inner.items() if not each.hidden)


COMMANDS = list(commands())


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_every_help_teaches_with_examples(
    words: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*words, "--help"]) == 0
    shown = capsys.readouterr().out
    _, examples = shown.split("Examples:")
    first = examples.strip().splitlines()[0]
    assert f"trunkline {' '.join(words)}" in first
    assert f"Usage: trunkline {' '.join(words)}" in shown


def options_of(words: tuple[str, ...]) -> list[str]:
    command = get_command(table.load_app(words[0]))
    for word in words[1:]:
        command = command.commands[word]  # type: ignore[attr-defined]
    return [name for param in command.params for name in param.opts if name.startswith("--")]


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_an_unknown_option_names_the_near_one(
    words: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    for meant in (*options_of(words), "--help"):
        mistyped = f"{meant[:-2]}{meant[-1]}{meant[-2]}"
        assert main([*words, mistyped]) == 2
        line = capsys.readouterr().err.splitlines()[-1]
        said, _, near = line.partition(" (Possible options: ")
        assert said == f"error: No such option: {mistyped}"
        assert meant in near.rstrip(")").split(", ")


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_whatever_prints_data_prints_json(words: tuple[str, ...]) -> None:
    prints_none = {
        "up", "run", "token", "completion", "console", "proxy", "env set", "env select",
        "files upload",
        "files download", "files mkdir", "files delete", "sessions stop", "sessions delete",
        "secret set", "secret delete", "keys revoke", "config check",
    }  # fmt: skip
    command = get_command(table.load_app(words[0]))
    for word in words[1:]:
        command = command.commands[word]  # type: ignore[attr-defined]
    names = {name for param in command.params for name in param.opts}
    is_silent = " ".join(words) in prints_none or words[0] in prints_none
    assert ("--output" in names) is not is_silent


def test_a_typo_is_a_usage_error(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["conect"]) == 2
    assert "Did you mean 'connect'" in capsys.readouterr().err


def test_an_error_is_one_line(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("TRUNKLINE_HOME", str(tmp_path))
    assert main(["list", "--endpoint", "http://host/wrong"]) == 2
    shown = capsys.readouterr()
    assert shown.out == ""
    assert len(shown.err.splitlines()) == 1
    assert shown.err.startswith("error: ")
    assert main(["list", "--endpoint", "http://host/wrong", "--debug"]) == 2
    assert "Traceback" in capsys.readouterr().err


def test_token_prints_a_token_only(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert main(["token", "--user", "ada", "--state-dir", str(tmp_path)]) == 0
    shown = capsys.readouterr()
    (line,) = shown.out.splitlines()
    assert line.count(".") == 2
    assert shown.err == ""


def test_starting_up_imports_little() -> None:
    code = (
        "import sys, json, trunkline.cli.main as m\n"
        "m.main(['--help']); m.main(['nosuch'])\n"
        "print(json.dumps(sorted(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = set(json.loads(done.stdout.splitlines()[-1]))
    heavy = {"asyncio", "ssl", "rich", "httpx2", "websockets", "cryptography", "starlette"}
    heavy |= {"uvicorn", "ruamel"}
    assert not heavy & loaded
    assert not {name for name in loaded if name.startswith("trunkline.platform")}
    assert not {name for name in loaded if name.startswith("trunkline.cli.commands.")}


def test_help_imports_less_than_a_program_does() -> None:
    # Time is the machine's; how much has to be loaded is ours.
    code = (
        "import sys, trunkline.cli.main as m\n"
        "m.main(['--help'])\n"
        "print(len(sys.modules), *sorted({'email', 'importlib.metadata'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    count, *unwanted = done.stdout.splitlines()[-1].split()
    assert unwanted == []
    assert int(count) < 230


def test_the_module_runs() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "trunkline", "--version"], capture_output=True, text=True, check=True
    )
    assert done.stdout.startswith("trunkline ")


@pytest.mark.parametrize(
    ("env", "is_terminal", "expected"),
    [
        ({}, True, True),
        ({}, False, False),
        ({"NO_COLOR": "1"}, True, False),
        ({"TERM": "dumb"}, True, False),
    ],
)
def test_colour(
    env: dict[str, str], is_terminal: bool, expected: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("os.environ", env)
    stream = SimpleNamespace(isatty=lambda: is_terminal)
    assert output.has_colour(stream) is expected  # type: ignore[arg-type]


def test_which_token() -> None:
    here, there = Endpoint.parse("http://localhost/"), Endpoint.parse("https://host/")
    assert choose_token(here, "given", str) == "given"
    assert choose_token(here, None, str) is str
    assert choose_token(there, None, str) is None
