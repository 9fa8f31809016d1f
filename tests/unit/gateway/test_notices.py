"""Which refusals the log tells of, and how often."""

import logging

import pytest

from trunkline.gateway.notices import LimitNotices
from trunkline.protocol.errors import (
    HeadTooLargeError,
    RateLimitedError,
    TrunklineError,
    UnavailableError,
)


def told(caplog: pytest.LogCaptureFixture) -> list[tuple[int, str]]:
    return [(record.levelno, record.getMessage()) for record in caplog.records]


def full() -> TrunklineError:
    return UnavailableError("3 connections are open").by_limit("max_connections")


def test_a_limit_that_refuses_is_told_with_its_variable(caplog: pytest.LogCaptureFixture) -> None:
    LimitNotices().refused(full())
    ((level, line),) = told(caplog)
    assert level == logging.WARNING
    by = "refused with 503 by TRUNKLINE_GATEWAY_MAX_CONNECTIONS: 3 connections are open "
    assert line.startswith(by)


def test_a_limit_on_how_often_one_asks_has_its_own_variable(
    caplog: pytest.LogCaptureFixture,
) -> None:
    error = RateLimitedError("too often", retry_after_s=1).by_limit("upgrades_per_address")
    LimitNotices().refused(error)
    assert "TRUNKLINE_RATES_UPGRADES_PER_ADDRESS" in told(caplog)[0][1]


def test_each_limit_is_told_once_a_minute(caplog: pytest.LogCaptureFixture) -> None:
    times = iter([100.0, 100.1, 159.9, 159.9, 160.0])
    notices = LimitNotices(lambda: next(times))
    for _ in range(3):
        notices.refused(full())
    assert len(told(caplog)) == 1
    notices.refused(UnavailableError("others").by_limit("max_connections_per_address"))
    assert len(told(caplog)) == 2
    notices.refused(full())
    assert len(told(caplog)) == 3


def test_a_strangers_head_is_no_warning(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "trunkline.gateway"):
        LimitNotices().refused(HeadTooLargeError("long").by_limit("max_head_bytes"))
    ((level, line),) = told(caplog)
    assert level == logging.INFO
    assert "TRUNKLINE_GATEWAY_MAX_HEAD_BYTES" in line


def test_what_is_no_limit_is_not_told(caplog: pytest.LogCaptureFixture) -> None:
    LimitNotices().refused(UnavailableError("the platform is restarting"))
    assert told(caplog) == []
