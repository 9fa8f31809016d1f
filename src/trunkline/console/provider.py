"""Signing in with an OpenID Connect provider: authorization code with PKCE.

The page makes the request, with a verifier, a state and a nonce that stay in its tab, and gets the
code. The platform exchanges the code, so a page needs to connect to nobody but the platform, the
provider needs no rule for pages of other origins, a client may have a secret, and a refresh token
never is in a browser: it is kept here, encrypted with what the page renews its token with.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit
from weakref import WeakValueDictionary

from trunkline.aio.threads import in_thread
from trunkline.auth.claims import ClaimsMapping
from trunkline.auth.compact import take_apart
from trunkline.auth.keys import KeySource
from trunkline.auth.providers import Provider
from trunkline.auth.verify import TokenVerifier
from trunkline.console.kept import Held, Secrets
from trunkline.console.oauth import ProviderClient
from trunkline.console.signin import FOLDER, SIGN_IN_LIFETIME_S, Access
from trunkline.protocol.errors import AuthenticationError, TrunklineError, UnavailableError

_log = logging.getLogger("trunkline.console")
#: What tells its renewals from those of links.
PREFIX: Final = "provider."
_MAX_SHOWN: Final = 200
_OVER: Final = "you aren't signed in any more; sign in again"
_NAMES: Final = ("preferred_username", "email", "name", "sub")


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What a page brings back from the provider.

    Attributes:
        code: The authorization code.
        verifier: What the page made the challenge of (RFC 7636).
        nonce: What the ID token has to have.
        redirect_uri: Where the provider sent the page to.
    """

    code: str
    verifier: str
    nonce: str
    redirect_uri: str


class ProviderSignIn:
    """The provider that people sign in with."""

    def __init__(
        self,
        client: ProviderClient,
        provider: Provider,
        keys: KeySource,
        *,
        verifier: TokenVerifier,
        state_dir: Path,
        clock: Callable[[], float] = time.time,  # noqa: TID251 - what tokens say is wall-clock time
    ) -> None:
        """Prepare; nothing is fetched yet.

        Args:
            client: Asks the provider.
            provider: Whose tokens the platform takes.
            keys: Its keys.
            verifier: Tells whether the platform takes a token.
            state_dir: Where sign-ins are kept.
            clock: Unix seconds.
        """
        self._client = client
        self._settings = client.settings
        self._issuer = provider.issuer
        self._verifier = verifier
        self._clock = clock
        # An ID token is for the client, and what a call may do isn't in it.
        ours = replace(
            provider,
            audiences=frozenset({self._settings.client_id}),
            claims=ClaimsMapping(),
        )
        self._id_tokens = TokenVerifier(client.auth, [(ours, keys)], clock=clock)
        self._renewals = Secrets(state_dir / FOLDER / "provider", clock)
        self._one_at_a_time: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    async def invitation(self) -> dict[str, Any]:
        """Return what a page needs to send somebody to the provider."""
        settings = self._settings
        body: dict[str, Any] = {
            "name": settings.provider_name or urlsplit(self._issuer).netloc,
            "issuer": self._issuer,
        }
        try:
            places = await self._client.addresses()
        except UnavailableError as exc:
            return {**body, "problem": str(exc)}
        return {
            **body,
            "authorization_endpoint": places.authorization,
            "end_session_endpoint": places.end_session or None,
            "client_id": settings.client_id,
            "scope": " ".join(settings.scopes),
            "parameters": dict(each.split("=", 1) for each in settings.parameters),
        }

    async def redeem(self, answer: Answer) -> Access:
        """Sign in with what the provider gave a page.

        Raises:
            AuthenticationError: If it is nothing, or for somebody else.
            UnavailableError: If the provider can't be asked.
        """
        given = await self._client.ask(
            {
                "grant_type": "authorization_code",
                "code": answer.code,
                "redirect_uri": answer.redirect_uri,
                "code_verifier": answer.verifier,
            }
        )
        user = await self._user_in(given, answer.nonce)
        token, until = await self._usable(given)
        refresh = given.get("refresh_token")
        renewal = None
        if isinstance(refresh, str) and refresh:
            secret = await in_thread(
                lambda: self._renewals.make(user, SIGN_IN_LIFETIME_S, kept=refresh)
            )
            renewal = PREFIX + secret
        return self._access(user, token, until, renewal)

    async def renew(self, renewal: str) -> Access:
        """Return a further token for a page that has signed in.

        Raises:
            AuthenticationError: If it hasn't, or the provider ended it.
            UnavailableError: If the provider can't be asked.
        """
        secret = renewal.removeprefix(PREFIX)
        # A refresh token may be good for one use: of two tabs that have the same, one is first.
        async with self._alone(secret):
            held = await in_thread(self._renewals.find, secret)
            if held is None:
                raise AuthenticationError(_OVER)
            form = {"grant_type": "refresh_token", "refresh_token": held.kept}
            try:
                given = await self._client.ask(form)
            except AuthenticationError:
                await in_thread(self._renewals.remove, secret)
                raise
            refresh = given.get("refresh_token")
            if isinstance(refresh, str) and refresh and refresh != held.kept:
                newer = Held(held.user, held.until, refresh, held.made_at)
                await in_thread(self._renewals.change, secret, newer)
            token, until = await self._usable(given)
        return self._access(held.user, token, until, renewal)

    async def forget(self, renewal: str) -> None:
        """Sign out, and tell the provider so if it wants to know. Twice is fine."""
        secret = renewal.removeprefix(PREFIX)
        async with self._alone(secret):
            held = await in_thread(self._renewals.take, secret)
        if held is None:
            return
        try:
            await self._client.revoke(held.kept)
        except TrunklineError as exc:
            _log.warning("%s wasn't told of a sign-out: %s", self._issuer, exc)

    def _alone(self, secret: str) -> asyncio.Lock:
        return self._one_at_a_time.setdefault(secret, asyncio.Lock())

    async def _user_in(self, given: Mapping[str, Any], nonce: str) -> str:
        id_token = given.get("id_token")
        if not isinstance(id_token, str):
            raise AuthenticationError("the identity provider gave no ID token")
        await self._id_tokens.identify_token(id_token)
        claims = take_apart(id_token.encode()).claims
        if claims.get("nonce") != nonce:
            raise AuthenticationError("the ID token is of another sign-in; sign in again")
        if claims.get("azp", self._settings.client_id) != self._settings.client_id:
            raise AuthenticationError("the ID token is for another client")
        names = (claims.get(name) for name in _NAMES)
        return next(name for name in names if isinstance(name, str) and name)[:_MAX_SHOWN]

    async def _usable(self, given: Mapping[str, Any]) -> tuple[str, float]:
        """Return the token to call the platform with, and when it ends."""
        token = given.get(self._settings.call_with)
        if not isinstance(token, str) or not token:
            kind = self._settings.call_with.replace("_", " ")
            raise AuthenticationError(f"the identity provider gave no {kind}")
        try:
            caller = await self._verifier.identify_token(token)
        except AuthenticationError as exc:
            raise AuthenticationError(
                f"the provider's token doesn't let you in here: {exc} "
                "(TRUNKLINE_CONSOLE_CALL_WITH, TRUNKLINE_AUTH_PROVIDERS_FILE)"
            ) from None
        return token, caller.expires_at

    def _access(self, user: str, token: str, until: float, renewal: str | None) -> Access:
        left_s = max(0, int(until - self._clock()))
        return Access(user=user, token=token, expires_in_s=left_s, renewal=renewal)
