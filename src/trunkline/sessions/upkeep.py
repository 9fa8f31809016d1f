"""What has to happen from time to time: signs of life, burials, expiry, unfinished deletions.

Several processes of the platform may share a store. Each says every ``upkeep_interval_s`` that it
lives, and looks whether the others do. One that was silent for ``node_timeout_s`` is buried: it
is struck off the nodes, what is left of its agents on this machine is ended, and then its
sessions are free; if whoever buries it dies in between, the others go on. One that finds itself
struck off, because it was paused or cut off for so long, ends its own agents at once, and only
then joins again.
"""

import asyncio
import contextlib
import datetime as dt
import logging
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
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
        """Stop, and return when nothing of it goes on: it is others' to go on with."""

    async def take_over(self) -> None:
        """Go on with what nobody works on any more.

        Asked at every look, so nothing to do must cost little. May take long.
        """


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
        self._is_alone = True
        self._is_passed_on = False
        self._tasks = TaskOwner()
        #: Known once they are made, which takes a node that is there.
        self.followers: Sequence[Follower] = ()
        #: Told of each other node that is gone, in good order or not.
        self.on_gone: Callable[[NodeId], None] = lambda node: None
        self._others: set[NodeId] = set()

    async def begin(self, *, is_alone: bool) -> None:
        """Say that this node lives, now and until the end, and clear up after those that don't.

        Args:
            is_alone: Whether nobody else can be using the store: then every other node is dead.
        """
        if is_alone:
            for record in await self._store.list_nodes():
                await self._store.remove_node(record.node)
        self._is_alone = is_alone
        began = time.monotonic()
        await self._store.add_node(self._node, _now(), self._url)
        self._vouch(began)
        # Apart, because ending an agent takes longer than others wait for a sign of life.
        self._tasks.spawn(self._for_ever(self._beat), name="upkeep:beat")
        with self._tried_again():
            await self._free_orphans()
        if is_alone:
            await asyncio.to_thread(self._sessions.homes.remove_ahead)
        await asyncio.to_thread(self._sessions.homes.empty_trash, is_alone=is_alone)
        await self._finish_deletions()

    async def go_on(self, *, is_alone: bool) -> None:
        """Say from here on that this node lives, in the place of a process that did until now.

        Args:
            is_alone: As for :meth:`begin`.
        """
        self._is_alone = is_alone
        with self._tried_again():
            await self._beat()
        self._tasks.spawn(self._for_ever(self._beat), name="upkeep:beat")

    def let_go(self) -> None:
        """Leave everything from here on to the process that is the node now."""
        self._is_passed_on = True

    async def run(self) -> None:
        """Clear up for ever; what fails is logged and tried again."""
        # Side by side: two nodes that each wait for the other to let a session go would wait
        # for ever if letting go had to wait, too.
        work = (self._bury_the_dead, self._clear_up, *(f.take_over for f in self.followers))
        async with asyncio.TaskGroup() as group:
            for number, each in enumerate(work):
                group.create_task(self._for_ever(each), name=f"upkeep:{number}")

    async def aclose(self) -> None:
        """Say that this node is no more, when nothing of its sessions runs. Twice is fine."""
        await self._tasks.aclose()
        if self._is_passed_on:
            return
        await self._store.remove_node(self._node)
        await self._store.release_orphans(self._node)

    async def _for_ever(self, work: Callable[[], Awaitable[None]]) -> None:
        while True:
            await asyncio.sleep(self._settings.upkeep_interval_s)
            if self._is_passed_on:
                return
            with self._tried_again():
                await work()

    @contextlib.contextmanager
    def _tried_again(self) -> Iterator[None]:
        try:
            yield
        except TrunklineError as exc:
            _log.warning("the sessions' upkeep is tried again: %s", exc)
        except Exception:  # noqa: BLE001 - whatever it is, sessions must go on being kept
            _log.exception("the sessions' upkeep failed; it is tried again")

    async def _beat(self) -> None:
        began = time.monotonic()
        if await self._store.heartbeat(self._node, _now()):
            self._vouch(began)
        else:
            await self._join_again()

    def _vouch(self, began: float) -> None:
        if not self._is_alone:
            self._sessions.vouch(began + self._settings.node_timeout_s)

    async def _bury_the_dead(self) -> None:
        others = [r for r in await self._store.list_nodes() if r.node != self._node]
        gone, self._others = self._others, {record.node for record in others}
        for node in gone - self._others:
            self.on_gone(node)
        for record in self._sightings.look(others, time.monotonic()):
            await self._bury(record.node, heard_at=record.heartbeat_at)
        await self._free_orphans()

    async def _bury(self, node: NodeId, *, heard_at: dt.datetime | None) -> None:
        # First of all it may claim nothing any more. Its sessions are free last of all.
        if await self._store.remove_node(node, heard_at=heard_at):
            _log.warning("a platform process died; what it left running is ended")
            await self._free(node)

    async def _free_orphans(self) -> None:
        # Those of nodes that were struck off by one that didn't come any further.
        for node in await self._store.orphan_holders():
            # Its own are freed before it joins again.
            if node != self._node:
                await self._free(node)

    async def _free(self, node: NodeId) -> None:
        ended = await self._runtime.end_leftovers(node)
        await asyncio.to_thread(self._sessions.homes.remove_ahead, node)
        await self._store.release_orphans(node)
        _log.info("a dead platform process's sessions are free; %d processes ended", ended)

    async def give_up(self) -> None:
        """Have all followers stop: others go on with their work."""
        for follower in self.followers:
            await follower.give_up()

    async def _join_again(self) -> None:
        _log.error(
            "this process was taken for dead: no sign of life came through for node_timeout_s "
            "(%g s). Its sessions end, and it begins again",
            self._settings.node_timeout_s,
        )
        await self._sessions.lose_all()
        await self.give_up()
        # Whoever struck it off may have died before it could let its sessions go.
        await self._store.release_orphans(self._node)
        began = time.monotonic()
        await self._store.add_node(self._node, _now(), self._url)
        self._vouch(began)
        self._sessions.begin_again()

    async def _clear_up(self) -> None:
        await self._sessions.release_late()
        await self._sessions.ready.look()
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
