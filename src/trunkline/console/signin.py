"""Who has signed in to the console, by a link that works once.

A browser has no file of its user's to show, and nothing that a browser sends by itself may count:
a cookie goes to every port of a host, and so to whatever another user of the machine runs there.
So whoever may write to the state directory makes a link, and the page makes the secret in it into
short-lived tokens, which stay in its tab.

Secrets are kept as files named by their hashes, so a link can be made without asking the platform,
any of its processes takes it, and who reads a copy of the directory has none of them.
"""

import hashlib
import json
import os
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from trunkline.auth.issuer import DevelopmentIssuer
from trunkline.protocol.errors import AuthenticationError

#: A link that was asked for is followed soon.
LINK_LIFETIME_S: Final = 600
#: One that was printed at the start, for as long as a terminal stays open.
FIRST_LINK_LIFETIME_S: Final = 12 * 3600
#: A working day.
SIGN_IN_LIFETIME_S: Final = 12 * 3600
#: A page gets a new token while it is open, so that one which leaks is soon worthless.
TOKEN_LIFETIME_S: Final = 900
_FOLDER: Final = "console"
_SECRET_BYTES: Final = 24
_AGAIN: Final = "`trunkline console` prints a link that does"


@dataclass(frozen=True, slots=True, kw_only=True)
class Access:
    """What a page gets.

    Attributes:
        user: Who has signed in.
        token: A bearer token.
        expires_in_s: How long it is good.
        renewal: What to get the next one with.
    """

    user: str
    token: str
    expires_in_s: int
    renewal: str


class Secrets:
    """Secrets of one kind, each for one user, until a time."""

    def __init__(self, folder: Path, clock: Callable[[], float]) -> None:
        self._folder = folder
        self._clock = clock

    def make(self, user: str, lifetime_s: float) -> str:
        """Return a new one. Those that have expired are removed."""
        self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._sweep()
        secret = secrets.token_urlsafe(_SECRET_BYTES)
        descriptor = os.open(self._path(secret), os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w") as file:
            json.dump({"user": user, "until": self._clock() + lifetime_s}, file)
        return secret

    def find(self, secret: str) -> str | None:
        """Return whose it is, or None."""
        return self._user_in(self._path(secret))

    def take(self, secret: str) -> str | None:
        """Return whose it is and make it worthless; of two who try, one gets it."""
        path = self._path(secret)
        mine = path.with_name(f"{path.name}.{secrets.token_hex(8)}")
        try:
            path.rename(mine)
        except FileNotFoundError:
            return None
        user = self._user_in(mine)
        mine.unlink(missing_ok=True)
        return user

    def remove(self, secret: str) -> None:
        """Make it worthless. Twice is fine."""
        self._path(secret).unlink(missing_ok=True)

    def _path(self, secret: str) -> Path:
        return self._folder / hashlib.sha256(secret.encode("utf-8", "replace")).hexdigest()

    def _user_in(self, path: Path) -> str | None:
        try:
            held = json.loads(path.read_bytes())
            return str(held["user"]) if held["until"] > self._clock() else None
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def _sweep(self) -> None:
        for path in self._folder.iterdir():
            if self._user_in(path) is None:
                path.unlink(missing_ok=True)


class SignIns:
    """Links that nobody has followed yet, and pages that have signed in."""

    def __init__(
        self,
        state_dir: Path,
        issuer: DevelopmentIssuer,
        *,
        # Files outlive a process, so their times are of the wall's clock.
        clock: Callable[[], float] = time.time,  # noqa: TID251
    ) -> None:
        """Use what is in a state directory.

        Args:
            state_dir: The platform's.
            issuer: Makes the tokens.
            clock: Unix seconds.
        """
        self._issuer = issuer
        self._links = _links(state_dir, clock)
        self._renewals = Secrets(state_dir / _FOLDER / "renewals", clock)

    def redeem(self, key: str) -> Access:
        """Sign in with a link's key, which is used up by it.

        Raises:
            AuthenticationError: If it isn't one, or not any more.
        """
        user = self._links.take(key)
        if user is None:
            raise AuthenticationError(f"this link was used, or is too old; {_AGAIN}")
        return self._access(user, self._renewals.make(user, SIGN_IN_LIFETIME_S))

    def renew(self, renewal: str) -> Access:
        """Return a further token for a page that has signed in.

        Raises:
            AuthenticationError: If it hasn't, has signed out, or did so too long ago.
        """
        user = self._renewals.find(renewal)
        if user is None:
            raise AuthenticationError(f"you aren't signed in any more; {_AGAIN}")
        return self._access(user, renewal)

    def forget(self, renewal: str) -> None:
        """Sign out. Twice is fine."""
        self._renewals.remove(renewal)

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
    return Secrets(state_dir / _FOLDER / "links", clock)
