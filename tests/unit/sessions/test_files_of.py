"""A session's files are its own: they go with it, and no other session gets them."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from tests.unit.sessions.support import ANNA, BERTA, World, key, world
from trunkline.protocol.errors import SessionNotFoundError


@pytest.fixture
async def w(tmp_path: Path) -> AsyncIterator[World]:
    async with world(tmp_path) as made:
        await made.add_version()
        yield made


async def test_a_deletion_waits_for_what_is_done_with_the_files(w: World) -> None:
    record = await w.sessions.create(key(), ANNA)
    async with w.sessions.files_of(record) as files:
        await w.store.mark_session_deleting(key())
        deletion = asyncio.ensure_future(w.delete())
        with pytest.raises(SessionNotFoundError):
            async with w.sessions.files_of(record):
                pass
        files.make_folder("a/b")
        assert not deletion.done()
    await deletion
    assert not w.sessions.homes.path(record.home).exists()
    with pytest.raises(SessionNotFoundError):
        async with w.sessions.files_of(record):
            pass
    assert not w.sessions.homes.path(record.home).exists()


async def test_a_home_made_for_a_session_that_has_just_gone_is_unmade(w: World) -> None:
    """Another process of the platform deletes it in the moment before."""
    (await w.acquire("other")).release()
    made = await w.store.find_session(key("other"))
    assert made is not None
    record, _ = await w.store.add_session(replace(made, key=key(), home="a-new-one", holder=None))
    assert not w.sessions.homes.path(record.home).exists()
    prepare = w.sessions.homes.prepare
    loop = asyncio.get_running_loop()

    async def delete_elsewhere() -> None:
        marked = await w.store.mark_session_deleting(key())
        assert marked is not None
        w.sessions.homes.remove(record.home)
        await w.store.remove_session(marked)

    def prepare_late(home: str) -> Path:
        asyncio.run_coroutine_threadsafe(delete_elsewhere(), loop).result()
        return prepare(home)

    w.sessions.homes.prepare = prepare_late  # type: ignore[method-assign]
    with pytest.raises(SessionNotFoundError):
        async with w.sessions.files_of(record):
            pass
    assert not w.sessions.homes.path(record.home).parent.exists()


async def test_another_session_under_the_id_is_another(w: World) -> None:
    """What was begun for one person's session must not end in the next one's."""
    annas = await w.sessions.create(key(), ANNA)
    await w.delete()
    bertas = await w.sessions.create(key(), BERTA)
    assert bertas.home != annas.home
    with pytest.raises(SessionNotFoundError, match="isn't there any more"):
        async with w.sessions.files_of(annas):
            pass
    async with w.sessions.files_of(bertas) as files:
        files.make_folder("mine")
