"""What a verified token's claims mean: who it is, and what they may do. Pure."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final

from trunkline.auth.grants import ANY, Grant, Grants
from trunkline.auth.identity import Identity
from trunkline.protocol.errors import AuthenticationError, ForbiddenError

_MAX_SEEN: Final = 1024
#: Twice what OpenID Connect Core 1.0 section 2 lets a subject have.
_MAX_SUBJECT_CHARS: Final = 512


@dataclass(frozen=True, slots=True, kw_only=True)
class ClaimsMapping:
    """How the claims of one provider are read. A claim's name may be a path: ``realm.roles``.

    Attributes:
        subject: The claim that names the caller.
        roles: The claim with the caller's roles: a list, or words in a text.
        projects: The claim with the projects they hold in; empty if they hold where grants say.
        grants: What a value of the roles claim grants; without any, the values are grants.
        defaults: What every caller is granted.
        required: Claims that must be there, and the values that will do.
    """

    subject: str = "sub"
    roles: str = "roles"
    projects: str = ""
    grants: Mapping[str, Grants] = field(default_factory=dict)
    defaults: Grants = field(default_factory=Grants)
    required: Mapping[str, frozenset[str]] = field(default_factory=dict)
    #: What the roles and projects of earlier tokens came to: there are few of them, and many
    #: tokens of each.
    _seen: dict[tuple[tuple[str, ...], tuple[str, ...] | None], Grants] = field(
        default_factory=dict, init=False, repr=False, compare=False
    )

    def identity_of(self, claims: Mapping[str, Any], issuer: str) -> Identity:
        """Return who claims are about.

        Raises:
            AuthenticationError: If they don't say.
        """
        subject = value_at(claims, self.subject)
        if not isinstance(subject, str) or not subject:
            raise AuthenticationError(f"the token lacks the claim `{self.subject}`")
        # It is recorded, logged and stored: no line end, no half character, nothing that is
        # shown as something else.
        if len(subject) > _MAX_SUBJECT_CHARS or not subject.isprintable():
            raise AuthenticationError(
                f"the token's claim `{self.subject}` must be printable, and not longer than "
                f"{_MAX_SUBJECT_CHARS} characters"
            )
        return Identity(issuer, subject)

    def grants_of(self, claims: Mapping[str, Any]) -> Grants:
        """Return what claims grant.

        Raises:
            ForbiddenError: If they aren't of those who may come in at all.
        """
        if self.required:
            self._check_required(claims)
        named = tuple(words_of(value_at(claims, self.roles)))
        projects = tuple(words_of(value_at(claims, self.projects))) if self.projects else None
        key = (named, projects)
        known = self._seen.get(key)
        if known is None:
            known = self._mapped(named, projects)
            if len(self._seen) >= _MAX_SEEN:
                self._seen.clear()
            self._seen[key] = known
        return known

    def _check_required(self, claims: Mapping[str, Any]) -> None:
        for name, allowed in self.required.items():
            if not allowed.intersection(words_of(value_at(claims, name))):
                raise ForbiddenError(f"the token's claim `{name}` isn't one that may come in here")

    def _mapped(self, named: Iterable[str], projects: Iterable[str] | None) -> Grants:
        if self.grants:
            found = {grant for word in named for grant in self.grants.get(word, Grants()).all}
        else:
            found = set(Grants.parse_known(named).all)
        found |= self.defaults.all
        if projects is not None:
            found = set(_within(found, projects))
        return Grants(frozenset(found))


def _within(grants: Iterable[Grant], projects: Iterable[str]) -> Iterable[Grant]:
    for grant in grants:
        for project in projects:
            if grant.project in (ANY, project) and project != ANY:
                yield replace(grant, project=project)


def value_at(claims: Mapping[str, Any], path: str) -> Any:
    """Return what is at a path of names, or None. A name with dots in it wins over a path."""
    value = claims.get(path)
    if value is not None or path in claims:
        return value
    value = claims
    for name in path.split("."):
        if not isinstance(value, Mapping):
            return None
        value = value.get(name)
    return value


def words_of(value: Any) -> list[str]:
    """Return the texts of a list, or the words of a text, as OAuth's scopes are."""
    if isinstance(value, str):
        return value.split()
    if isinstance(value, list):
        return [word for word in value if isinstance(word, str)]
    return []
