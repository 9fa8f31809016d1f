"""The event loop's side of the compiled pump."""

import asyncio
import logging
import socket

import pytest

from trunkline.gateway.carrier import Carrier, Given
from trunkline.gateway.settings import GatewaySettings


async def test_one_that_cannot_be_taken_back_keeps_no_other_from_it(
    caplog: pytest.LogCaptureFixture,
) -> None:
    carrier = Carrier(GatewaySettings())
    told: list[int] = []
    all_told = asyncio.Event()
    pairs = [(*socket.socketpair(), *socket.socketpair()) for _ in range(3)]
    carried = []

    def take_back(number: int) -> None:
        told.append(number)
        if len(told) == len(pairs):
            all_told.set()
        raise OSError("the system has no memory for watching it")

    def give(number: int) -> None:
        _, client, agent, _ = pairs[number]
        one, other = (Given(sock.fileno(), 0, 0, 0) for sock in (client, agent))
        carried.append(carrier.carry(one, other, lambda: take_back(number)))

    try:
        for number in range(len(pairs)):
            give(number)
        # All of them end while the loop doesn't look, so that it is told of them at once.
        for far, *_ in pairs:
            far.close()
        await asyncio.wait_for(all_told.wait(), 10)
        assert sorted(told) == [0, 1, 2]
        failed = [record for record in caplog.records if record.levelno == logging.ERROR]
        assert len(failed) == 3
    finally:
        for each in carried:
            assert each is not None
            each.take_back()
        carrier.close()
        for four in pairs:
            for sock in four:
                sock.close()
