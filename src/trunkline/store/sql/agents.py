"""Agents and versions on a SQL database."""

import datetime as dt
from collections.abc import Mapping, Sequence
from typing import Any

from trunkline.protocol.errors import ConflictError, TooManyVersionsError
from trunkline.protocol.ids import AgentName, NodeId, ProjectName, VersionId, is_version_id
from trunkline.store.paging import Page, PageOf
from trunkline.store.records import AgentRecord, NewVersion, VersionRecord, VersionStatus
from trunkline.store.sql.engine import Db, Engine, first
from trunkline.store.sql.pages import Listing, read_page
from trunkline.store.sql.rows import agent_from, json_of, readable, text_of, version_from

_AGENTS = Listing("list_agents", "find_agent", "agent", ("created_at", "name"))
_VERSIONS = Listing("list_versions", "find_version", "version", ("seq",))
_REMOVE_AGENT = (
    "remove_agent_responses",
    "remove_agent_items",
    "remove_agent_conversations",
    "remove_agent_sessions",
    "remove_agent_versions",
    "remove_agent",
)


def find_agent(db: Db, project: ProjectName, agent: AgentName) -> AgentRecord | None:
    """Return the agent, or None."""
    row = first(db.rows("find_agent", project=project, agent=agent))
    return agent_from(row) if row else None


def find_version(
    db: Db, project: ProjectName, agent: AgentName, version: VersionId
) -> VersionRecord | None:
    """Return the version, or None."""
    row = first(db.rows("find_version", project=project, agent=agent, version=version))
    return version_from(row) if row else None


class SqlAgents:
    """The part of the store that keeps agents and versions."""

    _engine: Engine

    async def find_agent(self, project: ProjectName, agent: AgentName) -> AgentRecord | None:
        return await self._engine.look(
            ("agent", project, agent), lambda db: find_agent(db, project, agent)
        )

    async def list_agents(self, project: ProjectName, page: Page) -> PageOf[AgentRecord]:
        return await self._engine.read(
            lambda db: read_page(db, _AGENTS, page, agent_from, project=project)
        )  # fmt: skip

    async def update_agent(
        self,
        project: ProjectName,
        agent: AgentName,
        *,
        is_enabled: bool | None = None,
        endpoint: Mapping[str, Any] | None = None,
        card: Mapping[str, Any] | None = None,
    ) -> AgentRecord | None:
        rows = await self._engine.step(
            "update_agent",
            project=project,
            agent=agent,
            is_enabled=None if is_enabled is None else int(is_enabled),
            endpoint=json_of(endpoint),
            card=json_of(card),
        )
        row = first(rows)
        return agent_from(row) if row else None

    async def mark_agent_deleting(
        self, project: ProjectName, agent: AgentName, node: NodeId, *, is_forced: bool
    ) -> AgentRecord | None:
        def mark(db: Db) -> AgentRecord | None:
            _refuse_with_sessions(db, project, agent, None, is_forced=is_forced)
            row = first(db.rows("mark_agent_deleting", project=project, agent=agent, node=node))
            if row is None:
                return None
            db.rows("mark_sessions_deleting", project=project, agent=agent, version=None)
            return agent_from(row)

        return await self._engine.write(mark)

    async def deleting_agents(self) -> Sequence[AgentRecord]:
        rows = await self._engine.read(lambda db: db.rows("deleting_agents"))
        return [agent_from(row) for row in rows]

    async def claim_agent_deletion(self, record: AgentRecord, node: NodeId) -> bool:
        name = {"project": record.project, "agent": record.name}
        return await self._claimed("claim_agent_deletion", **name, node=node)

    async def remove_agent(self, project: ProjectName, agent: AgentName) -> None:
        def remove(db: Db) -> None:
            row = first(db.rows("find_agent_row", project=project, agent=agent))
            if row is not None and row["is_deleting"]:
                for part in _REMOVE_AGENT:
                    db.rows(part, project=project, agent=agent)

        await self._engine.write(remove)

    async def add_version(
        self, new: NewVersion, *, most: int | None = None
    ) -> tuple[VersionRecord, bool]:
        return await self._engine.write(lambda db: _add_version(db, new, most))

    async def find_version(
        self, project: ProjectName, agent: AgentName, version: VersionId
    ) -> VersionRecord | None:
        if not is_version_id(version):
            return None
        return await self._engine.look(
            ("version", project, agent, version),
            lambda db: find_version(db, project, agent, version),
        )

    async def list_versions(
        self, project: ProjectName, agent: AgentName, page: Page, *, with_drafts: bool = False
    ) -> PageOf[VersionRecord]:
        return await self._engine.read(
            lambda db: read_page(
                db, _VERSIONS, page, version_from,
                project=project, agent=agent, with_drafts=int(with_drafts),
            )
        )  # fmt: skip

    async def latest_version(
        self, project: ProjectName, agent: AgentName, *, status: VersionStatus | None = None
    ) -> VersionRecord | None:
        row = await self._engine.read(
            lambda db: first(db.rows("latest_version", project=project, agent=agent, status=status))
        )
        return version_from(row) if row else None

    async def finish_version(
        self,
        record: VersionRecord,
        *,
        launch: Mapping[str, Any] | None = None,
        error: str | None = None,
        error_code: str | None = None,
    ) -> VersionRecord | None:
        status = VersionStatus.FAILED if launch is None else VersionStatus.ACTIVE
        rows = await self._engine.step(
            "finish_version",
            **_name_of(record),
            builder=record.builder,
            status=status.value,
            launch=json_of(launch),
            error=None if error is None else readable(error),
            error_code=error_code,
        )
        row = first(rows)
        return version_from(row) if row else None

    async def unfinished_versions(self) -> Sequence[VersionRecord]:
        rows = await self._engine.read(lambda db: db.rows("unfinished_versions"))
        return [version_from(row) for row in rows]

    async def claim_build(self, record: VersionRecord, node: NodeId) -> VersionRecord | None:
        # Alone, because it looks at the nodes as well.
        rows = await self._engine.write(
            lambda db: db.rows("claim_build", **_name_of(record), node=node)
        )
        row = first(rows)
        return version_from(row) if row else None

    async def _claimed(self, name: str, **values: str) -> bool:
        # Alone, because it looks at the nodes as well.
        return bool(await self._engine.write(lambda db: db.rows(name, **values)))

    async def mark_version_deleting(
        self,
        project: ProjectName,
        agent: AgentName,
        version: VersionId,
        node: NodeId,
        *,
        is_forced: bool,
    ) -> VersionRecord | None:
        name = {"project": project, "agent": agent, "version": version}

        def mark(db: Db) -> VersionRecord | None:
            _refuse_with_sessions(db, project, agent, version, is_forced=is_forced)
            row = first(db.rows("mark_version_deleting", **name, node=node))
            if row is None:
                return None
            db.rows("mark_sessions_deleting", **name)
            return version_from(row)

        return await self._engine.write(mark)

    async def deleting_versions(self) -> Sequence[VersionRecord]:
        rows = await self._engine.read(lambda db: db.rows("deleting_versions"))
        return [version_from(row) for row in rows]

    async def claim_version_deletion(self, record: VersionRecord, node: NodeId) -> bool:
        return await self._claimed("claim_version_deletion", **_name_of(record), node=node)

    async def remove_version(
        self, project: ProjectName, agent: AgentName, version: VersionId
    ) -> None:
        await self._engine.write(
            lambda db: db.rows("remove_version", project=project, agent=agent, version=version)
        )


