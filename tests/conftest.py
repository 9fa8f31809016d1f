"""What every test shares."""

import asyncio
from collections.abc import Callable, Mapping

import uvloop


def pytest_asyncio_loop_factories() -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    """Run on the loop that trunkline runs on."""
    return {"uvloop": uvloop.new_event_loop}
