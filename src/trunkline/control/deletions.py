"""Finishes what was marked as being deleted: sessions first, then files, then the rows.

A mark is what a deletion that was acknowledged leaves behind; when a platform ends in the
middle, the one that starts next, or another that shares its store, goes on from it. One at a
time: the names of what is gone may be given again at once.
"""

import contextlib
from collections.abc import Iterator

from trunkline.control.builds import VersionBuilds
from trunkline.protocol.ids import NodeId
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
        self._under_way: set[tuple[str, ...]] = set()

    async def finish_agent(self, record: AgentRecord) -> None:
        """Remove an agent with its versions and sessions, unless another process is at it."""
        with self._only(record.project, record.name) as is_ours:
            if is_ours and await self._store.claim_agent_deletion(record, self._node):
                await self._remove_agent(record)

    @contextlib.contextmanager
    def _only(self, *name: str) -> Iterator[bool]:
        is_new = name not in self._under_way
        self._under_way.add(name)
        try:
            yield is_new
        finally:
            if is_new:
                self._under_way.discard(name)

    async def _remove_agent(self, record: AgentRecord) -> None:
        await self._sessions.finish_deletions(record.project, record.name)
        await self._builds.remove_agent(record.project, record.name)
        await self._store.remove_agent(record.project, record.name)

    async def finish_version(self, record: VersionRecord) -> None:
        """Remove a version with its sessions, unless another process is at it."""
        with self._only(record.project, record.agent, record.version) as is_ours:
            if is_ours and await self._store.claim_version_deletion(record, self._node):
                await self._remove_version(record)

    async def _remove_version(self, record: VersionRecord) -> None:
        await self._sessions.finish_deletions(record.project, record.agent, record.version)
        await self._builds.remove_version(record)
        await self._store.remove_version(record.project, record.agent, record.version)

    async def resume(self) -> None:
        """Finish what a platform that ended left unfinished."""
        await self.take_over()

    async def give_up(self) -> None:
        """Let others finish what this process began; what it still does harms nobody."""

    async def take_over(self) -> None:
        """Finish what others left unfinished."""
        for version in await self._store.deleting_versions():
            await self.finish_version(version)
        for agent in await self._store.deleting_agents():
            await self.finish_agent(agent)
