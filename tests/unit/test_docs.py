"""What there is, is documented; what is documented, is there."""

import importlib
import pkgutil
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

import trunkline
from tests.support.settings_page import render
from trunkline.config import describe
from trunkline.platform.settings import COMPONENTS
from trunkline.protocol.errors import TrunklineError

ROOT = Path(__file__).parents[2]
REFERENCE = ROOT / "docs" / "reference"


def errors() -> Iterator[type[TrunklineError]]:
    for module in pkgutil.walk_packages(trunkline.__path__, "trunkline."):
        if module.name != "trunkline.__main__":
            importlib.import_module(module.name)
    todo = [TrunklineError]
    while todo:
        cls = todo.pop()
        todo += cls.__subclasses__()
        yield cls


def test_the_settings_page_is_what_the_settings_say() -> None:
    page = (REFERENCE / "settings.md").read_text()
    assert page == render(), (
        "run: python -m tests.support.settings_page > docs/reference/settings.md"
    )


@pytest.mark.parametrize("component", COMPONENTS)
def test_every_setting_says_what_it_is(component: str) -> None:
    docs = describe(component, COMPONENTS[component])
    assert docs
    assert [doc.name for doc in docs if len(doc.text) < 20] == []


def test_every_error_code_is_documented_with_its_status() -> None:
    page = (REFERENCE / "endpoints.md").read_text() + (REFERENCE / "cli.md").read_text()
    missing = {cls.code for cls in errors() if f"`{cls.code}`" not in page}
    assert missing == set()
    rows = re.findall(r"^\| (\d+) \| `(\w+)` ", page, re.MULTILINE)
    statuses = {code: int(status) for status, code in rows}
    wrong = {c.code: c.status for c in errors() if statuses.get(c.code, c.status) != c.status}
    assert wrong == {}


def test_every_command_is_documented() -> None:
    table = importlib.import_module("trunkline.cli.table")
    page = (REFERENCE / "cli.md").read_text()
    assert [name for name in table.COMMANDS if f"trunkline {name}" not in page] == []


def test_every_endpoint_is_documented() -> None:
    page = (REFERENCE / "endpoints.md").read_text()
    sources = [ROOT / "src/trunkline/control", ROOT / "src/trunkline/gateway"]
    text = "".join(p.read_text() for folder in sources for p in folder.glob("*.py"))
    names = set(
        re.findall(r"def ((?:list|get|create|stream|forward|refuse)_?\w*)\(self, request", text)
    )
    documented = {
        "list_agents": "GET P/agents`",
        "get_agent": "GET P/agents/AGENT`",
        "create_version": "POST P/agents/AGENT/versions`",
        "list_versions": "GET P/agents/AGENT/versions`",
        "get_version": "GET P/agents/AGENT/versions/VERSION`",
        "get_build_log": "versions/VERSION/buildlog`",
        "list_sessions": "GET P/agents/AGENT/endpoint/sessions`",
        "get_session": "GET P/agents/AGENT/endpoint/sessions/SESSION`",
        "stream_log": "sessions/SESSION:logstream`",
        "forward": "protocols/invocations`",
        "refuse_plain": "protocols/invocations_ws`",
    }
    assert names == documented.keys()
    assert [name for name, form in documented.items() if form not in page] == []


def test_the_version_is_the_newest_heading_of_the_changelog() -> None:
    newest = re.search(r"^## (\S+)", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert newest is not None
    assert newest[1] == project["version"]


def test_links_between_pages_lead_somewhere() -> None:
    broken = [
        f"{page.relative_to(ROOT)}: {link}"
        for page in [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("samples/**/*.md")]
        for link in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text())
        if not (page.parent / link).exists()
    ]
    assert broken == []


def test_no_module_is_too_long_to_read_in_one_sitting() -> None:
    long = {
        str(path.relative_to(ROOT)): lines
        for path in ROOT.glob("src/**/*.py")
        if (lines := len(path.read_text().splitlines())) > 500
    }
    assert long == {}
