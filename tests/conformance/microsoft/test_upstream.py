"""Microsoft's own, unmodified tests of its agent host pass on trunkline's."""

import fcntl
import tempfile
from pathlib import Path

import pytest

from tests.conformance.microsoft.sdists import fetch, read_pins, unpack
from tests.conformance.microsoft.selection import Selection, load
from tests.conformance.microsoft.upstream import Report, run

# The first test of a session waits for the run of all of them.
pytestmark = pytest.mark.timeout(700)

SUITES = {selection.suite: selection for selection in load()}
TESTS = [(suite, test) for suite, selection in SUITES.items() for test in selection.run]


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> Path:
    """A folder that all processes of this test session share."""
    base = tmp_path_factory.getbasetemp()
    folder = (base if worker_id == "master" else base.parent) / "upstream"
    folder.mkdir(exist_ok=True)
    return folder


@pytest.fixture(scope="session")
def reports(folder: Path) -> dict[str, Report]:
    """Run the tests, once however many processes ask."""
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        return {suite: _report(selection, folder) for suite, selection in SUITES.items()}


def _report(selection: Selection, folder: Path) -> Report:
    known = folder / f"{selection.suite}.json"
    if not known.exists():
        scratch = Path(tempfile.mkdtemp(prefix=selection.suite, dir=folder))
        report = run(_tests(selection, folder), selection.run, scratch)
        known.write_text(report.to_json())
    return Report.from_json(known.read_text())


def _tests(selection: Selection, folder: Path) -> Path:
    return unpack(fetch(read_pins()[selection.distribution]), folder) / "tests"


@pytest.mark.parametrize(("suite", "test"), TESTS, ids=map("/".join, TESTS))
def test_upstream(suite: str, test: str, reports: dict[str, Report]) -> None:
    verdict = reports[suite].verdict(test)
    if verdict != "passed":
        pytest.fail(f"{suite}: {test} {verdict}", pytrace=False)


@pytest.mark.parametrize("suite", SUITES)
class TestTheRun:
    def test_was_of_as_many_tests_as_are_pinned_with_the_version(
        self, suite: str, reports: dict[str, Report]
    ) -> None:
        selection = SUITES[suite]
        assert read_pins()[selection.distribution].version == selection.version
        assert len(set(selection.run)) == selection.count
        assert reports[suite].outcomes.keys() == set(selection.run)

    def test_loaded_nothing_of_microsofts_behind_the_stand_ins(
        self, suite: str, reports: dict[str, Report]
    ) -> None:
        assert reports[suite].intruders == [], reports[suite].output

    def test_left_nothing_out_without_a_reason(
        self, suite: str, reports: dict[str, Report], folder: Path
    ) -> None:
        selection = SUITES[suite]
        tests = _tests(selection, folder)
        files = [path.relative_to(tests).as_posix() for path in tests.rglob("test_*.py")]
        assert selection.files <= set(files)
        assert selection.unclassified([*files, *reports[suite].collected]) == []
