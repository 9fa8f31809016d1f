"""Asks an agent whether it is ready."""

import asyncio
import contextlib
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from trunkline.runtimes.interface import Address
from trunkline.runtimes.process.appearing import Appearances

FIRST_DELAY_S = 0.005
LAST_DELAY_S = 0.1
_DELAY_SHARE = 0.1
#: Between a socket's appearance and its first answer there is but a moment.
_MOMENTS_S = (0.0005, 0.001, 0.002)
#: A port is asked at a little later, because that costs far more than to be told of a socket, and
#: who has one doesn't listen on a port.
_PORT_LATER_S = 0.015
#: An agent may make any number of files where its socket is to be.
_MAX_APPEARANCES = 8

_REQUEST = (
    b"GET /readiness HTTP/1.1\r\nHost: localhost\r\nUser-Agent: trunkline\r\n"
    b"Accept: */*\r\nConnection: close\r\n\r\n"
)


def next_delay_s(waited_s: float) -> float:
    """Return how long to wait before asking again.

    In proportion to the time waited, so that asking adds a tenth to a start at most.
    """
    return min(max(waited_s * _DELAY_SHARE, FIRST_DELAY_S), LAST_DELAY_S)


class Place(Protocol):
    """Somewhere an agent may listen."""

    @property
    def listens_in(self) -> Path:
        """The folder in which its Unix socket is to appear."""

    def candidate(self) -> Address:
        """Return where to ask. A Unix socket that is there is the one to ask."""

    def is_own_socket(self, address: Address) -> bool:
        """Tell whether an address is the agent's own socket, and not a way to its port."""


async def wait_ready(
    place: Place,
    appearances: Appearances,
    news: asyncio.Event,
    *,
    is_over: Callable[[], bool],
    waited_s: Callable[[], float],
    timeout_s: float,
) -> Address | None:
    """Return where an agent answers that it is ready; None when there is nothing to wait for.

    Args:
        place: Where it may listen.
        appearances: Tells when its socket is there.
        news: Set when there is something to look at, such as that it is over.
        is_over: Tells whether there is nothing to wait for any more.
        waited_s: Tells for how long it was waited.
        timeout_s: How long it may take to answer once.
    """
    moments = list(_MOMENTS_S)
    left = _MAX_APPEARANCES
    ask_port_at_s = waited_s() + _PORT_LATER_S
    with appearances.at(place.listens_in, news) as watch:
        while not is_over():
            news.clear()
            if left:
                # First of all, lest it appears in between.
                watch.begin()
            address = place.candidate()
            is_own = place.is_own_socket(address)
            is_due = is_own or waited_s() >= ask_port_at_s
            if is_due and await is_ready(address, timeout_s=timeout_s) and not is_over():
                return address
            delay_s = moments.pop(0) if is_own and moments else next_delay_s(waited_s())
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(delay_s):
                    await news.wait()
                    left = max(left - 1, 0)
    return None


async def is_ready(address: Address, *, timeout_s: float) -> bool:
    """Tell whether ``GET /readiness`` at ``address`` is answered with 200 in time."""
    try:
        async with asyncio.timeout(timeout_s):
            if address.path is not None:
                reader, writer = await asyncio.open_unix_connection(address.path)
            else:
                reader, writer = await asyncio.open_connection("127.0.0.1", address.port)
            try:
                writer.write(_REQUEST)
                # The whole head is read: an agent's server complains in the agent's log about
                # a client that leaves in the middle.
                head = await reader.readuntil(b"\r\n\r\n")
            finally:
                writer.close()
                with contextlib.suppress(OSError):
                    await writer.wait_closed()
    except (OSError, TimeoutError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
        return False
    version, _, rest = head.partition(b" ")
    return version.startswith(b"HTTP/1.") and rest[:3] == b"200"
