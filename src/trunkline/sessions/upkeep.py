"""What has to happen from time to time: signs of life, burials, expiry, unfinished deletions.

Several processes of the platform may share a store. Each says every ``upkeep_interval_s`` that it
lives, and looks whether the others do. One that was silent for ``node_timeout_s`` is buried: it
is struck off the nodes, what is left of its agents on this machine is ended, and then its
sessions are free. One that finds itself struck off, because it was paused or cut off for so long,
ends its own agents at once, and only then joins again.
"""

import asyncio
import datetime as dt
import logging
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Protocol

from trunkline.aio.tasks import TaskOwner
from trunkline.protocol.errors import TrunklineError
from trunkline.protocol.ids import NodeId
from trunkline.runtimes.interface import Runtime
from trunkline.sessions.directory import SessionDirectory
from trunkline.sessions.settings import SessionSettings
from trunkline.sessions.sightings import Sightings
from trunkline.store.interface import Store

_log = logging.getLogger("trunkline.sessions")


class Follower(Protocol):
    """Somebody else who works on what the store says is a node's."""

    async def give_up(self) -> None:
        """Stop: this node was taken for dead, and others go on with its work."""

    async def take_over(self) -> None:
        """Go on with the work of nodes that are no more. May take long, and may be repeated."""


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
        url: str,
    ) -> None:
        """Prepare; nothing happens yet.

        Args:
            settings: How often, and how long to wait for the others.
            store: What they share.
            runtime: Ends what the dead left running.
            sessions: The sessions of this node.
            node: This node.
            url: Where the others reach it.
        """
        self._settings = settings
        self._store = store
        self._runtime = runtime
        self._sessions = sessions
        self._node = node
        self._url = url
        self._sightings = Sightings(
            interval_s=settings.upkeep_interval_s, timeout_s=settings.node_timeout_s
        )
        #: How many were buried, and of how many the work was taken over.
        self._burials = self._burials_handled = 0
        self._tasks = TaskOwner()
        #: Known once they are made, which takes a node that is there.
        self.followers: Sequence[Follower] = ()

    async def begin(self, *, is_alone: bool) -> None:
        """Say that this node lives, now and until the end, and clear up after those that don't.

        Args:
            is_alone: Whether nobody else can be using the store: then every other node is dead.
        """
        if is_alone:
            for record in await self._store.list_nodes():
                await self._bury(record.node, heard_at=None)
        await self._store.add_node(self._node, _now(), self._url)
        # Apart, because ending an agent takes longer than others wait for a sign of life.
        self._tasks.spawn(self._for_ever(self._beat), name="upkeep:beat")
        await self._store.release_orphans()
        await asyncio.to_thread(self._sessions.homes.empty_trash, is_alone=is_alone)
        await self._finish_deletions()
        # Those who follow begin with it themselves.
        self._burials_handled = self._burials

    async def run(self) -> None:
        """Clear up for ever; what fails is logged and tried again."""
        await self._for_ever(self._clear_up)

    async def aclose(self) -> None:
        """Say that this node is no more, when nothing of its sessions runs. Twice is fine."""
        await self._tasks.aclose()
        await self._store.remove_node(self._node)
        await self._store.release_orphans()

    async def _for_ever(self, work: Callable[[], Awaitable[None]]) -> None:
        while True:
            await asyncio.sleep(self._settings.upkeep_interval_s)
            try:
                await work()
            except TrunklineError as exc:
                _log.warning("the sessions' upkeep is tried again: %s", exc)
            except Exception:  # noqa: BLE001 - whatever it is, sessions must go on being kept
                _log.exception("the sessions' upkeep failed; it is tried again")

    async def _beat(self) -> None:
        if not await self._store.heartbeat(self._node, _now()):
            await self._join_again()
        others = [r for r in await self._store.list_nodes() if r.node != self._node]
        for record in self._sightings.look(others, time.monotonic()):
            await self._bury(record.node, heard_at=record.heartbeat_at)

    async def _bury(self, node: NodeId, *, heard_at: dt.datetime | None) -> None:
        # First of all it may claim nothing any more. Its sessions are free last of all.
        if not await self._store.remove_node(node, heard_at=heard_at):
            return
        ended = await self._runtime.end_leftovers(node)
        await self._store.release_orphans()
        self._burials += 1
        _log.warning("a platform process died; %d processes of its agents ended", ended)

    async def _join_again(self) -> None:
        _log.error(
            "this process was taken for dead: no sign of life came through for node_timeout_s "
            "(%g s). Its sessions end, and it begins again",
            self._settings.node_timeout_s,
        )
        await self._sessions.lose_all()
        for follower in self.followers:
            await follower.give_up()
        # Whoever struck it off may have died before it could let its sessions go.
        await self._store.release_orphans()
        await self._store.add_node(self._node, _now(), self._url)
        self._sessions.begin_again()
        self._burials += 1

    async def _clear_up(self) -> None:
        if (burials := self._burials) != self._burials_handled:
            for follower in self.followers:
                await follower.take_over()
            self._burials_handled = burials
        await self._sessions.release_late()
        for record in await self._store.expire_sessions(_now()):
            _log.info("session %s expired: unused since %s", record.key, record.last_accessed_at)
        await self._store.forget_past_sessions(_now() - self._settings.lifetime)
        await self._finish_deletions()

    async def _finish_deletions(self) -> None:
        for record in await self._store.deleting_sessions():
            if record.holder in (None, self._node):
                await self._sessions.finish_deletion(record)


def _now() -> dt.datetime:
    return dt.datetime.now(dt.UTC)
