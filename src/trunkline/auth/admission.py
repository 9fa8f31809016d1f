"""Lets callers in: from a request's headers to a caller, or to 401."""

from trunkline.auth import noted
from trunkline.auth.caller import Caller, HeaderGetter, acting_for
from trunkline.auth.revocations import Revocations
from trunkline.auth.verify import TokenVerifier


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
        caller = await self._verifier.identify(get("authorization"))
        self.revocations.check(caller)
        user = acting_for(get)
        if user is not None:
            caller = caller._replace(acting_for=user)
        noted.caller_is(caller)
        return caller
