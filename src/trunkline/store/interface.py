"""What the rest of trunkline asks of a store. Every call is one transaction."""

import datetime as dt
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from trunkline.protocol.ids import AgentName, ProjectName, SessionKey, VersionId
from trunkline.store.records import (
    AgentRecord,
    NewVersion,
    SessionRecord,
    SessionStatus,
    VersionRecord,
    VersionStatus,
)


class Store(Protocol):
    """Agents, versions and sessions, safe to call from many tasks at once."""

    async def find_agent(self, project: ProjectName, agent: AgentName) -> AgentRecord | None:
        """Return the agent, or None."""

    async def list_agents(self, project: ProjectName) -> Sequence[AgentRecord]:
        """Return the project's agents by name."""

    async def add_version(self, new: NewVersion) -> tuple[VersionRecord, bool]:
        """Add the agent's next version, and the agent if it is new.

        The latest version is returned as it is when it has the same content hash and its
        build hasn't failed; the second value tells whether one was added.
        """

    async def find_version(
        self, project: ProjectName, agent: AgentName, version: VersionId
    ) -> VersionRecord | None:
        """Return the version, or None."""

    async def list_versions(
        self, project: ProjectName, agent: AgentName
    ) -> Sequence[VersionRecord]:
        """Return the agent's versions, newest first."""

    async def latest_version(
        self, project: ProjectName, agent: AgentName, *, status: VersionStatus | None = None
    ) -> VersionRecord | None:
        """Return the newest version, or the newest with that status, or None."""

    async def finish_version(
        self,
        record: VersionRecord,
        *,
        launch: Mapping[str, Any] | None = None,
        error: str | None = None,
    ) -> VersionRecord:
        """Say how a build ended: with a launch it is active, with an error failed."""

    async def unfinished_versions(self) -> Sequence[VersionRecord]:
        """Return the versions whose build never ended, in every project."""

    async def find_session(self, key: SessionKey) -> SessionRecord | None:
        """Return the session, or None."""

    async def add_session(self, record: SessionRecord) -> SessionRecord:
        """Add a session; if one of that key is there, return that one untouched."""

    async def touch_session(
        self, key: SessionKey, at: dt.datetime, status: SessionStatus | None = None
    ) -> None:
        """Record a session's use, and its new status if one is given."""

    async def list_sessions(
        self, project: ProjectName, agent: AgentName, *, owner: str | None = None
    ) -> Sequence[SessionRecord]:
        """Return the agent's sessions (of one owner), the last used first."""

    async def settle_sessions(self) -> None:
        """Mark sessions left active or creating by a platform that ended as idle."""

    async def ping(self) -> None:
        """Raise if the store can't answer."""

    async def aclose(self) -> None:
        """Close the store. Twice is fine."""
