"""Time that passes only when a test says so."""

import asyncio


async def settle() -> None:
    """Let every task run until it waits for something."""
    for _ in range(30):
        await asyncio.sleep(0)


class FakeTime:
    """A clock, and a sleep that ends when :meth:`advance` has come that far."""

    def __init__(self) -> None:
        self.now_s = 100.0
        self._sleepers: list[tuple[float, asyncio.Future[None]]] = []

    def clock(self) -> float:
        return self.now_s

    async def sleep(self, duration_s: float) -> None:
        wakes: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._sleepers.append((self.now_s + duration_s, wakes))
        await wakes

    async def advance(self, duration_s: float) -> None:
        until_s = self.now_s + duration_s
        while True:
            await settle()
            self._sleepers = [each for each in self._sleepers if not each[1].done()]
            at_s, wakes = min(
                self._sleepers, key=lambda each: each[0], default=(float("inf"), None)
            )
            if wakes is None or at_s > until_s:
                break
            self.now_s = max(self.now_s, at_s)
            wakes.set_result(None)
        self.now_s = until_s
