"""Where connections come in, which several processes have open."""

import os
import socket
from contextlib import AsyncExitStack

import pytest

from trunkline.platform.workers.leading import open_entry


@pytest.mark.parametrize("workers", [1, 2])
async def test_no_duplicate_makes_whoever_accepts_wait(workers: int) -> None:
    async with AsyncExitStack() as stack:
        first = open_entry("127.0.0.1", 0, workers, given=None, stack=stack)
        assert len(first.listeners) == workers
        # As they come to the process that replaces this one, which duplicates them, too.
        given = [socket.socket(fileno=os.dup(each.fileno())) for each in first.listeners]
        second = open_entry("127.0.0.1", 0, workers, given=given, stack=stack)
        for listener in second.listeners:
            listener.dup().close()
        for listener in first.listeners:
            assert not os.get_blocking(listener.fileno())
