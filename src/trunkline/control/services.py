"""What the parts of the control plane share."""

import asyncio
from dataclasses import dataclass, field

from starlette.requests import Request

from trunkline.auth.identity import Identity
from trunkline.auth.verify import TokenVerifier
from trunkline.control.builds import VersionBuilds
from trunkline.protocol import headers
from trunkline.protocol.errors import AgentNotFoundError, InvalidRequestError, NotFoundError
from trunkline.protocol.ids import (
    DEFAULT_PROJECT_ALIASES,
    AgentName,
    ProjectName,
    is_agent_name,
)
from trunkline.sessions.directory import SessionDirectory
from trunkline.store.interface import Store


@dataclass(frozen=True, slots=True, kw_only=True)
class ControlServices:
    """The pieces the control plane asks."""

    projects: tuple[str, ...]
    store: Store
    sessions: SessionDirectory
    verifier: TokenVerifier
    builds: VersionBuilds
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
        return identity, ProjectName(name)


def agent_of(request: Request) -> AgentName:
    """Return the agent a path names.

    Raises:
        AgentNotFoundError: If nothing can have that name.
    """
    name = request.path_params["agent"]
    if not is_agent_name(name):
        raise AgentNotFoundError(f"no agent can be named {name[:64]!r}")
    return AgentName(name)
