"""What there is, is documented; what is documented, is there."""

import importlib
import pkgutil
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import trunkline
from tests.support.routes import resource_routes
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


def _spellings(form: str, path: str) -> list[str]:
    """Return how a route may be told of: in full, or as one of several in a line."""
    # Everything under openai/ is there under openai/v1/ as well, and the page says so once.
    path, form = path.replace("/openai/v1/", "/openai/"), form.replace("/openai/v1/", "/openai/")
    if "/openai/" in path:
        return [form, f"GET {path}", f"POST {path}", f"/{path.rpartition('/')[2]}"]
    return [form, path, path.rpartition("/")[2]]


def test_every_endpoint_is_documented() -> None:
    page = (REFERENCE / "endpoints.md").read_text()
    forms = {}
    for route in resource_routes():
        path = route.path.replace("/api/projects/{project}", "P").replace("{invocation}", "ID")
        path = re.sub(r"\{(\w+)\}", lambda name: name[1].upper(), path)
        for method in (route.methods or set()) - {"HEAD"}:
            forms[f"{method} {path}"] = path
    assert len(forms) >= 29
    # Where one line tells of several paths, it has the others after the first.
    missing = [
        form
        for form, path in forms.items()
        if not any(f"`{text}`" in page for text in _spellings(form, path))
    ]
    assert missing == []


def test_the_version_is_the_newest_heading_of_the_changelog() -> None:
    newest = re.search(r"^## (\S+)", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert newest is not None
    assert newest[1] == trunkline.__version__


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
