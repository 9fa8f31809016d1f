"""What a store keeps, as typed values. All times are aware and in UTC."""

import datetime as dt
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from trunkline.protocol.ids import AgentName, ProjectName, SessionKey, VersionId


class VersionStatus(StrEnum):
    """How far a version's build is; it only moves forward."""

    CREATING = "creating"
    ACTIVE = "active"
    FAILED = "failed"


class SessionStatus(StrEnum):
    """Where a session stands in its life."""

    CREATING = "creating"
    ACTIVE = "active"
    IDLE = "idle"
    FAILED = "failed"


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentRecord:
    """One agent: a name that versions hang on."""

    project: ProjectName
    name: AgentName
    created_at: dt.datetime


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


@dataclass(frozen=True, slots=True, kw_only=True)
class VersionRecord:
    """One immutable version of an agent, and how its build went."""

    project: ProjectName
    agent: AgentName
    version: VersionId
    created_at: dt.datetime
    status: VersionStatus
    definition: Mapping[str, Any]
    """The hosted definition as it was sent, legacy spellings made new."""
    description: str | None
    metadata: Mapping[str, str]
    content_hash: str
    """SHA-256 over the definition and the code: equal hashes are equal versions."""
    code_sha256: str
    error: str | None = None
    """Why the build failed, in a sentence."""
    launch: Mapping[str, Any] | None = None
    """How the runtime starts it, once it is active."""

    @property
    def protocols(self) -> frozenset[str]:
        """The protocols its definition declares."""
        return frozenset(p["protocol"] for p in self.definition.get("protocol_versions", ()))


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionRecord:
    """One session: its owner, its version, and when it was last used."""

    key: SessionKey
    version: VersionId
    owner: str
    status: SessionStatus
    created_at: dt.datetime
    last_accessed_at: dt.datetime
    home: str
    """Its directory's name under the state directory's ``sessions``."""
