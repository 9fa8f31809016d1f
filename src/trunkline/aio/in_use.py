"""Counts who uses a thing, for those who have to wait until nobody does."""

import asyncio
from collections import Counter
from collections.abc import Hashable, Iterator
from contextlib import contextmanager
from typing import Generic, TypeVar

_K = TypeVar("_K", bound=Hashable)


class InUse(Generic[_K]):
    """Things by their keys, each with the number of its users. For one event loop."""

    def __init__(self) -> None:
        self._users: Counter[_K] = Counter()
        self._changed = asyncio.Event()

    @contextmanager
    def one(self, key: _K) -> Iterator[None]:
        """Be one of the thing's users meanwhile."""
        self._users[key] += 1
        try:
            yield
        finally:
            self._users[key] -= 1
            if not self._users[key]:
                del self._users[key]
                self._changed.set()

    async def wait_unused(self, key: _K) -> None:
        """Wait until the thing has no user. It may have one again by the next await."""
        while self._users[key]:
            self._changed.clear()
            await self._changed.wait()
