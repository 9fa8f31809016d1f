"""A session's files are its own: they go with it, and no other session gets them."""

import asyncio
from collections.abc import AsyncIterator
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
