"""One caller of one request: who it is, what it may do, and whom it acts for."""

import math
import re
from collections.abc import Callable, Mapping
from typing import Any, Final, NamedTuple

from trunkline.auth.grants import Grants, Permission
from trunkline.auth.identity import Identity
from trunkline.protocol import headers
from trunkline.protocol.errors import InvalidRequestError
from trunkline.protocol.ids import AgentName, ProjectName

#: Returns a header's value by its lower-case name.
HeaderGetter = Callable[[str], str | None]

_USER: Final = re.compile(r"[A-Za-z0-9._:@-]{1,256}")


# Not a dataclass: one that is frozen takes twice as long to make.
class Caller(NamedTuple):
    """Who sent a request.

    Attributes:
        identity: Who it is.
        grants: What it may do.
        acting_for: The user it names as the one it acts for, if any.
        expires_at: When its credential ends, in Unix seconds.
        issued_at: When its credential was issued, in Unix seconds, if that is known.
        credential: Names the credential in records and revocations; no secret.
    """

    identity: Identity
    grants: Grants = Grants()
    acting_for: str | None = None
    expires_at: float = math.inf
    issued_at: float = 0.0
    credential: str = ""

    def to_json(self) -> dict[str, Any]:
        """Return the caller as JSON has it, for whoever has to know it again later."""
        return {
            "issuer": self.identity.issuer,
            "subject": self.identity.subject,
            "grants": sorted(str(grant) for grant in self.grants.all),
            "acting_for": self.acting_for,
            "expires_at": None if math.isinf(self.expires_at) else self.expires_at,
            "issued_at": self.issued_at,
            "credential": self.credential,
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> "Caller":
        """Return the caller that :meth:`to_json` wrote."""
        expires_at = value["expires_at"]
        return cls(
            identity=Identity(value["issuer"], value["subject"]),
            grants=Grants.parse(value["grants"]),
            acting_for=value["acting_for"],
            expires_at=math.inf if expires_at is None else expires_at,
            issued_at=value["issued_at"],
            credential=value["credential"],
        )

    @property
    def user(self) -> Identity:
        """The user it speaks for: itself, or the one it acts for.

        Users that are only named belong to the issuer of those who name them, so that one
        tenant's ``u1`` isn't another's.
        """
        if self.acting_for is None:
            return self.identity
        return Identity(f"acting-for:{self.identity.issuer}", self.acting_for)

    def require(
        self, permission: Permission, project: ProjectName, agent: AgentName | None = None
    ) -> None:
        """Refuse what the caller may not do; naming another user is a thing of its own.

        Raises:
            ForbiddenError: Naming the roles that would do.
        """
        self.grants.require(permission, project, agent)
        if self.acting_for is not None:
            self.grants.require(Permission.ACT_FOR, project, agent)

    def owner_of(self, endpoint: Mapping[str, Any]) -> str:
        """Return whom the caller's sessions belong to, with an agent of that endpoint.

        Raises:
            InvalidRequestError: If the endpoint's sessions belong to named users, and none is.
        """
        if not isolates_by_header(endpoint):
            return self.identity.owner
        if self.acting_for is None:
            raise InvalidRequestError(
                f"sessions with this agent belong to the user that the header "
                f"{headers.USER_IDENTITY} names, and it is missing",
                param=headers.USER_IDENTITY,
            )
        return self.user.owner


def isolates_by_header(endpoint: Mapping[str, Any]) -> bool:
    """Tell whether an endpoint's sessions belong to users that a header names."""
    for scheme in endpoint.get("authorization_schemes") or ():
        if scheme.get("type") == "Entra":
            source = scheme.get("isolation_key_source") or {}
            return bool(source.get("kind") == "Header")
    return False


def acting_for(get: HeaderGetter) -> str | None:
    """Return the user whom a request's headers name, or None.

    Raises:
        InvalidRequestError: If they name two, or nobody can be called that.
    """
    named = {value for name in headers.USER_IDENTITY_NAMES if (value := get(name)) is not None}
    if not named:
        return None
    if len(named) > 1:
        raise InvalidRequestError(
            f"the request names two users to act for; send {headers.USER_IDENTITY} once",
            param=headers.USER_IDENTITY,
        )
    (user,) = named
    if not _USER.fullmatch(user):
        raise InvalidRequestError(
            f"{headers.USER_IDENTITY} must be 1 to 256 characters out of A-Z a-z 0-9 . _ : - @",
            param=headers.USER_IDENTITY,
        )
    return user
