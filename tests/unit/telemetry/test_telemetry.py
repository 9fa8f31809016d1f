"""What the platform says of itself."""

import logging
from collections.abc import Iterator

import pytest

from trunkline.telemetry.logs import set_up_logging
from trunkline.telemetry.metrics import Metrics


@pytest.fixture
def own_root(monkeypatch: pytest.MonkeyPatch) -> Iterator[logging.Logger]:
    """A root logger for one test, so that the real one keeps its handlers."""
    root = logging.RootLogger(logging.WARNING)
    monkeypatch.setattr(logging, "root", root)
    levels = {name: logging.getLogger(name).level for name in ("httpx2", "httpcore2")}
    yield root
    for name, level in levels.items():
        logging.getLogger(name).setLevel(level)


def test_a_log_line_is_in_utc_and_says_who_speaks(
    own_root: logging.Logger, capsys: pytest.CaptureFixture[str]
) -> None:
    set_up_logging()
    record = logging.LogRecord(
        "trunkline.gateway", logging.INFO, "x.py", 1, "said %s", ("it",), None
    )
    record.created, record.msecs = 1_767_323_045.0, 678.0
    own_root.handle(record)
    printed = capsys.readouterr()
    assert printed.err == "2026-01-02T03:04:05.678Z INFO trunkline.gateway: said it\n"
    assert printed.out == ""


def test_setting_logging_up_twice_says_things_once(
    own_root: logging.Logger, capsys: pytest.CaptureFixture[str]
) -> None:
    set_up_logging()
    set_up_logging(logging.WARNING)
    own_root.warning("once")
    own_root.info("never")
    assert capsys.readouterr().err.count("once") == 1
    assert logging.getLogger("httpx2").level == logging.WARNING


def test_every_metric_has_our_prefix_and_help() -> None:
    lines = Metrics().render().decode().splitlines()
    kinds = [line.split()[2] for line in lines if line.startswith("# TYPE ")]
    helped = {line.split()[2] for line in lines if line.startswith("# HELP ") and line.split()[3:]}
    assert len(kinds) >= 8
    for name in kinds:
        assert name.startswith("trunkline_")
        assert name in helped or name.endswith("_created")


def test_two_platforms_in_one_process_count_apart() -> None:
    one, two = Metrics(), Metrics()
    one.connections.inc()
    assert b"trunkline_connections 1.0" in one.render()
    assert b"trunkline_connections 0.0" in two.render()
