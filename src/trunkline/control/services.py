"""What the parts of the control plane share."""

import asyncio
from dataclasses import dataclass, field
from typing import Final

from starlette.requests import Request

from trunkline.auth.identity import Identity
from trunkline.auth.verify import TokenVerifier
from trunkline.control.builds import VersionBuilds
from trunkline.protocol import headers
from trunkline.protocol.errors import (
    AgentNotFoundError,
    AuthenticationError,
    InvalidRequestError,
    MethodNotAllowedError,
    NotFoundError,
    SessionNotFoundError,
)
from trunkline.protocol.ids import (
    DEFAULT_PROJECT_ALIASES,
    AgentName,
    ProjectName,
    SessionId,
    SessionKey,
    is_agent_name,
    is_session_id,
)
from trunkline.sessions.calls import Calls
from trunkline.sessions.directory import SessionDirectory
from trunkline.sessions.ownership import find_owned
from trunkline.store.interface import Store
from trunkline.store.records import SessionRecord

#: What comes behind an agent's name and a colon.
AGENT_VERBS: Final = ("enable", "disable")


@dataclass(frozen=True, slots=True, kw_only=True)
class ControlServices:
    """The pieces the control plane asks."""

    projects: tuple[str, ...]
    store: Store
    sessions: SessionDirectory
    verifier: TokenVerifier
    builds: VersionBuilds
    calls: Calls = field(default_factory=Calls)
    """The requests agents are answering now."""
    draining: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when the platform stops: streams that would go on for ever end."""

    def admit(self, request: Request) -> tuple[Identity, ProjectName]:
        """Return who calls, and for which project.

        Raises:
            AuthenticationError: If nobody can be told from the request.
            InvalidRequestError: If the api-version isn't one.
            NotFoundError: If there is no such project.
        """
        identity = self.verifier.identify(request.headers.get("authorization"))
        return identity, self._project_of(request)

    def _project_of(self, request: Request) -> ProjectName:
        given = request.query_params.get(headers.QUERY_API_VERSION)
        if given not in headers.API_VERSIONS:
            raise InvalidRequestError(
                "the query must have api-version=v1", param=headers.QUERY_API_VERSION
            )
        name = request.path_params["project"]
        if name in DEFAULT_PROJECT_ALIASES:
            name = self.projects[0]
        if name not in self.projects:
            raise NotFoundError(f"no project {name[:64]!r} here")
        return ProjectName(name)

    def admit_call(self, request: Request) -> tuple[Identity, ProjectName]:
        """Return who calls, as :meth:`admit`; an agent may show an open call's id instead.

        Raises:
            TrunklineError: As for :meth:`admit`.
        """
        call_id = request.headers.get(headers.CALL_ID)
        if call_id is None or request.headers.get("authorization"):
            return self.admit(request)
        project = self._project_of(request)
        identity = self.calls.identify(call_id, project, agent_of(request))
        if identity is None:
            raise AuthenticationError(
                f"no request with this {headers.CALL_ID} is being answered by the agent"
            )
        return identity, project

    async def find_session(
        self, request: Request, identity: Identity, project: ProjectName
    ) -> SessionRecord:
        """Return the session a path names, if it is the caller's.

        Raises:
            SessionNotFoundError: If it was the caller's, and isn't there any more.
            SessionNotAccessibleError: If the caller has no such session.
        """
        key = SessionKey(project, agent_of(request), session_id_of(request))
        return await find_owned(self.store, key, identity.owner)


def agent_of(request: Request) -> AgentName:
    """Return the agent a path names.

    Raises:
        AgentNotFoundError: If nothing can have that name.
        MethodNotAllowedError: If it is one of an agent's verbs, used with another method.
    """
    name = request.path_params["agent"]
    if name.rpartition(":")[2] in AGENT_VERBS and ":" in name:
        raise MethodNotAllowedError(f"{request.method} isn't for this path", allowed=("POST",))
    if not is_agent_name(name):
        raise AgentNotFoundError(f"no agent can be named {name[:64]!r}")
    return AgentName(name)


def session_id_of(request: Request) -> SessionId:
    """Return the session a path names.

    Raises:
        SessionNotFoundError: If nothing can have that id.
    """
    session_id = request.path_params["session"]
    if not is_session_id(session_id):
        raise SessionNotFoundError(f"no session can have the id {session_id[:64]!r}")
    return SessionId(session_id)
