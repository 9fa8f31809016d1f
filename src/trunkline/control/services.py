"""What the parts of the control plane share."""

import asyncio
from dataclasses import dataclass, field
from typing import Final

from starlette.requests import Request

from trunkline.auth.admission import Admission
from trunkline.auth.caller import Caller
from trunkline.auth.grants import Permission, forbidden
from trunkline.auth.rates import Rate
from trunkline.control.builds import VersionBuilds
from trunkline.control.shapes import Starts
from trunkline.protocol import headers
from trunkline.protocol.errors import (
    AgentNotFoundError,
    AuthenticationError,
    ForbiddenError,
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
from trunkline.sessions.live import Live, NothingLive
from trunkline.sessions.ownership import find_owned, owner_with
from trunkline.store.interface import Store
from trunkline.store.records import SessionRecord, VersionRecord

#: What comes behind an agent's name and a colon.
AGENT_VERBS: Final = ("enable", "disable")


@dataclass(frozen=True, slots=True, kw_only=True)
class ControlServices:
    """The pieces the control plane asks."""

    projects: tuple[str, ...]
    store: Store
    sessions: SessionDirectory
    admission: Admission
    builds: VersionBuilds
    rate: Rate | None = None
    """How often an identity may call."""
    calls: Calls = field(default_factory=Calls)
    """The requests agents are answering now."""
    live: Live = field(default_factory=NothingLive)
    """Tells of open connections."""
    draining: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when the platform stops: streams that would go on for ever end."""

    async def admit(self, request: Request, permission: Permission) -> tuple[Caller, ProjectName]:
        """Return who calls, and for which project, if they may do that in all of it.

        Raises:
            AuthenticationError: If nobody can be told from the request.
            InvalidRequestError: If the api-version isn't one.
            NotFoundError: If there is no such project.
            ForbiddenError: If the caller may not.
        """
        caller, project = await self._admit_to_project(request)
        caller.require(permission, project)
        return caller, project

    async def admit_to_agent(
        self, request: Request, permission: Permission
    ) -> tuple[Caller, ProjectName, AgentName]:
        """Return who calls, as :meth:`admit`, and for which agent, if they may do that with it.

        Raises:
            TrunklineError: As for :meth:`admit`.
        """
        caller, project = await self._admit_to_project(request)
        agent = agent_of(request)
        caller.require(permission, project, agent)
        return caller, project, agent

    async def admit_to_some_agent(
        self, request: Request, permission: Permission
    ) -> tuple[Caller, ProjectName]:
        """Return who calls, as :meth:`admit`, if they may do that with any agent at all.

        It is for requests whose body has yet to say which.

        Raises:
            TrunklineError: As for :meth:`admit`.
        """
        caller, project = await self._admit_to_project(request)
        if not caller.grants.allow_somewhere(permission, project):
            raise forbidden(permission, project)
        return caller, project

    async def _admit_to_project(self, request: Request) -> tuple[Caller, ProjectName]:
        caller = await self.admission.admit(request.headers.get)
        if self.rate is not None:
            self.rate.take(caller.user.owner)
        return caller, self._project_of(request)

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

    async def admit_call(self, request: Request) -> tuple[str, ProjectName, AgentName]:
        """Return on whose behalf a request is, and for which agent.

        An agent may show an open call's id in the place of a token.

        Raises:
            TrunklineError: As for :meth:`admit`.
        """
        call_id = request.headers.get(headers.CALL_ID)
        if call_id is None or request.headers.get("authorization"):
            caller, project, agent = await self.admit_to_agent(request, Permission.USE)
            return await owner_with(self.store, project, agent, caller), project, agent
        project, agent = self._project_of(request), agent_of(request)
        owner = self.calls.owner_of(call_id, project, agent)
        if owner is None:
            raise AuthenticationError(
                f"no request with this {headers.CALL_ID} is being answered by the agent"
            )
        return owner, project, agent

    async def admit_agent(
        self, request: Request, session: SessionKey
    ) -> tuple[str, ProjectName, AgentName]:
        """Return on whose behalf a session's own agent asks, and for which agent: itself.

        It shows the id of a call that it is answering in that session, and nothing else.

        Raises:
            AuthenticationError: If there is no such call.
            ForbiddenError: If it shows a token, or asks about another agent.
            TrunklineError: As for :meth:`admit`.
        """
        if request.headers.get("authorization") is not None:
            raise ForbiddenError(
                "from a sandbox the platform takes no token: send the request's "
                f"{headers.CALL_ID}, and no Authorization"
            )
        project, agent = self._project_of(request), agent_of(request)
        if (project, agent) != (session.project, session.agent):
            raise ForbiddenError(
                f"from its sandbox the agent {session.agent!r} reads its own conversations only"
            )
        given = request.headers.getlist(headers.CALL_ID)
        owner = self.calls.owner_in(given[0], session) if len(given) == 1 else None
        if owner is None:
            raise AuthenticationError(
                f"no request with this {headers.CALL_ID} is being answered in this session"
            )
        return owner, project, agent

    def starts_of(self, record: VersionRecord) -> Starts | None:
        """Return how a version's sessions are started; None if they can't be."""
        status = self.builds.start_status(record)
        return None if status is None else Starts(status, self.sessions.ready.status(record))

    async def admit_to_sessions(
        self, request: Request
    ) -> tuple[ProjectName, AgentName, str | None]:
        """Return of which agent, and whose, the sessions are that a caller may see.

        An admin who speaks for itself may see everybody's: then the last is None.

        Raises:
            TrunklineError: As for :meth:`admit`.
        """
        caller, project, agent = await self.admit_to_agent(request, Permission.USE)
        is_admin = caller.grants.allow(Permission.ADMINISTER, project, agent)
        if is_admin and caller.acting_for is None:
            return project, agent, None
        return project, agent, await owner_with(self.store, project, agent, caller)

    async def find_session(self, request: Request) -> SessionRecord:
        """Return the session a path names, if the caller may see it.

        Raises:
            SessionNotFoundError: If it was the caller's, and isn't there any more.
            SessionNotAccessibleError: If the caller has no such session.
            TrunklineError: As for :meth:`admit`.
        """
        project, agent, owner = await self.admit_to_sessions(request)
        return await find_owned(
            self.store, SessionKey(project, agent, session_id_of(request)), owner
        )


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
