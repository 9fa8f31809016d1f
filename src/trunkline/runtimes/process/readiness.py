"""Asks an agent whether it is ready."""

import asyncio
import contextlib
from typing import Protocol

from trunkline.runtimes.interface import Address

FIRST_DELAY_S = 0.005
LAST_DELAY_S = 0.1
_DELAY_SHARE = 0.1

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

    def candidate(self) -> Address:
        """Return where to ask. A Unix socket that is there is the one to ask."""


async def find_ready(place: Place, *, timeout_s: float) -> Address | None:
    """Return where the agent answers that it is ready, or None."""
    address = place.candidate()
    return address if await is_ready(address, timeout_s=timeout_s) else None


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
