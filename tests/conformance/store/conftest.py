"""Every store the suite runs against."""

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path

import pytest

from tests.support.postgres import PostgresServer
from trunkline.store.interface import Store
from trunkline.store.opening import StorePlace
from trunkline.store.settings import StoreSettings

#: Opens the one store of a test; again and again it is the same state.
OpenStore = Callable[[], Awaitable[Store]]


@pytest.fixture(params=["sqlite", "postgres"])
def store_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    if request.param == "sqlite":
        yield f"sqlite://{tmp_path}/state/trunkline.db"
        return
    server: PostgresServer = request.getfixturevalue("postgres")
    with server.database() as url:
        yield url


@pytest.fixture
async def open_store(store_url: str, tmp_path: Path) -> AsyncIterator[OpenStore]:
    opened: list[Store] = []

    async def open_it() -> Store:
        store = await StorePlace(StoreSettings(url=store_url), tmp_path).open()
        opened.append(store)
        return store

    yield open_it
    for store in opened:
        await store.aclose()


@pytest.fixture
async def store(open_store: OpenStore) -> Store:
    return await open_store()
