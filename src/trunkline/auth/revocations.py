"""Whose credentials are worth nothing any more, as this process knows it."""

from collections.abc import Iterable

from trunkline.auth.caller import Caller
from trunkline.auth.identity import Identity
from trunkline.protocol.errors import AuthenticationError


class Revocations:
    """Identities, and since when what they come in with must be newer."""

    def __init__(self) -> None:
        self._since: dict[Identity, float] = {}

    def replace(self, known: Iterable[tuple[Identity, float]]) -> bool:
        """Take what is known now, in Unix seconds; tell whether anything has changed."""
        since = dict(known)
        if since == self._since:
            return False
        self._since = since
        return True

    def covers(self, caller: Caller) -> bool:
        """Tell whether a caller's credential was issued before its identity was revoked."""
        if not self._since:
            return False
        since = self._since.get(caller.identity)
        # A token says when it was issued to the second only.
        return since is not None and caller.issued_at <= since

    def check(self, caller: Caller) -> None:
        """Refuse a caller whose credential is worth nothing any more.

        Raises:
            AuthenticationError: If it is.
        """
        if self.covers(caller):
            raise AuthenticationError("the token or key was revoked; get a new one")
