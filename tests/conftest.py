"""What every test shares."""

import asyncio
import logging
from collections.abc import Callable, Iterator, Mapping

import pytest
import uvloop
from hypothesis import HealthCheck, settings

from tests.support.postgres import PostgresServer, running_server

# How long an example takes is the machine's and its neighbours' business.
settings.register_profile(
    "any machine", deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("any machine")


def pytest_asyncio_loop_factories() -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    """Run on the loop that trunkline runs on."""
    return {"uvloop": uvloop.new_event_loop}


@pytest.fixture(autouse=True)
def _logs_as_before() -> Iterator[None]:
    """Undo what a platform or a host does to the logs: the next test may count lines."""
    logs = [logging.getLogger(name) for name in (None, "trunkline", "azure.ai.agentserver")]
    before = [(log, log.level, list(log.handlers)) for log in logs]
    yield
    for log, level, handlers in before:
        log.setLevel(level)
        for handler in set(log.handlers) - set(handlers):
            log.removeHandler(handler)


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer]:
    """One server for all tests of this process; each makes databases of its own."""
    with running_server() as server:
        yield server
