"""The word that the host is about to stop, for whoever wants to know."""

import asyncio


class Draining:
    """Becomes set when the host is told to stop.

    Used like :class:`asyncio.Event`, but any thread may set it and any event loop may wait.
    """

    __slots__ = ("_is_set", "_waiters")

    def __init__(self) -> None:
        self._is_set = False
        self._waiters: set[asyncio.Future[None]] = set()

    def is_set(self) -> bool:
        """Tell whether the host was told to stop."""
        return self._is_set

    async def wait(self) -> None:
        """Return once the host was told to stop. Cancelling is safe."""
        if self._is_set:
            return
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiters.add(waiter)
        try:
            await waiter
        finally:
            self._waiters.discard(waiter)

    def set(self) -> None:
        """Tell everyone. The host does it; a test of a handler may."""
        self._is_set = True
        for waiter in list(self._waiters):
            waiter.get_loop().call_soon_threadsafe(_finish, waiter)

    def clear(self) -> None:
        """Begin anew; the host does it when it is served again."""
        self._is_set = False


def _finish(waiter: asyncio.Future[None]) -> None:
    if not waiter.done():
        waiter.set_result(None)
