"""Lets callers in: from a request's headers to a caller, or to 401."""

import functools

from trunkline.auth import noted
from trunkline.auth.caller import Caller, HeaderGetter, acting_for
from trunkline.auth.revocations import Revocations
from trunkline.auth.verify import Later, TokenVerifier


class Admission:
    """Tells who sends a request."""

    def __init__(self, verifier: TokenVerifier, revocations: Revocations | None = None) -> None:
        self._verifier = verifier
        self.revocations = revocations or Revocations()

    async def admit(self, get: HeaderGetter) -> Caller:
        """Return who sends a request with these headers.

        Raises:
            AuthenticationError: If nobody can be told from them, or they were revoked.
            InvalidRequestError: If they name somebody to act for who can't be.
        """
        caller = speaking_for(await self.identify(get("authorization")), get)
        noted.caller_is(caller)
        return caller

    async def identify(self, authorization: str | None) -> Caller:
        """Return who sends an ``Authorization`` header, whomever else the request may name.

        Raises:
            AuthenticationError: If nobody can be told from it, or they were revoked.
        """
        told = self.look(authorization)
        return told if isinstance(told, Caller) else await told()

    def look(self, authorization: str | None) -> Caller | Later:
        """Return the same, or what tells it where something has to be waited for.

        Raises:
            AuthenticationError: As for :meth:`identify`.
        """
        told = self._verifier.look(authorization)
        if isinstance(told, Caller):
            self.revocations.check(told)
            return told
        return functools.partial(self._unless_revoked, told)

    async def _unless_revoked(self, told: Later) -> Caller:
        caller = await told()
        self.revocations.check(caller)
        return caller

    def recall(self, digest: bytes) -> Caller | None:
        """Return whose bearer token has that digest, if it was verified and still holds.

        It is the very object that `identify` returned when it was verified.

        Args:
            digest: Of the token, SHA-256.
        """
        caller = self._verifier.recall(digest)
        return None if caller is None or self.revocations.covers(caller) else caller


def speaking_for(caller: Caller, get: HeaderGetter) -> Caller:
    """Return the caller of a request with these headers, who may name somebody to act for.

    Raises:
        InvalidRequestError: If they name somebody who can't be.
    """
    user = acting_for(get)
    return caller if user is None else caller._replace(acting_for=user)
