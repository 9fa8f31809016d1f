"""What the rest of trunkline asks of a store. Every call is one transaction."""

import datetime as dt
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from trunkline.protocol.ids import (
    AgentName,
    NodeId,
    ProjectName,
    SessionId,
    SessionKey,
    VersionId,
)
from trunkline.store.paging import Page, PageOf
from trunkline.store.records import (
    AgentRecord,
    ApiKeyRecord,
    AuditFilter,
    AuditRecord,
    Called,
    Claim,
    ConversationKey,
    ConversationRecord,
    NewVersion,
    NodeRecord,
    ResponseRecord,
    RevocationRecord,
    SecretRecord,
    SessionRecord,
    SessionStatus,
    TicketRecord,
    VersionRecord,
    VersionStatus,
)


class AgentStore(Protocol):
    """Agents. One that is being deleted is found by nothing but ``deleting_agents``."""

    async def find_agent(self, project: ProjectName, agent: AgentName) -> AgentRecord | None:
        """Return the agent, or None."""

    async def list_agents(self, project: ProjectName, page: Page) -> PageOf[AgentRecord]:
        """Return one page of the project's agents.

        Raises:
            InvalidRequestError: If the page begins or ends at an agent that isn't there.
        """

    async def update_agent(
        self,
        project: ProjectName,
        agent: AgentName,
        *,
        is_enabled: bool | None = None,
        endpoint: Mapping[str, Any] | None = None,
        card: Mapping[str, Any] | None = None,
    ) -> AgentRecord | None:
        """Replace what is given, and return the agent, or None if there is none."""

    async def mark_agent_deleting(
        self, project: ProjectName, agent: AgentName, node: NodeId, *, is_forced: bool
    ) -> AgentRecord | None:
        """Hide the agent and mark its versions and sessions as being deleted; None if it isn't.

        Finishing it is the node's.

        Raises:
            ConflictError: If it has sessions and the call isn't forced.
        """

    async def deleting_agents(self) -> Sequence[AgentRecord]:
        """Return the agents whose deletion isn't finished, in every project."""

    async def claim_agent_deletion(self, record: AgentRecord, node: NodeId) -> bool:
        """Take over finishing a deletion unless another node is at it; tell whether.

        A node that isn't here (any more) takes over nothing.
        """

    async def remove_agent(self, project: ProjectName, agent: AgentName) -> None:
        """Forget an agent that is being deleted, its versions and its sessions."""


class VersionStore(Protocol):
    """Versions. One that is being deleted is found by nothing but ``deleting_versions``."""

    async def add_version(
        self, new: NewVersion, *, most: int | None = None
    ) -> tuple[VersionRecord, bool]:
        """Add the agent's next version, and the agent if it is new.

        The latest version is returned as it is when it has the same content hash and its
        build hasn't failed; the second value tells whether one was added. Numbers are never
        given twice, drafts are always added, and neither is compared with a draft.

        Raises:
            ConflictError: If the agent is being deleted.
            TooManyVersionsError: If the agent would have more than ``most``.
        """

    async def find_version(
        self, project: ProjectName, agent: AgentName, version: VersionId
    ) -> VersionRecord | None:
        """Return the version, or None."""

    async def list_versions(
        self, project: ProjectName, agent: AgentName, page: Page, *, with_drafts: bool = False
    ) -> PageOf[VersionRecord]:
        """Return one page of the agent's versions.

        Raises:
            InvalidRequestError: If the page begins or ends at a version that isn't there.
        """

    async def latest_version(
        self, project: ProjectName, agent: AgentName, *, status: VersionStatus | None = None
    ) -> VersionRecord | None:
        """Return the newest version that is no draft (of that status), or None."""

    async def finish_version(
        self,
        record: VersionRecord,
        *,
        launch: Mapping[str, Any] | None = None,
        error: str | None = None,
        error_code: str | None = None,
    ) -> VersionRecord | None:
        """Say how a build ended: with a launch it is active, with an error failed.

        Returns None if the version isn't being built by the record's builder any more.
        """

    async def unfinished_versions(self) -> Sequence[VersionRecord]:
        """Return the versions whose build never ended, in every project."""

    async def claim_build(self, record: VersionRecord, node: NodeId) -> VersionRecord | None:
        """Take over an unfinished build unless another node is at it; None if it isn't ours.

        A node that isn't here (any more) takes over nothing.
        """

    async def mark_version_deleting(
        self,
        project: ProjectName,
        agent: AgentName,
        version: VersionId,
        node: NodeId,
        *,
        is_forced: bool,
    ) -> VersionRecord | None:
        """Hide the version and mark its sessions as being deleted; None if it isn't there.

        Finishing it is the node's.

        Raises:
            ConflictError: If it has sessions and the call isn't forced.
        """

    async def deleting_versions(self) -> Sequence[VersionRecord]:
        """Return the versions whose deletion isn't finished, in every project."""

    async def claim_version_deletion(self, record: VersionRecord, node: NodeId) -> bool:
        """Take over finishing a deletion unless another node is at it; tell whether.

        A node that isn't here (any more) takes over nothing.
        """

    async def remove_version(
        self, project: ProjectName, agent: AgentName, version: VersionId
    ) -> None:
        """Forget a version that is being deleted."""


