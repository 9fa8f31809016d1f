"""Tells the store that sessions don't run here any more, at once or as soon as it can be told."""

import datetime as dt
from collections.abc import Container

from trunkline.protocol.errors import UnavailableError
from trunkline.protocol.ids import NodeId, SessionKey
from trunkline.sessions.uses import Uses
from trunkline.store.interface import SessionStore
from trunkline.store.records import SessionStatus


class Releases:
    """What the store is told, and what it couldn't be told yet."""

    def __init__(self, store: SessionStore, node: NodeId, uses: Uses) -> None:
        self._store = store
        self._node = node
        self._uses = uses
        self._untold: dict[SessionKey, tuple[dt.datetime, SessionStatus]] = {}

    async def release(self, key: SessionKey, status: SessionStatus) -> None:
        """Say that a session's process is no more."""
        at = dt.datetime.now(dt.UTC)
        try:
            # From here on the session expires.
            await self._uses.tell()
            await self._store.release_session(key, self._node, at, status)
        except UnavailableError:
            # It isn't running, whatever the store goes on saying: that is mended later.
            self._untold[key] = at, status

    async def release_late(self, known: Container[SessionKey]) -> None:
        """Tell the store what it couldn't be told before, but of those that run by now."""
        await self._uses.tell()
        for key, (at, status) in list(self._untold.items()):
            if key not in known:
                await self._store.release_session(key, self._node, at, status)
                self._untold.pop(key, None)

    def forget(self, key: SessionKey) -> None:
        """Tell nothing of a session: it is about to run again."""
        self._untold.pop(key, None)

    def forget_all(self) -> None:
        """Tell nothing of any: they are others' by now."""
        self._untold.clear()
