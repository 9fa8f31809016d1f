"""What a store keeps, as typed values. All times are aware and in UTC."""

import datetime as dt
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, NamedTuple

from trunkline.protocol.ids import (
    AgentName,
    NodeId,
    ProjectName,
    SessionId,
    SessionKey,
    VersionId,
)


class VersionStatus(StrEnum):
    """How far a version is in its life; it only moves forward."""

    CREATING = "creating"
    ACTIVE = "active"
    FAILED = "failed"
    DELETING = "deleting"


class SessionStatus(StrEnum):
    """Where a session stands in its life."""

    CREATING = "creating"
    ACTIVE = "active"
    IDLE = "idle"
    FAILED = "failed"
    DELETING = "deleting"


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentRecord:
    """One agent: a name that versions hang on, and how its endpoint behaves."""

    project: ProjectName
    name: AgentName
    created_at: dt.datetime
    is_enabled: bool = True
    endpoint: Mapping[str, Any]
    """The endpoint's configuration as it was last sent; empty if it never was."""
    card: Mapping[str, Any] | None = None
    is_deleting: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class NewVersion:
    """A version as it is sent, before it has a number."""

    project: ProjectName
    agent: AgentName
    definition: Mapping[str, Any]
    description: str | None
    metadata: Mapping[str, str]
    content_hash: str
    code_sha256: str
    """Empty for an agent from an image."""
    is_draft: bool = False
    builder: NodeId
    """Which node builds it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class VersionRecord:
    """One immutable version of an agent, and how its build went."""

    project: ProjectName
    agent: AgentName
    version: VersionId
    """``1``, ``2``, ...; a draft's is ``draft-`` and a time."""
    created_at: dt.datetime
    status: VersionStatus
    definition: Mapping[str, Any]
    """The hosted definition as it was sent, legacy spellings made new."""
    description: str | None
    metadata: Mapping[str, str]
    content_hash: str
    """SHA-256 over the definition and the code: equal hashes are equal versions."""
    code_sha256: str
    builder: NodeId
    """Which node builds it, or has built it."""
    is_draft: bool = False
    error: str | None = None
    """Why the build failed, in a sentence."""
    error_code: str | None = None
    """The contract's word for it, such as ``CodeError``."""
    launch: Mapping[str, Any] | None = None
    """How the runtime starts it, once it is active."""

    protocols: frozenset[str] = field(init=False, repr=False, compare=False)
    """The protocols its definition declares."""

    def __post_init__(self) -> None:
        # Made once: each call asks for them, and a record is remembered.
        declared = self.definition.get("protocol_versions", ())
        object.__setattr__(self, "protocols", frozenset(p["protocol"] for p in declared))


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionRecord:
    """One session: its owner, its version, when it was last used, and who runs it."""

    key: SessionKey
    version: VersionId
    owner: str
    status: SessionStatus
    created_at: dt.datetime
    last_accessed_at: dt.datetime
    expires_at: dt.datetime
    stopped_at: dt.datetime | None = None
    """When its process last stopped."""
    home: str
    """Its directory's name under the state directory's ``sessions``; never used twice."""
    holder: NodeId | None = None
    """The node that runs it, or is starting or stopping it."""
    address: Mapping[str, Any] | None = None
    """Where its agent listens while it runs."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Called:
    """What a call of a session is about, as far as it is there."""

    agent: AgentRecord | None
    session: SessionRecord | None
    version: VersionRecord | None
    """The session's."""


@dataclass(frozen=True, slots=True)
class ConversationKey:
    """What names one conversation."""

    project: ProjectName
    agent: AgentName
    conversation_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ConversationRecord:
    """One conversation of the ``responses`` protocol: whose it is, and where it goes on."""

    key: ConversationKey
    owner: str
    created_at: dt.datetime
    metadata: Mapping[str, str]
    session_id: SessionId | None
    """The session that had its last turn."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ResponseRecord:
    """Which session an agent's response came from."""

    project: ProjectName
    agent: AgentName
    response_id: str
    owner: str
    session_id: SessionId


@dataclass(frozen=True, slots=True, kw_only=True)
class TicketRecord:
    """What a ticket is good for, once."""

    digest: str
    """SHA-256 of the ticket, in hex."""
    key: SessionKey
    origin: str | None
    """Where the page that uses it is from, if that is to be held to."""
    caller: Mapping[str, Any]
    expires_at: dt.datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiKeyRecord:
    """One API key, without the key."""

    key_id: str
    project: ProjectName
    name: str
    digest: str
    """SHA-256 of the key, in hex."""
    grants: tuple[str, ...]
    created_by: str
    created_at: dt.datetime
    expires_at: dt.datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class RevocationRecord:
    """Whose credentials are worth nothing that were issued before a time."""

    issuer: str
    subject: str
    revoked_at: dt.datetime
    revoked_by: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SecretRecord:
    """One of a project's secrets, encrypted."""

    project: ProjectName
    name: str
    sealed: str
    updated_at: dt.datetime
    updated_by: str


# Not a dataclass: one that is frozen takes far longer to make, and each connection makes one.
class AuditRecord(NamedTuple):
    """Who did what, to what, from where, with what result."""

    entry_id: str
    """In the order of their times."""
    at: dt.datetime
    project: str | None
    agent: str | None
    session_id: str | None
    action: str
    status: int
    identity: str | None
    """``issuer|subject``; None if nobody could be told."""
    acting_for: str | None
    credential: str | None
    address: str
    request_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditFilter:
    """Which of them are wanted; None for all."""

    agent: str | None = None
    session_id: str | None = None
    identity: str | None = None
    action: str | None = None


class ClaimOutcome(StrEnum):
    """What came of claiming a session."""

    OURS = "ours"
    """The node holds it now, or already did."""
    ELSEWHERE = "elsewhere"
    """Another node holds it."""
    FULL = "full"
    """As many sessions run as may."""
    GONE = "gone"
    """It isn't there any more, or is being deleted."""
    BURIED = "buried"
    """The node isn't among the nodes (any more), so it may hold nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """The outcome of a claim, and the session as it is after it, if the node may know."""

    outcome: ClaimOutcome
    record: SessionRecord | None


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeRecord:
    """One of the processes that share the store."""

    node: NodeId
    heartbeat_at: dt.datetime
    """By its own clock. Clocks differ, so all this tells is whether it has changed."""
    url: str
    """Where the others reach it, such as ``http://10.0.0.5:8080``."""