class SessionStore(Protocol):
    """Sessions. ``find_session`` also finds one that is being deleted; lists don't."""

    async def find_called(self, key: SessionKey) -> Called:
        """Return the session of that key with its version, and its agent."""

    def find_called_now(self, key: SessionKey) -> Called | None:
        """Return the same, if that takes no waiting; else None."""

    async def find_session(self, key: SessionKey) -> SessionRecord | None:
        """Return the session, or None."""

    async def add_session(self, record: SessionRecord) -> tuple[SessionRecord, bool]:
        """Add a session; if one of that key is there, return that one untouched.

        The second value tells whether it was added.

        Raises:
            AgentNotFoundError: If the agent isn't there (any more).
            VersionNotFoundError: If its version isn't there (any more).
        """

    async def list_sessions(
        self, project: ProjectName, agent: AgentName, page: Page, *, owner: str | None = None
    ) -> PageOf[SessionRecord]:
        """Return one page of the agent's sessions (of one owner).

        Raises:
            InvalidRequestError: If the page begins or ends at a session that isn't there.
        """

    async def count_running(self, project: ProjectName, agent: AgentName) -> int:
        """Return how many of the agent's sessions a node runs."""

    async def touch_sessions(
        self, uses: Mapping[SessionKey, dt.datetime], lifetime: dt.timedelta
    ) -> None:
        """Record when sessions were used; there is at least one. They expire a lifetime later."""

    async def claim_session(
        self, key: SessionKey, node: NodeId, *, home: str | None = None, most: int | None = None
    ) -> Claim:
        """Make the node the one that runs the session, unless another does.

        Args:
            key: The session.
            node: Who asks.
            home: Which session of that id is meant; a later one, with another home, isn't.
            most: How many sessions of the project may be held at once.
        """

    async def start_session(
        self, key: SessionKey, node: NodeId, address: Mapping[str, Any]
    ) -> bool:
        """Say that the session's agent listens; False if the node doesn't hold it any more."""

    async def release_session(
        self, key: SessionKey, node: NodeId, at: dt.datetime, status: SessionStatus
    ) -> None:
        """Say that the node runs the session no more. Being deleted stays being deleted."""

    async def settle_session(self, key: SessionKey, status: SessionStatus) -> None:
        """Replace the status of a session that is being created and that nobody holds."""

    async def mark_session_deleting(
        self, key: SessionKey, *, home: str | None = None, expired_at: dt.datetime | None = None
    ) -> SessionRecord | None:
        """Begin to delete a session; None if it isn't there.

        Args:
            key: The session.
            home: Which session of that id is meant; a later one, with another home, isn't.
            expired_at: Only if it has expired by then, and nobody has used it since or deletes it.
        """

    async def deleting_sessions(
        self,
        project: ProjectName | None = None,
        agent: AgentName | None = None,
        version: VersionId | None = None,
    ) -> Sequence[SessionRecord]:
        """Return the sessions that are being deleted (of an agent, of a version)."""

    async def remove_session(self, record: SessionRecord) -> None:
        """Forget a session that is being deleted, except whose it was.

        A later one of the same id stays.
        """

    async def had_session(self, key: SessionKey, owner: str) -> bool:
        """Tell whether the owner had a session of that key that was removed."""

    async def forget_past_sessions(self, before: dt.datetime) -> None:
        """Forget whose sessions were that were removed before a time."""

    async def expire_sessions(self, now: dt.datetime) -> Sequence[SessionRecord]:
        """Mark sessions that nobody holds and whose time is over as being deleted."""


class ConversationStore(Protocol):
    """Conversations of the ``responses`` protocol: each an ordered list of items with ids."""

    async def add_conversation(
        self,
        key: ConversationKey,
        owner: str,
        metadata: Mapping[str, str],
        items: Sequence[Mapping[str, Any]] = (),
    ) -> ConversationRecord:
        """Add a conversation under a new id, with what was said before it."""

    async def find_conversation(self, key: ConversationKey) -> ConversationRecord | None:
        """Return the conversation, or None."""

    async def update_conversation(
        self,
        key: ConversationKey,
        *,
        metadata: Mapping[str, str] | None = None,
        session_id: SessionId | None = None,
    ) -> ConversationRecord | None:
        """Replace what is given, and return the conversation, or None if there is none."""

    async def remove_conversation(self, key: ConversationKey) -> None:
        """Forget a conversation and its items."""

    async def add_items(self, key: ConversationKey, items: Sequence[Mapping[str, Any]]) -> bool:
        """Append items, without those whose id is there; False if there is no conversation."""

    async def find_item(self, key: ConversationKey, item_id: str) -> Mapping[str, Any] | None:
        """Return an item, or None."""

    async def list_items(self, key: ConversationKey, page: Page) -> PageOf[Mapping[str, Any]]:
        """Return one page of a conversation's items.

        Raises:
            InvalidRequestError: If the page begins or ends at an item that isn't there.
        """

    async def remove_item(self, key: ConversationKey, item_id: str) -> bool:
        """Forget an item; tell whether it was there."""

    async def add_response(self, record: ResponseRecord) -> None:
        """Record where a response came from, until its session is removed."""

    async def find_response(
        self, project: ProjectName, agent: AgentName, response_id: str
    ) -> ResponseRecord | None:
        """Return where a response came from, or None."""


