"""Verifies bearer tokens: issuer, algorithm, key, signature, time, audience, and what they grant.

A token that was verified is remembered by its digest until it expires, so a client that comes
again costs a hash and a look into a table. Nothing here blocks. Where something has to be waited
for, which is an issuer's keys or whoever knows opaque tokens, that is said and not done: what needs
no waiting is told in the very call that asks.
"""

import functools
import hashlib
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import Any, Final, NamedTuple, Protocol

from trunkline.auth.caller import Caller
from trunkline.auth.claims import ClaimsMapping
from trunkline.auth.compact import Compact, take_apart
from trunkline.auth.grants import Grants
from trunkline.auth.identity import Identity
from trunkline.auth.issuer import ALGORITHM, ISSUER, ROLES_CLAIM
from trunkline.auth.keys import FixedKeys, KeySource, PublicKey
from trunkline.auth.providers import Provider
from trunkline.auth.settings import AuthSettings
from trunkline.auth.validity import check_claims
from trunkline.protocol.errors import AuthenticationError

_ABSENT: Final = (
    "no bearer token: send `Authorization: Bearer TOKEN`; "
    "`trunkline token` prints one for development"
)
_UNSIGNED: Final = "the token doesn't verify"
#: Tells who it is where something has to be waited for. Called once, if at all.
Later = Callable[[], Awaitable[Caller]]


class _Claimed(NamedTuple):
    """A token that would be good if its signature were.

    Attributes:
        digest: The token's, SHA-256.
        parts: What it is made of.
        provider: Whose it says it is.
        keys: That provider's.
        identity: Who it says it is about.
        expires_at: When it ends, in Unix seconds.
        issued_at: When it was issued, in Unix seconds.
    """

    digest: bytes
    parts: Compact
    provider: Provider
    keys: KeySource
    identity: Identity
    expires_at: float
    issued_at: float


class OpaqueTokens(Protocol):
    """Somebody who knows tokens that say nothing themselves."""

    def is_theirs(self, token: str) -> bool:
        """Tell whether a token looks like one of theirs."""

    async def identify(self, token: str) -> Caller:
        """Return whose it is.

        Raises:
            AuthenticationError: If it is nobody's.
            UnavailableError: If that can't be told at the moment.
        """


