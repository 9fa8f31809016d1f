"""What the pytest that runs Microsoft's tests does for the one that started it.

It puts the stand-ins up before Microsoft's ``conftest.py`` is loaded, runs the tests it was told
to, and writes what it saw as it happens, one JSON object a line: a process that dies in the middle
has told what came before.
"""

import json
import os
from pathlib import Path
from typing import Any

import pytest
import stand_ins

#: Where the plugin finds which tests to run, one a line, and where it writes.
WANTED, REPORT = (Path(os.environ[name]) for name in ("UPSTREAM_WANTED", "UPSTREAM_REPORT"))


@pytest.hookimpl(tryfirst=True)
def pytest_load_initial_conftests() -> None:
    stand_ins.install()


def pytest_configure(config: pytest.Config) -> None:
    config.pluginmanager.register(_Reporter(set(WANTED.read_text().split("\n"))))


class _Reporter:
    def __init__(self, wanted: set[str]) -> None:
        self._wanted = wanted
        self._outcome = self._detail = ""

    @pytest.hookimpl(trylast=True)
    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        _write("collected", tests=[item.nodeid for item in items])
        items[:] = [item for item in items if item.nodeid in self._wanted]

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        if report.failed:
            _write("uncollected", file=report.nodeid, detail=report.longreprtext)

    def pytest_runtest_logstart(self, nodeid: str) -> None:
        self._outcome, self._detail = "passed", ""
        _write("started", test=nodeid)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        # Setting up, the test itself and tearing down each have a say; the first that doesn't
        # pass decides.
        if not report.passed and self._outcome == "passed":
            self._outcome = report.outcome
            skipped = isinstance(report.longrepr, tuple)
            self._detail = report.longrepr[2] if skipped else report.longreprtext

    def pytest_runtest_logfinish(self, nodeid: str) -> None:
        _write("ended", test=nodeid, outcome=self._outcome, detail=self._detail)

    def pytest_sessionfinish(self) -> None:
        _write("finished", intruders=stand_ins.intruders())


def _write(event: str, **fields: Any) -> None:
    with REPORT.open("a") as file:
        file.write(json.dumps({"event": event, **fields}) + "\n")
