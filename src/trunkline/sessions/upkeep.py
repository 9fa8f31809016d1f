"""What has to happen from time to time: signs of life, expiry, unfinished deletions."""

import asyncio
import datetime as dt
import logging

from trunkline.protocol.ids import NodeId
from trunkline.runtimes.interface import Runtime
from trunkline.sessions.directory import SessionDirectory
from trunkline.sessions.settings import SessionSettings
from trunkline.store.interface import Store

_log = logging.getLogger("trunkline.sessions")


class Upkeep:
    """Keeps what the store says in step with what runs."""

    def __init__(
        self,
        settings: SessionSettings,
        *,
        store: Store,
        runtime: Runtime,
        sessions: SessionDirectory,
        node: NodeId,
    ) -> None:
        self._settings = settings
        self._store = store
        self._runtime = runtime
        self._sessions = sessions
        self._node = node

    async def begin(self, *, is_alone: bool) -> None:
        """Say that this node lives, and clear up after those that don't.

        Args:
            is_alone: Whether nobody else can be using the store: then every other node is dead.
        """
        now = _now()
        await self._bury(now + dt.timedelta(days=1) if is_alone else self._alive_since(now))
        await self._store.heartbeat(self._node, now)
        await asyncio.to_thread(self._sessions.homes.empty_trash)
        await self._finish_deletions()

    async def run(self) -> None:
        """Go on for ever; what fails is logged and tried again."""
        while True:
            await asyncio.sleep(self._settings.upkeep_interval_s)
            try:
                await self._once()
            except Exception:  # noqa: BLE001 - whatever it is, sessions must go on being kept
                _log.exception("the sessions' upkeep failed; it is tried again")

    async def _once(self) -> None:
        now = _now()
        await self._store.heartbeat(self._node, now)
        await self._bury(self._alive_since(now))
        for record in await self._store.expire_sessions(now):
            _log.info("session %s expired: unused since %s", record.key, record.last_accessed_at)
        await self._finish_deletions()

    async def _bury(self, alive_since: dt.datetime) -> None:
        for node in await self._store.dead_nodes(alive_since):
            if node != self._node:
                ended = await self._runtime.end_leftovers(node)
                _log.warning("a platform process died; %d processes of its agents ended", ended)
                await self._store.remove_node(node)

    async def _finish_deletions(self) -> None:
        for record in await self._store.deleting_sessions():
            if record.holder in (None, self._node):
                await self._sessions.finish_deletion(record)

    def _alive_since(self, now: dt.datetime) -> dt.datetime:
        return now - dt.timedelta(seconds=self._settings.node_timeout_s)


def _now() -> dt.datetime:
    return dt.datetime.now(dt.UTC)
