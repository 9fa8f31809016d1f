"""The agents and tests that the documentation shows, run as their readers would run them."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.pages import Section, sections

SHOWN = [
    section
    for page in ("docs/tutorial.md", "docs/testing-agents.md")
    for section in sections(page)
    if "test_main.py" in section.files
]


@pytest.mark.parametrize("section", SHOWN, ids=lambda section: section.title)
def test_what_is_shown_passes(section: Section, tmp_path: Path) -> None:
    section.write(tmp_path)
    pytest_of_a_reader = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"]
    quiet = ["-W", "error", "-o", "asyncio_default_fixture_loop_scope=function"]
    done = subprocess.run(
        [*pytest_of_a_reader, *quiet, "."],
        cwd=tmp_path,
        env={name: os.environ[name] for name in ("PATH", "HOME")},
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    shown = len(re.findall(r"^async def test_", section.files["test_main.py"], re.MULTILINE))
    passed = re.search(r"(\d+) passed", done.stdout)
    assert passed is not None
    assert int(passed[1]) >= shown > 0


def test_there_are_as_many_as_the_tutorial_has_steps() -> None:
    assert len(sections("docs/tutorial.md")) == 5
    assert len(SHOWN) >= 4
