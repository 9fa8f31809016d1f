"""Roles, what each may do, and where somebody has them. Pure: no token, no store, no clock.

A grant is written ``ROLE``, ``ROLE@PROJECT`` or ``ROLE@PROJECT/AGENT``; ``*`` stands for any
project. Nobody may do anything without one.
"""

import functools
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from trunkline.protocol.errors import ForbiddenError
from trunkline.protocol.ids import AGENT_NAME_PATTERN, AgentName, ProjectName

ANY: Final = "*"
_GRANT: Final = re.compile(
    rf"([a-z]+)(?:@(\*|[A-Za-z0-9._-]{{1,64}})(?:/(\*|{AGENT_NAME_PATTERN}))?)?"
)
GRANT_RULE: Final = (
    "ROLE, ROLE@PROJECT or ROLE@PROJECT/AGENT, with reader, invoker, deployer, admin or "
    "impersonator for ROLE"
)


class Permission(StrEnum):
    """What the platform asks for before it does something; the value says it in words."""

    SEE = "see agents and their versions"
    USE = "use sessions"
    DEPLOY = "change agents"
    ADMINISTER = "administer the project"
    ACT_FOR = "act for other users"


class Role(StrEnum):
    """What somebody is to a project or an agent."""

    READER = "reader"
    INVOKER = "invoker"
    DEPLOYER = "deployer"
    ADMIN = "admin"
    IMPERSONATOR = "impersonator"


_ROLES: Final = frozenset(Role)
#: Acting for others is nobody's by the way: an admin gets it like everybody else, by its role.
PERMISSIONS: Final[Mapping[Role, frozenset[Permission]]] = {
    Role.READER: frozenset({Permission.SEE}),
    Role.INVOKER: frozenset({Permission.USE}),
    Role.DEPLOYER: frozenset({Permission.SEE, Permission.DEPLOY}),
    Role.ADMIN: frozenset(
        {Permission.SEE, Permission.USE, Permission.DEPLOY, Permission.ADMINISTER}
    ),
    Role.IMPERSONATOR: frozenset({Permission.ACT_FOR}),
}


@dataclass(frozen=True, slots=True)
class Grant:
    """One role at one place.

    Attributes:
        role: The role.
        project: A project's name, or ``*``.
        agent: An agent's name, or ``*`` for the whole project.
    """

    role: Role
    project: str = ANY
    agent: str = ANY

    @staticmethod
    @functools.lru_cache(maxsize=1024)
    def parse(text: str) -> "Grant":
        """Return what a text says.

        Raises:
            ValueError: If it isn't a grant.
        """
        match = _GRANT.fullmatch(text)
        if match is None or match[1] not in _ROLES:
            raise ValueError(f"{text[:64]!r} isn't a grant: write {GRANT_RULE}")
        return Grant(Role(match[1]), match[2] or ANY, match[3] or ANY)

    def __str__(self) -> str:
        if self.agent != ANY:
            return f"{self.role}@{self.project}/{self.agent}"
        return f"{self.role}@{self.project}" if self.project != ANY else str(self.role)

    def covers(self, project: ProjectName, agent: AgentName | None) -> bool:
        """Tell whether it holds for an agent; with None, for the whole project."""
        return self.project in (ANY, project) and self.agent in (ANY, agent)


@dataclass(frozen=True, slots=True)
class Grants:
    """All that somebody was granted."""

    all: frozenset[Grant] = frozenset()

    @classmethod
    def parse(cls, texts: Iterable[str]) -> "Grants":
        """Return what several texts say.

        Raises:
            ValueError: If one of them isn't a grant.
        """
        return cls(frozenset(Grant.parse(text) for text in texts))

    @classmethod
    def parse_known(cls, texts: Iterable[object]) -> "Grants":
        """Return what those texts say that are grants: others give no right to anything."""
        found = set()
        for text in texts:
            try:
                found.add(Grant.parse(str(text)))
            except ValueError:
                continue
        return cls(frozenset(found))

    def allow(
        self, permission: Permission, project: ProjectName, agent: AgentName | None = None
    ) -> bool:
        """Tell whether they allow something for an agent; with None, for the whole project."""
        # A loop, and not any(): each call and each connection asks this.
        for grant in self.all:
            if permission in PERMISSIONS[grant.role] and grant.covers(project, agent):
                return True
        return False

    def allow_somewhere(self, permission: Permission, project: ProjectName) -> bool:
        """Tell whether they allow something for the project, or for any agent in it."""
        return any(
            permission in PERMISSIONS[grant.role] and grant.project in (ANY, project)
            for grant in self.all
        )

    def require(
        self, permission: Permission, project: ProjectName, agent: AgentName | None = None
    ) -> None:
        """Refuse what isn't allowed.

        Raises:
            ForbiddenError: Naming the roles that would do.
        """
        if not self.allow(permission, project, agent):
            raise forbidden(permission, project, agent)


def forbidden(
    permission: Permission, project: ProjectName, agent: AgentName | None = None
) -> ForbiddenError:
    """Return the refusal of something that isn't allowed."""
    roles = " or ".join(role for role in Role if permission in PERMISSIONS[role])
    where = f"project {project!r}" if agent is None else f"agent {agent!r} in project {project!r}"
    return ForbiddenError(f"to {permission} takes the role {roles}, and you don't have it: {where}")
