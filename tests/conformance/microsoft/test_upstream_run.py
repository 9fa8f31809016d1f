"""A run of Microsoft's tests can fail: each way in which one goes wrong is told from the others."""

import re
from pathlib import Path

import pytest

from tests.conformance.microsoft.selection import Selection
from tests.conformance.microsoft.upstream import Report, run

CONFTEST = """
from azure.ai.agentserver.invocations import InvocationAgentServerHost as Host
"""
TESTS = """
import asyncio, sys, time, types

import pytest
from azure.ai.agentserver.core import something_private
from conftest import Host

def test_good():
    from trunkline.agentserver import InvocationAgentServerHost
    assert Host is InvocationAgentServerHost

def test_bad():
    assert Host is None

def test_skipped():
    pytest.skip("not today")

def test_hanging():
    time.sleep(600)

@pytest.mark.asyncio
async def test_waiting():
    await asyncio.Event().wait()

def test_private():
    something_private()

@pytest.fixture
def broken():
    yield
    raise ValueError("torn down badly")

def test_torn(broken):
    pass

def test_intruding():
    sys.modules["azure.sneaky"] = types.ModuleType("azure.sneaky")

def test_importing():
    import azure.identity

def test_unknown():
    pass
"""
DEADLY = """
import os, signal, time

def test_alive():
    pass

def test_deadly():
    os._exit(9)

def test_stuck():
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGALRM})
    time.sleep(600)

def test_late():
    pass
"""


def upstream(folder: Path, **files: str) -> Path:
    tests = folder / "tests"
    tests.mkdir()
    for name, text in files.items():
        (tests / f"{name}.py").write_text(text)
    return tests


def scratch(folder: Path, name: str) -> Path:
    (folder / name).mkdir()
    return folder / name


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Report:
    folder = tmp_path_factory.mktemp("made")
    tests = upstream(folder, conftest=CONFTEST, test_a=TESTS, test_b="raise OSError('no such')")
    names = [name for name in re.findall(r"def test_(\w+)", TESTS) if name != "unknown"]
    wanted = [*(f"test_a.py::test_{name}" for name in (*names, "gone")), "test_b.py::test_any"]
    return run(tests, wanted, scratch(folder, "scratch"), test_timeout_s=2)


@pytest.mark.parametrize(
    ("test", "verdict"),
    [
        ("good", "passed"),
        ("bad", "assert"),
        ("skipped", "skipped: Skipped: not today"),
        ("hanging", "Timeout"),
        ("waiting", "Timeout"),
        ("private", "no azure.ai.agentserver.core.something_private in trunkline.agentserver"),
        ("torn", "torn down badly"),
        ("importing", "ModuleNotFoundError"),
        ("gone", "didn't run: there is no such test"),
    ],
)
def test_each_test_has_its_verdict(report: Report, test: str, verdict: str) -> None:
    found = report.verdict(f"test_a.py::test_{test}")
    assert verdict in found
    assert (found == "passed") == (test == "good")


def test_a_file_that_cannot_be_imported_is_named_with_its_error(report: Report) -> None:
    assert "no such" in report.verdict("test_b.py::test_any")


def test_what_was_not_asked_for_is_told_and_not_run(report: Report) -> None:
    assert "test_a.py::test_unknown" in report.collected
    assert "test_a.py::test_unknown" not in report.outcomes


def test_what_gets_in_behind_the_stand_ins_is_told(report: Report) -> None:
    assert report.intruders == ["azure.sneaky"]


def test_a_report_can_be_handed_on(report: Report) -> None:
    assert Report.from_json(report.to_json()) == report


@pytest.mark.parametrize(
    ("deadly", "timeout_s", "said"),
    # By then it has to have started, and to have come to the second test.
    [("deadly", 60, ""), ("stuck", 15, "killed after 15 s")],
)
def test_a_process_that_dies_names_the_test_it_died_in(
    tmp_path: Path, deadly: str, timeout_s: float, said: str
) -> None:
    tests = upstream(tmp_path, test_c=DEADLY)
    wanted = [f"test_c.py::test_{name}" for name in ("alive", deadly, "late")]
    report = run(
        tests, wanted, scratch(tmp_path, "scratch"), test_timeout_s=2, suite_timeout_s=timeout_s
    )
    assert report.verdict(wanted[0]) == "passed"
    for test in wanted[1:]:
        assert report.verdict(test) == f"didn't run: the run ended in {wanted[1]}"
    assert report.intruders is None
    assert said in report.output


def test_what_is_neither_run_nor_left_out_is_unclassified() -> None:
    selection = Selection(
        "s", "d", "1", 1, run=("test_a.py::test_x[1]",), left_out=("e2e/*", "test_b.py::Test*::*")
    )
    tests = ["test_a.py", "test_a.py::test_x[1]", "e2e/test_c.py", "test_b.py::TestY::test_z[[]"]
    assert selection.unclassified(tests) == []
    odd = ["test_a.py::test_x[2]", "test_b.py", "test_b.py::test_y", "test_d.py"]
    assert selection.unclassified([*tests, *odd]) == odd
