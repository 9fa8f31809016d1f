"""When sessions were last used: noted at once, and told to the store a moment later, together."""

import asyncio
import datetime as dt
import logging
from typing import Final

from trunkline.aio.tasks import TaskOwner
from trunkline.protocol.errors import TrunklineError
from trunkline.protocol.ids import SessionKey
from trunkline.store.interface import SessionStore

_log = logging.getLogger("trunkline.sessions")
_PAUSE_S: Final = 1.0


class Uses:
    """What the store hasn't been told yet.

    A session that is about to have no holder wants ``tell`` first: from then on it expires by
    what the store says.
    """

    def __init__(self, store: SessionStore, lifetime: dt.timedelta) -> None:
        """Make one.

        Args:
            store: Who is told.
            lifetime: How long after its last use a session expires.
        """
        self._store = store
        self._lifetime = lifetime
        self._untold: dict[SessionKey, dt.datetime] = {}
        self._tasks = TaskOwner()
        self._telling: asyncio.Task[None] | None = None

    def note(self, key: SessionKey) -> None:
        """Note that a session is used."""
        self._untold[key] = dt.datetime.now(dt.UTC)
        if self._telling is None:
            self._telling = self._tasks.spawn(self._tell_later(), name="uses")

    async def _tell_later(self) -> None:
        is_late = False
        try:
            while self._untold:
                await asyncio.sleep(_PAUSE_S)
                try:
                    await self.tell()
                except TrunklineError as exc:
                    # Once for each time that it can't be told.
                    if not is_late:
                        _log.warning("when sessions were used is told to the store later: %s", exc)
                    is_late = True
                else:
                    is_late = False
        finally:
            self._telling = None

    async def tell(self) -> None:
        """Tell the store now. What it can't be told is kept.

        Raises:
            UnavailableError: If it can't.
        """
        if not self._untold:
            return
        uses, self._untold = self._untold, {}
        try:
            await self._store.touch_sessions(uses, self._lifetime)
        except BaseException:
            self._untold = uses | self._untold
            raise

    async def aclose(self) -> None:
        """Tell what is left. Twice is fine."""
        await self._tasks.aclose()
        try:
            await self.tell()
        except TrunklineError as exc:
            _log.warning("the store can't be told when sessions were used: %s", exc)
