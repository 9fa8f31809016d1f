"""Every store the suite runs against."""

from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest

from trunkline.store.interface import Store
from trunkline.store.sqlite.engine import open_sqlite

#: Opens the one store of a test; again and again it is the same state.
OpenStore = Callable[[], Awaitable[Store]]


@pytest.fixture(params=["sqlite"])
async def open_store(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[OpenStore]:
    opened: list[Store] = []

    async def open_file() -> Store:
        store = await open_sqlite(tmp_path / "state" / "trunkline.db")
        opened.append(store)
        return store

    yield {"sqlite": open_file}[request.param]
    for store in opened:
        await store.aclose()


@pytest.fixture
async def store(open_store: OpenStore) -> Store:
    return await open_store()
