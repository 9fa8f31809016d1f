"""What the control plane tells of agents, versions and sessions.

Keys the platform adds later are kept, so that :meth:`Resource.as_dict` gives back what was said.
"""

from typing import Any, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from trunkline.client._errors import BadAnswerError


class Resource(BaseModel):
    """Anything the control plane describes."""

    model_config = ConfigDict(extra="allow", frozen=True)

    @classmethod
    def read(cls, document: Any) -> Self:
        """Check one description.

        Raises:
            BadAnswerError: If it lacks what every platform says.
        """
        try:
            return cls.model_validate(document)
        except ValidationError as exc:
            first = exc.errors(include_url=False, include_input=False)[0]
            where = ".".join(str(part) for part in first["loc"])
            raise BadAnswerError(
                f"the platform described {cls.__name__.lower()} {where!r} in a way this client "
                f"doesn't understand: {first['msg']}"
            ) from exc

    def as_dict(self) -> dict[str, Any]:
        """Return the description as it was received."""
        return self.model_dump(mode="json", exclude_unset=True, by_alias=True)


class SecretName(Resource):
    """One of a project's secrets, without its value."""

    name: str
    updated_at: int


class ApiKey(Resource):
    """One of a project's API keys, without what it is used with."""

    id: str
    name: str = ""
    roles: list[str] = []
    created_by: str = ""
    created_at: int | None = None
    expires_at: int | None = None


class NewApiKey(ApiKey):
    """An API key that was just made, with what it is used with."""

    key: str = Field(repr=False)


class Revocation(Resource):
    """An identity, and until when what it was issued is worth nothing."""

    issuer: str
    subject: str
    revoked_at: int | None = None
    revoked_by: str = ""


class AuditEntry(Resource):
    """Something that was recorded: who did what, to what, from where, with what result."""

    id: str
    at: str
    action: str
    status: int
    project: str | None = None
    agent: str | None = None
    agent_session_id: str | None = None
    identity: str | None = None
    acting_for: str | None = None
    credential: str | None = None
    address: str | None = None
    request_id: str | None = None


class VersionError(Resource):
    """Why a version failed."""

    code: str = ""
    message: str = ""


class LeftOut(Resource):
    """A module that each session imports, and why it isn't preloaded."""

    module: str = ""
    reason: str = ""


class ReadySessions(Resource):
    """How many of a version's sessions are kept ready for callers who name none."""

    kept: int = 0
    wanted: int = 0
    most: int = 0


class VersionStart(Resource):
    """How a version's next session is started."""

    mode: str = ""
    reason: str = ""
    preloaded: list[str] = Field(default_factory=list)
    left_out: list[LeftOut] = Field(default_factory=list)
    ready: ReadySessions = Field(default_factory=ReadySessions)


class Version(Resource):
    """One immutable build of an agent."""

    name: str
    version: str
    status: str = ""
    created_at: int | None = None
    description: str | None = None
    metadata: dict[str, Any] | None = None
    definition: dict[str, Any] = Field(default_factory=dict)
    error: VersionError | None = None
    notes: list[str] = Field(default_factory=list)
    start: VersionStart | None = None
    """None if the platform doesn't say."""

    @property
    def state(self) -> str:
        """The status in lower case; platforms differ."""
        return self.status.lower()

    @property
    def is_building(self) -> bool:
        """Whether it may still become active or failed."""
        return self.state in {"creating", "updating", ""}

    @property
    def protocols(self) -> list[str]:
        """The names of the protocols it speaks."""
        listed = self.definition.get("protocol_versions") or self.definition.get(
            "container_protocol_versions", []
        )
        return [str(entry.get("protocol", "")) for entry in listed if isinstance(entry, dict)]


class Versions(Resource):
    """An agent's versions, as the agent itself tells of them."""

    latest: Version | None = None


class Agent(Resource):
    """A deployed agent."""

    name: str
    state: str = "enabled"
    versions: Versions = Field(default_factory=Versions)
    agent_endpoint: dict[str, Any] | None = None
    running_sessions: int | None = None
    """How many of its sessions run; None if the platform doesn't say."""

    @property
    def latest(self) -> Version | None:
        """Its newest version."""
        return self.versions.latest


class VersionIndicator(Resource):
    """Which version a session is bound to."""

    type: str = ""
    agent_version: str = ""


class Session(Resource):
    """One client's conversation with an agent."""

    agent_session_id: str
    status: str = ""
    version_indicator: VersionIndicator | None = None
    created_at: int | None = None
    last_accessed_at: int | None = None
    expires_at: int | None = None
    stopped_at: int | None = None

    @property
    def version(self) -> str:
        """The version it is bound to, or nothing."""
        return self.version_indicator.agent_version if self.version_indicator else ""


class ConnectionLimit(Resource):
    """The limit that ended a connection."""

    name: str = ""
    setting: str = ""
    value: float | None = None


class ConnectionDirection(Resource):
    """What went one way on a connection."""

    frames: int = 0
    bytes: int = 0
    quiet_s: float | None = None
    """Seconds from the last byte to the connection's end; None if there was none."""


class EndedConnection(Resource):
    """A connection that is over, and how it ended."""

    request_id: str = ""
    version: str = ""
    address: str = ""
    opened_at: str = ""
    closed_at: str = ""
    closed_by: str = ""
    code: int = 0
    reason: str = ""
    limit: ConnectionLimit | None = None
    was_cut: bool = False
    age_s: float = 0.0
    sent: ConnectionDirection = Field(default_factory=ConnectionDirection, alias="in")
    """From the client to the agent."""
    received: ConnectionDirection = Field(default_factory=ConnectionDirection, alias="out")
    """From the agent to the client."""


class ConnectionList(Resource):
    """Connections that are over, the newest first."""

    data: list[EndedConnection] = Field(default_factory=list)


class File(Resource):
    """A file or a folder in a session's home."""

    name: str
    path: str = ""
    size: int = 0
    is_directory: bool = False
    mode: int | None = None
    modified_time: int | None = None


class FilePage(Resource):
    """One page of a folder."""

    entries: list[File] = Field(default_factory=list)
    last_id: str | None = None
    has_more: bool = False


class Written(Resource):
    """What became of an upload."""

    bytes_written: int


class Page(Resource):
    """One page of a list."""

    data: list[dict[str, Any]] = Field(default_factory=list)
    last_id: str | None = None
    has_more: bool = False
