"""A store and a state directory belong together."""

import asyncio
from pathlib import Path

import pytest

from trunkline.platform.state_id import OtherStateDirError, check_state_dir
from trunkline.store.sqlite.engine import open_sqlite


async def test_a_store_stays_with_its_first_directory(tmp_path: Path) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    for folder in (first, second):
        folder.mkdir()
    store = await open_sqlite(tmp_path / "trunkline.db")
    # Several processes may open it for the first time at once.
    await asyncio.gather(*(check_state_dir(store, first, what="the store") for _ in range(5)))
    with pytest.raises(OtherStateDirError, match=f"the store belongs to another .* than {second}"):
        await check_state_dir(store, second, what="the store")
    await check_state_dir(store, first, what="the store")
    assert [path.name for path in first.iterdir()] == ["id"]
    # Moved as a whole, it is the same.
    moved = first.rename(tmp_path / "moved")
    await check_state_dir(store, moved, what="the store")
    await store.aclose()


async def test_an_id_that_is_none_is_told(tmp_path: Path) -> None:
    store = await open_sqlite(tmp_path / "trunkline.db")
    (tmp_path / "id").write_text("")
    with pytest.raises(OtherStateDirError, match="must hold 32 hex digits"):
        await check_state_dir(store, tmp_path, what="the store")
    await store.aclose()
