"""Runs Microsoft's tests in a pytest of their own, and tells what became of each.

Their rules aren't ours: they warn, and they bring their own ``conftest.py``. So they get a process
that knows neither this project's settings nor its other plugins.
"""

import json
import os
import subprocess
import sys
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

_INSIDE = Path(__file__).parent / "inside"
_TEST_TIMEOUT_S = 30
_SUITE_TIMEOUT_S = 300


@dataclass
class Report:
    """What became of a suite.

    Attributes:
        outcomes: ``passed``, ``failed`` or ``skipped`` of each test that ended.
        details: What pytest said of those that didn't pass.
        collected: All tests in the files that were looked into.
        uncollected: Files that can't be imported, and why.
        intruders: Microsoft's modules that were loaded; None if the run didn't get to its end.
        unfinished: The test that the process ended in, if it did.
        output: What pytest printed.
    """

    outcomes: dict[str, str] = field(default_factory=dict)
    details: dict[str, str] = field(default_factory=dict)
    collected: list[str] = field(default_factory=list)
    uncollected: dict[str, str] = field(default_factory=dict)
    intruders: list[str] | None = None
    unfinished: str | None = None
    output: str = ""

    def verdict(self, test: str) -> str:
        """Return ``passed``, or what went wrong with the test."""
        outcome = self.outcomes.get(test)
        if outcome == "passed":
            return outcome
        if outcome is not None:
            return f"{outcome}: {self.details[test]}"
        file = test.partition("::")[0]
        why = (
            self.uncollected.get(file)
            or (self.unfinished and f"the run ended in {self.unfinished}")
            or ("there is no such test" if test not in self.collected else "")
        )
        return f"didn't run: {why or self.output[-3000:]}"

    def to_json(self) -> str:
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> "Report":
        return cls(**json.loads(text))


def run(
    tests: Path,
    wanted: Iterable[str],
    scratch: Path,
    *,
    test_timeout_s: float = _TEST_TIMEOUT_S,
    suite_timeout_s: float = _SUITE_TIMEOUT_S,
) -> Report:
    """Run tests of a folder.

    Args:
        tests: The folder, with Microsoft's ``conftest.py`` in it.
        wanted: Their node ids below the folder.
        scratch: An empty folder for this run.
        test_timeout_s: A test that takes longer has failed.
        suite_timeout_s: A run that takes longer is killed.
    """
    wanted = list(wanted)
    (scratch / "wanted").write_text("\n".join(wanted))
    (scratch / "report").touch()
    command = [
        sys.executable, "-m", "pytest", "-c", os.devnull, "--rootdir", str(tests),
        "-p", "upstream_plugin", "-p", "pytest_asyncio.plugin", "-p", "pytest_timeout",
        "-p", "no:cacheprovider", "-p", "no:warnings",
        "-o", "asyncio_default_fixture_loop_scope=function",
        "--timeout", str(test_timeout_s), "--timeout-method", "signal",
        "--continue-on-collection-errors", "--quiet", "--no-header", "--tb=short",
        *sorted({str(tests / test.partition("::")[0]) for test in wanted}),
    ]  # fmt: skip
    try:
        done = subprocess.run(
            command, cwd=scratch, env=_environment(scratch), timeout=suite_timeout_s,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False,
        )  # fmt: skip
        output = done.stdout
    except subprocess.TimeoutExpired as error:
        output = (error.stdout or b"") + b"\nkilled after %g s" % suite_timeout_s
    lines = (scratch / "report").read_text().splitlines()
    report = _read(map(json.loads, lines))
    report.output = output.decode(errors="replace")
    return report


def _environment(scratch: Path) -> dict[str, str]:
    """Return an environment in which no variable of the hosted contract is set."""
    return {
        "HOME": str(scratch),
        "LANG": "C.UTF-8",
        "PATH": os.environ.get("PATH", ""),
        "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
        "PYTHONDONTWRITEBYTECODE": "1",
        "PYTHONPATH": str(_INSIDE),
        "PYTHONSAFEPATH": "1",
        "UPSTREAM_REPORT": str(scratch / "report"),
        "UPSTREAM_WANTED": str(scratch / "wanted"),
    }


def _read(events: Iterable[dict[str, Any]]) -> Report:
    report = Report()
    for event in events:
        match event:
            case {"event": "collected", "tests": tests}:
                report.collected = tests
            case {"event": "uncollected", "file": file, "detail": detail}:
                report.uncollected[file] = detail
            case {"event": "started", "test": test}:
                report.unfinished = test
            case {"event": "ended", "test": test, "outcome": outcome, "detail": detail}:
                report.unfinished = None
                report.outcomes[test] = outcome
                report.details[test] = detail
            case {"event": "finished", "intruders": intruders}:
                report.unfinished = None
                report.intruders = intruders
    return report