def _name_of(record: VersionRecord) -> dict[str, str]:
    return {"project": record.project, "agent": record.agent, "version": record.version}


def _refuse_with_sessions(
    db: Db, project: ProjectName, agent: AgentName, version: VersionId | None, *, is_forced: bool
) -> None:
    row = first(db.rows("count_kept", project=project, agent=agent, version=version))
    count = row["n"] if row else 0
    if count and not is_forced:
        what = f"agent {agent!r}" if version is None else f"version {version} of agent {agent!r}"
        raise ConflictError(
            f"{what} has {count} session{'s' if count > 1 else ''}; delete them first, or send "
            "force=true, which deletes them and their files too"
        )


def _add_version(db: Db, new: NewVersion, most: int | None) -> tuple[VersionRecord, bool]:
    name = {"project": new.project, "agent": new.agent}
    found = first(db.rows("find_agent_row", **name))
    if found is not None and found["is_deleting"]:
        raise ConflictError(f"agent {new.agent!r} is being deleted; try again when it is gone")
    latest = first(db.rows("latest_version", **name, status=None))
    if (
        latest is not None
        and not new.is_draft
        and latest["content_hash"] == new.content_hash
        and latest["status"] != VersionStatus.FAILED
    ):
        return version_from(latest), False
    counted = first(db.rows("count_versions", **name))
    if most is not None and counted is not None and counted["n"] >= most:
        raise TooManyVersionsError(
            f"agent {new.agent!r} has {counted['n']} versions, and {most} are the most it may "
            "have; delete some"
        )
    at = dt.datetime.now(dt.UTC)
    now = text_of(at)
    db.rows("add_agent", **name, now=now)
    given = first(db.rows("next_version", **name, is_numbered=int(not new.is_draft)))
    assert given is not None, "the agent was just made"
    row = first(
        db.rows(
            "add_version",
            **name,
            # The sequence number keeps two drafts of one millisecond apart.
            version=f"draft-{int(at.timestamp() * 1000)}-{given['next_seq']}"
            if new.is_draft
            else str(given["next_number"]),
            seq=given["next_seq"],
            is_draft=int(new.is_draft),
            now=now,
            definition=json_of(new.definition),
            description=None if new.description is None else readable(new.description),
            metadata=json_of(new.metadata),
            content_hash=new.content_hash,
            code_sha256=new.code_sha256,
            builder=new.builder,
        )
    )
    assert row is not None, "an insert returns its row"
    return version_from(row), True