class TicketStore(Protocol):
    """Tickets that haven't been used."""

    async def add_ticket(self, record: TicketRecord, now: dt.datetime) -> None:
        """Add a ticket, and forget those whose time was over by then."""

    async def take_ticket(self, digest: str) -> TicketRecord | None:
        """Remove a ticket and return it; of several who take one at once, one gets it."""


class CredentialStore(Protocol):
    """What callers may come in with, and what they may no longer."""

    async def add_api_key(self, record: ApiKeyRecord) -> None:
        """Keep a new API key."""

    async def find_api_key(self, key_id: str) -> ApiKeyRecord | None:
        """Return the key of that id, or None."""

    async def list_api_keys(self, project: ProjectName) -> Sequence[ApiKeyRecord]:
        """Return a project's keys, the newest first."""

    async def revoke_api_key(self, project: ProjectName, revocation: RevocationRecord) -> bool:
        """Forget the key whose id is the revocation's subject, and keep the revocation.

        Both, or neither: a key that is gone and not revoked would leave open what came in with it.

        Returns:
            Whether the key was there. If not, nothing is kept.
        """

    async def add_revocation(self, record: RevocationRecord) -> None:
        """Keep since when an identity's credentials are worth nothing; a later one replaces it."""

    async def list_revocations(self) -> Sequence[RevocationRecord]:
        """Return all of them, the newest first."""

    async def add_renewal(self, key: SessionKey, identity: str, expires_at: dt.datetime) -> None:
        """Keep until when an identity's newer credentials let it stay connected to a session."""

    async def find_renewal(self, key: SessionKey, identity: str) -> dt.datetime | None:
        """Return until when, or None if nothing newer was shown."""

    async def forget_credentials(
        self, *, renewals_before: dt.datetime, revocations_before: dt.datetime
    ) -> None:
        """Forget renewals that are over, and revocations that are old."""


class SecretStore(Protocol):
    """A project's secrets, which come here encrypted."""

    async def put_secret(self, record: SecretRecord) -> None:
        """Keep a secret, in the place of one of its name."""

    async def find_secret(self, project: ProjectName, name: str) -> SecretRecord | None:
        """Return the secret of that name, or None."""

    async def list_secrets(self, project: ProjectName) -> Sequence[SecretRecord]:
        """Return a project's secrets, by name."""

    async def remove_secret(self, project: ProjectName, name: str) -> bool:
        """Forget a secret; tell whether it was there."""


class AuditStore(Protocol):
    """Who did what. Entries are only added, and forgotten when they are old."""

    async def add_audit(self, records: Sequence[AuditRecord]) -> None:
        """Add entries."""

    async def list_audit(
        self,
        project: ProjectName | None,
        wanted: AuditFilter,
        *,
        limit: int,
        before: str | None = None,
    ) -> Sequence[AuditRecord]:
        """Return a project's entries, the newest first, those before an entry if one is given.

        With None for the project they are those of all projects, and of none.
        """

    async def forget_audit(self, before: dt.datetime) -> None:
        """Forget entries that are older."""


class NodeStore(Protocol):
    """The processes that share the store. Only those that are here hold anything."""

    async def state_id(self, own: str) -> str:
        """Return the id of the state directory all of this is about: the first that was given."""

    async def add_node(self, node: NodeId, at: dt.datetime, url: str) -> None:
        """Say that the node is alive, and where it is reached. Twice is fine."""

    async def heartbeat(self, node: NodeId, at: dt.datetime) -> bool:
        """Say that the node is still alive; False if it isn't here any more."""

    async def find_node(self, node: NodeId) -> NodeRecord | None:
        """Return the node, or None."""

    async def list_nodes(self) -> Sequence[NodeRecord]:
        """Return all nodes."""

    async def remove_node(self, node: NodeId, *, heard_at: dt.datetime | None = None) -> bool:
        """Forget a node that ended. What it held stays held until ``release_orphans``.

        Args:
            node: The node.
            heard_at: Its last sign of life, if it is to be forgotten only when there has been
                none since.

        Returns:
            Whether it was forgotten.
        """

    async def orphan_holders(self) -> Sequence[NodeId]:
        """Return the nodes that hold sessions and aren't here any more."""

    async def release_orphans(self, node: NodeId) -> None:
        """Make the sessions idle that a node holds, unless it is here.

        Nothing of them may run any more.
        """


class Store(
    AgentStore,
    VersionStore,
    SessionStore,
    ConversationStore,
    TicketStore,
    CredentialStore,
    SecretStore,
    AuditStore,
    NodeStore,
    Protocol,
):
    """Everything that is kept, safe to call from many tasks and processes at once."""

    async def ping(self) -> None:
        """Raise if the store can't answer."""

    async def aclose(self) -> None:
        """Close the store. Twice is fine."""
