"""Who has signed in to the console, by a link that works once.

A browser has no file of its user's to show, and nothing that a browser sends by itself may count:
a cookie goes to every port of a host, and so to whatever another user of the machine runs there.
So whoever may write to the state directory makes a link, and the page makes the secret in it into
short-lived tokens, which stay in its tab.

Secrets are kept as files, so a link can be made without asking the platform.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from trunkline.auth.caller import Caller
from trunkline.auth.identity import Identity
from trunkline.auth.issuer import ISSUER, DevelopmentIssuer
from trunkline.auth.revocations import Revocations
from trunkline.console.kept import Held, Secrets
from trunkline.protocol.errors import AuthenticationError

#: A link that was asked for is followed soon.
LINK_LIFETIME_S: Final = 600
#: One that was printed at the start, for as long as a terminal stays open.
FIRST_LINK_LIFETIME_S: Final = 12 * 3600
#: A working day.
SIGN_IN_LIFETIME_S: Final = 12 * 3600
#: A page gets a new token while it is open, so that one which leaks is soon worthless.
TOKEN_LIFETIME_S: Final = 900
FOLDER: Final = "console"


@dataclass(frozen=True, slots=True, kw_only=True)
class Access:
    """What a page gets.

    Attributes:
        user: Who has signed in.
        token: A bearer token.
        expires_in_s: How long it is good.
        renewal: What to get the next one with; None if there is nothing.
    """

    user: str
    token: str
    expires_in_s: int
    renewal: str | None


class SignIns:
    """Links that nobody has followed yet, and pages that have signed in."""

    def __init__(
        self,
        state_dir: Path,
        issuer: DevelopmentIssuer,
        *,
        are_taken: bool = True,
        revocations: Revocations | None = None,
        # Files outlive a process, so their times are of the wall's clock.
        clock: Callable[[], float] = time.time,  # noqa: TID251
    ) -> None:
        """Use what is in a state directory.

        Args:
            state_dir: The platform's.
            issuer: Makes the tokens.
            are_taken: Whether the platform takes them.
            revocations: Whose links and pages that have signed in are worth nothing any more.
            clock: Unix seconds.
        """
        self._issuer = issuer
        self._revocations = revocations or Revocations()
        self.are_taken = are_taken
        self._links = _links(state_dir, clock)
        self._renewals = Secrets(state_dir / FOLDER / "renewals", clock)

    def redeem(self, key: str) -> Access:
        """Sign in with a link's key, which is used up by it.

        Raises:
            AuthenticationError: If it isn't one, or not any more, or its user was revoked.
        """
        held = self._links.take(key)
        if held is None:
            raise AuthenticationError(
                "this link was used, or is too old; `trunkline console` prints another one"
            )
        self._check(held)
        return self._access(held.user, self._renewals.make(held.user, SIGN_IN_LIFETIME_S))

    def renew(self, renewal: str) -> Access:
        """Return a further token for a page that has signed in.

        Raises:
            AuthenticationError: If it hasn't, has signed out, did so too long ago, or its user was
                revoked.
        """
        held = self._renewals.find(renewal)
        if held is None:
            raise AuthenticationError(
                "you aren't signed in any more; `trunkline console` prints a link that signs you in"
            )
        # Or whoever was revoked would make themselves newer tokens for as long as a page is open.
        self._check(held)
        return self._access(held.user, renewal)

    def forget(self, renewal: str) -> None:
        """Sign out. Twice is fine."""
        self._renewals.remove(renewal)

    def _check(self, held: Held) -> None:
        identity = Identity(ISSUER, held.user)
        self._revocations.check(Caller(identity=identity, issued_at=held.made_at))

    def _access(self, user: str, renewal: str) -> Access:
        token = self._issuer.issue(user, TOKEN_LIFETIME_S)
        return Access(user=user, token=token, expires_in_s=TOKEN_LIFETIME_S, renewal=renewal)


def make_link(
    state_dir: Path,
    base: str,
    user: str,
    *,
    lifetime_s: float = LINK_LIFETIME_S,
    clock: Callable[[], float] = time.time,  # noqa: TID251 - see SignIns
) -> str:
    """Return a link that signs ``user`` in, once, at the platform of a state directory.

    Args:
        state_dir: Whoever may write to it may call as anybody.
        base: The platform's address.
        user: Whom the page is to act as.
        lifetime_s: How long it works.
        clock: Unix seconds.
    """
    # Behind a "#" it is sent nowhere, and so stands in no log and no Referer.
    return f"{base}/console/#key={_links(state_dir, clock).make(user, lifetime_s)}"


def _links(state_dir: Path, clock: Callable[[], float]) -> Secrets:
    return Secrets(state_dir / FOLDER / "links", clock)
