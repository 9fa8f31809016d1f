"""The reference page tells of every command, option and exit code."""

import re
from pathlib import Path
from typing import Any

import pytest
from typer.main import get_command

from trunkline.cli import table
from trunkline.cli.exits import ExitCode

PAGE = (Path(__file__).parents[3] / "docs" / "reference" / "cli.md").read_text()
COMMON = re.split(r"^## ", PAGE, flags=re.MULTILINE)[1]


def section(name: str) -> str:
    found = re.search(rf"^## {name}\n(.*?)(?=^## |\Z)", PAGE, re.MULTILINE | re.DOTALL)
    assert found, f"no section about {name}"
    return found[1]


def options(command: Any) -> set[str]:
    names = {
        name
        for param in command.params
        for name in param.opts
        if name.startswith("-") and name not in ("--help", "-h")
    }
    return names.union(*(options(sub) for sub in getattr(command, "commands", {}).values()))


@pytest.mark.parametrize("name", sorted(table.COMMANDS))
def test_every_option_is_told(name: str) -> None:
    text = section(name) + COMMON
    missing = {
        option
        for option in options(get_command(table.load_app(name)))
        if not re.search(rf"{option}(?![\w-])", text)
    }
    assert not missing


@pytest.mark.parametrize("code", list(ExitCode))
def test_every_exit_code_is_told(code: ExitCode) -> None:
    assert f"| {int(code)} |" in COMMON
