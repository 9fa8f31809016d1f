"""Finishes what was marked as being deleted: sessions first, then files, then the rows.

A mark is what a deletion that was acknowledged leaves behind; a platform that ends in the
middle goes on from it when it starts again.
"""

from trunkline.control.builds import VersionBuilds
from trunkline.sessions.directory import SessionDirectory
from trunkline.store.interface import Store
from trunkline.store.records import AgentRecord, VersionRecord


class Deletions:
    """Removes agents and versions that nothing finds any more."""

    def __init__(self, *, store: Store, sessions: SessionDirectory, builds: VersionBuilds) -> None:
        self._store = store
        self._sessions = sessions
        self._builds = builds

    async def finish_agent(self, record: AgentRecord) -> None:
        """Remove an agent with its versions and sessions."""
        await self._sessions.finish_deletions(record.project, record.name)
        await self._builds.remove_agent(record.project, record.name)
        await self._store.remove_agent(record.project, record.name)

    async def finish_version(self, record: VersionRecord) -> None:
        """Remove a version with its sessions."""
        await self._sessions.finish_deletions(record.project, record.agent, record.version)
        await self._builds.remove_version(record)
        await self._store.remove_version(record.project, record.agent, record.version)

    async def resume(self) -> None:
        """Finish what a platform that ended left unfinished."""
        for version in await self._store.deleting_versions():
            await self.finish_version(version)
        for agent in await self._store.deleting_agents():
            await self.finish_agent(agent)