class TokenVerifier:
    """Verifies tokens of the issuers it knows."""

    def __init__(
        self,
        settings: AuthSettings,
        issuers: Iterable[tuple[Provider, KeySource]],
        *,
        opaque: Sequence[OpaqueTokens] = (),
        clock: Callable[[], float] | None = None,
    ) -> None:
        """Take the issuers to trust.

        Args:
            settings: How much to remember.
            issuers: Each with its keys.
            opaque: Who is asked about tokens that aren't signed statements; the first that knows
                them by their looks.
            clock: Tells the time in Unix seconds.
        """
        self._issuers = {provider.issuer: (provider, keys) for provider, keys in issuers}
        self._opaque = opaque
        self._clock = clock or time.time  # noqa: TID251 - what tokens say is wall-clock time
        self._verified: OrderedDict[bytes, tuple[Caller, KeySource, int]] = OrderedDict()
        self._max_verified = settings.max_verified_tokens

    async def identify(self, authorization: str | None) -> Caller:
        """Return who sends this ``Authorization`` header.

        Raises:
            TrunklineError: As for :meth:`look`, and for what that says has to be waited for.
        """
        return await _told(self.look(authorization))

    async def identify_token(self, token: str) -> Caller:
        """Return whose token it is.

        Raises:
            TrunklineError: As for :meth:`identify`.
        """
        return await _told(self._look_at(token))

    def look(self, authorization: str | None) -> Caller | Later:
        """Return who sends this ``Authorization`` header, or what tells it later.

        Raises:
            AuthenticationError: If nobody can be told from it; the text says what is wrong
                with the token and never repeats any of it.
            ForbiddenError: If it is of those who may not come in at all.
            UnavailableError: If its issuer's keys can't be had at the moment.
        """
        if not authorization:
            raise AuthenticationError(_ABSENT)
        scheme, _, token = authorization.partition(" ")
        token = token.strip()
        if scheme.lower() != "bearer" or not token:
            raise AuthenticationError("the Authorization header must be `Bearer TOKEN`")
        return self._look_at(token)

    def _look_at(self, token: str) -> Caller | Later:
        sent = token.encode("utf-8", "surrogateescape")
        digest = hashlib.sha256(sent).digest()
        known = self.recall(digest)
        if known is not None:
            return known
        for knower in self._opaque:
            if knower.is_theirs(token):
                return functools.partial(knower.identify, token)
        # What costs nothing comes first: nobody makes the platform look for keys, or verify a
        # signature, with a token that couldn't be good anyway.
        parts = take_apart(sent)
        provider, keys = self._issuer_of(parts)
        expires_at, issued_at = check_claims(parts.claims, provider, self._clock())
        identity = provider.claims.identity_of(parts.claims, provider.identity_issuer)
        claimed = _Claimed(digest, parts, provider, keys, identity, expires_at, issued_at)
        key = keys.known(parts.key_id)
        if key is None:
            return functools.partial(self._find_key, claimed)
        return self._check(claimed, key)

    async def _find_key(self, claimed: _Claimed) -> Caller:
        key = await claimed.keys.find(claimed.parts.key_id)
        if key is None:
            raise AuthenticationError("the token's key id isn't known here")
        return await _told(self._check(claimed, key))

    def _check(self, claimed: _Claimed, key: PublicKey) -> Caller | Later:
        """Check the signature."""
        parts = claimed.parts
        if parts.algorithm not in key.algorithms:
            raise AuthenticationError("the token's algorithm isn't the one its key is for")
        if key.verifies(parts.algorithm, parts.signed, parts.signature):
            return self._caller_of(claimed)
        if parts.key_id:
            raise AuthenticationError(_UNSIGNED)
        # It doesn't say which key it is of, and isn't of this one.
        return functools.partial(self._check_anew, claimed, claimed.keys.generation)

    async def _check_anew(self, claimed: _Claimed, generation: int) -> Caller:
        """Check it with the next key, if there is one."""
        parts, keys = claimed.parts, claimed.keys
        await keys.renew()
        key = keys.known("")
        if key is None or generation == keys.generation:
            raise AuthenticationError(_UNSIGNED)
        if not key.verifies(parts.algorithm, parts.signed, parts.signature):
            raise AuthenticationError(_UNSIGNED)
        return self._caller_of(claimed)

    def _caller_of(self, claimed: _Claimed) -> Caller:
        """Return whose it is, and remember that: its signature is good."""
        digest, provider, keys = claimed.digest, claimed.provider, claimed.keys
        caller = Caller(
            claimed.identity,
            provider.claims.grants_of(claimed.parts.claims),
            None,
            claimed.expires_at + provider.leeway_s,
            claimed.issued_at,
            f"token:{digest[:8].hex()}",
        )
        if self._max_verified:
            self._verified[digest] = (caller, keys, keys.generation)
            if len(self._verified) > self._max_verified:
                self._verified.popitem(last=False)
        return caller

    def recall(self, digest: bytes) -> Caller | None:
        """Return whose token has that digest (SHA-256), if it was verified and still holds."""
        found = self._verified.get(digest)
        if found is None:
            return None
        caller, keys, generation = found
        if keys.generation != generation or caller.expires_at <= self._clock():
            del self._verified[digest]
            return None
        self._verified.move_to_end(digest)
        return caller

    def _issuer_of(self, parts: Compact) -> tuple[Provider, KeySource]:
        found = self._issuers.get(parts.issuer)
        if found is None:
            raise AuthenticationError("the token's issuer isn't known here")
        if parts.algorithm not in found[0].algorithms:
            raise AuthenticationError(
                "the token's algorithm isn't allowed; allowed are "
                f"{', '.join(sorted(found[0].algorithms))}"
            )
        return found


async def _told(told: Caller | Later) -> Caller:
    return told if isinstance(told, Caller) else await told()


def development(
    settings: AuthSettings, jwks: Mapping[str, Any]
) -> list[tuple[Provider, KeySource]]:
    """Return the development issuer with its keys."""
    provider = Provider(
        issuer=ISSUER,
        identity_issuer=ISSUER,
        discovery="",
        jwks_uri="",
        audiences=frozenset({settings.audience}),
        algorithms=frozenset({ALGORITHM}),
        leeway_s=settings.leeway_s,
        claims=_DevelopmentClaims(
            roles=ROLES_CLAIM, defaults=Grants.parse(settings.development_roles)
        ),
        fixed_claims={},
    )
    return [(provider, FixedKeys(jwks))]


class _DevelopmentClaims(ClaimsMapping):
    """The defaults are for tokens that name no roles; those that do get what they name."""

    __slots__ = ()

    def grants_of(self, claims: Mapping[str, Any]) -> Grants:
        roles = claims.get(self.roles)
        if roles is None:
            return self.defaults
        return Grants.parse_known(roles) if isinstance(roles, list) else Grants()
