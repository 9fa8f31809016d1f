"""Finishes what was marked as being deleted: sessions first, then files, then the rows.

A mark is what a deletion that was acknowledged leaves behind; when a platform ends in the
middle, or its store goes away meanwhile, it is gone on with from it, there or by another that
shares the store. One at a time: the names of what is gone may be given again at once.
"""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

from trunkline.aio.tasks import TaskOwner
from trunkline.control.builds import VersionBuilds
from trunkline.protocol.errors import UnavailableError
from trunkline.protocol.ids import AgentName, NodeId, ProjectName
from trunkline.sessions.directory import SessionDirectory
from trunkline.store.interface import Store
from trunkline.store.records import AgentRecord, VersionRecord


class Deletions:
    """Removes agents and versions that nothing finds any more."""

    def __init__(
        self, *, store: Store, sessions: SessionDirectory, builds: VersionBuilds, node: NodeId
    ) -> None:
        self._store = store
        self._sessions = sessions
        self._builds = builds
        self._node = node
        self._tasks = TaskOwner()
        self._under_way: dict[tuple[str, ...], asyncio.Task[None]] = {}

    async def delete_agent(
        self, project: ProjectName, agent: AgentName, *, is_forced: bool
    ) -> bool:
        """Remove an agent with its versions and sessions; False if it isn't there.

        Raises:
            ConflictError: If it has sessions and the call isn't forced.
        """
        marked = await self._store.mark_agent_deleting(
            project, agent, self._node, is_forced=is_forced
        )
        if marked is not None:
            await self._finish_agent(marked)
        return marked is not None

    async def delete_version(self, record: VersionRecord, *, is_forced: bool) -> bool:
        """Remove a version with its sessions; False if it isn't there.

        Raises:
            ConflictError: If it has sessions and the call isn't forced.
        """
        marked = await self._store.mark_version_deleting(
            record.project, record.agent, record.version, self._node, is_forced=is_forced
        )
        if marked is not None:
            await self._finish_version(marked)
        return marked is not None

    async def take_over(self) -> None:
        """Finish what nobody is at any more."""
        for version in await self._store.deleting_versions():
            await self._finish_version(version)
        for agent in await self._store.deleting_agents():
            await self._finish_agent(agent)

    async def give_up(self) -> None:
        """Leave what is under way to the others: its names may be given again by now."""
        tasks = list(self._under_way.values())
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)

    async def _finish_agent(self, record: AgentRecord) -> None:
        await self._once((record.project, record.name), lambda: self._remove_agent(record))

    async def _finish_version(self, record: VersionRecord) -> None:
        name = (record.project, record.agent, record.version)
        await self._once(name, lambda: self._remove_version(record))

    async def _once(
        self, name: tuple[str, ...], work: Callable[[], Coroutine[Any, Any, None]]
    ) -> None:
        task = self._under_way.get(name)
        if task is None:
            task = self._tasks.spawn(work(), name=f"delete:{'/'.join(name)}", is_awaited=True)
            self._under_way[name] = task
            task.add_done_callback(lambda _: self._under_way.pop(name, None))
        # A caller who leaves doesn't end it for those who stay.
        await asyncio.wait((task,))
        if task.cancelled():
            raise UnavailableError("the deletion was begun, and goes on; try again")
        task.result()

    async def _remove_agent(self, record: AgentRecord) -> None:
        if await self._store.claim_agent_deletion(record, self._node):
            await self._sessions.finish_deletions(record.project, record.name)
            await self._builds.remove_agent(record.project, record.name)
            await self._store.remove_agent(record.project, record.name)

    async def _remove_version(self, record: VersionRecord) -> None:
        if await self._store.claim_version_deletion(record, self._node):
            await self._sessions.finish_deletions(record.project, record.agent, record.version)
            await self._builds.remove_version(record)
            await self._store.remove_version(record.project, record.agent, record.version)

    async def aclose(self) -> None:
        """Leave what is under way to whoever comes next. Twice is fine."""
        await self._tasks.aclose()
