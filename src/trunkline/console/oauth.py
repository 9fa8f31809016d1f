"""Asks an OpenID Connect provider on the console's behalf: addresses, tokens, revocation."""

import asyncio
import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import quote_plus

import aiohttp

from trunkline.auth.discovery import FetchError, fetch_json, is_safe_url, read_json
from trunkline.auth.settings import AuthSettings
from trunkline.console.settings import ConsoleSettings
from trunkline.protocol.errors import AuthenticationError, UnavailableError

_log = logging.getLogger("trunkline.console")
#: Anybody can send codes: so many are exchanged at once, and so many wait.
_AT_ONCE: Final = 8
_WAITING: Final = 64
_MAX_SHOWN: Final = 200
_NO_ANSWER: Final = "the identity provider doesn't answer; try again"


@dataclass(frozen=True, slots=True, kw_only=True)
class Addresses:
    """Where a provider does what."""

    authorization: str
    token: str
    revocation: str
    end_session: str


class ProviderClient:
    """The console as a client of a provider."""

    def __init__(
        self, issuer: str, settings: ConsoleSettings, auth: AuthSettings, secret: str = ""
    ) -> None:
        """Prepare; nothing is fetched yet.

        Args:
            issuer: Who is asked for its addresses.
            settings: The client, as the provider knows it.
            auth: How long the provider has to answer.
            secret: The client's; empty for a public client.
        """
        self.settings = settings
        self.auth = auth
        self._issuer = issuer
        self._secret = secret
        self._discovery = Discovery(issuer, auth)
        self._turns = asyncio.Semaphore(_AT_ONCE)
        self._asking = 0

    async def addresses(self) -> Addresses:
        """Return where the provider does what.

        Raises:
            UnavailableError: If it can't be had.
        """
        return await self._discovery.addresses()

    async def ask(self, form: Mapping[str, str]) -> Mapping[str, Any]:
        """Return what the provider gives for a code or a refresh token.

        Raises:
            AuthenticationError: If that is nothing.
            UnavailableError: If it can't be asked.
        """
        places = await self._discovery.addresses()
        return await self._post(places.token, form)

    async def revoke(self, refresh_token: str) -> None:
        """Have the provider forget a refresh token, if it offers that.

        Raises:
            TrunklineError: As for :meth:`ask`.
        """
        places = await self._discovery.addresses()
        if places.revocation:
            form = {"token": refresh_token, "token_type_hint": "refresh_token"}
            await self._post(places.revocation, form)

    async def _post(self, url: str, form: Mapping[str, str]) -> Mapping[str, Any]:
        if self._asking >= _AT_ONCE + _WAITING:
            raise UnavailableError("too many sign in at once; try again")
        self._asking += 1
        try:
            async with (
                self._turns,
                asyncio.timeout(self.auth.fetch_timeout_s),
                aiohttp.ClientSession(trust_env=False) as session,
                session.post(url, allow_redirects=False, **self._signed(form)) as answer,
            ):
                if answer.status in (400, 401):
                    raise AuthenticationError(await _refusal(answer))
                if answer.status != 200:
                    raise FetchError(f"it answers {answer.status}")
                # Who revokes has nothing to say (RFC 7009 section 2.2).
                return await read_json(answer) if "token" not in form else {}
        except (FetchError, TimeoutError, aiohttp.ClientError, OSError) as exc:
            _log.warning("%s can't be asked: %s", self._issuer, str(exc) or type(exc).__name__)
            raise UnavailableError(_NO_ANSWER) from None
        finally:
            self._asking -= 1

    def _signed(self, form: Mapping[str, str]) -> dict[str, Any]:
        """Return what makes a request the client's: its name, and its secret if it has one."""
        client_id, headers = self.settings.client_id, {"accept": "application/json"}
        if not self._secret:
            return {"data": {**form, "client_id": client_id}, "headers": headers}
        # RFC 6749 section 2.3.1: both are encoded as in a form before they are put together.
        headers["authorization"] = aiohttp.encode_basic_auth(
            quote_plus(client_id), quote_plus(self._secret)
        )
        return {"data": dict(form), "headers": headers}


async def _refusal(answer: aiohttp.ClientResponse) -> str:
    try:
        said = await read_json(answer)
        words = f"{said['error']}: {said.get('error_description') or 'it says no more'}"
    except (FetchError, KeyError):
        words = "it doesn't say why"
    return f"the identity provider refuses ({words[:_MAX_SHOWN]}); sign in again"


class Discovery:
    """A provider's addresses, fetched when they are first needed and again when they are old."""

    def __init__(
        self,
        issuer: str,
        settings: AuthSettings,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._issuer = issuer
        self._settings = settings
        self._clock = clock
        self._found: Addresses | None = None
        self._fresh_until = self._again_at = -float("inf")
        self._lock = asyncio.Lock()

    async def addresses(self) -> Addresses:
        """Return them.

        Raises:
            UnavailableError: If they can't be had. They are looked for again in a while.
        """
        async with self._lock:
            now = self._clock()
            if now >= self._fresh_until and now >= self._again_at:
                self._again_at = now + self._settings.key_refresh_min_s
                try:
                    async with asyncio.timeout(self._settings.fetch_timeout_s):
                        self._found = await self._fetch()
                except (FetchError, TimeoutError, aiohttp.ClientError, OSError) as exc:
                    why = str(exc) or type(exc).__name__
                    _log.warning("%s can't be discovered: %s", self._issuer, why)
                else:
                    self._fresh_until = now + self._settings.keys_max_fresh_s
            if self._found is None:
                raise UnavailableError(_NO_ANSWER)
            return self._found

    async def _fetch(self) -> Addresses:
        place = f"{self._issuer.rstrip('/')}/.well-known/openid-configuration"
        document, _ = await fetch_json(place)
        if document.get("issuer") != self._issuer:
            raise FetchError("what is discovered there is another issuer's")
        found = {}
        for name in ("authorization", "token", "revocation", "end_session"):
            url = document.get(f"{name}_endpoint", "")
            is_needed = name in ("authorization", "token")
            if not isinstance(url, str) or (not is_safe_url(url) and (url or is_needed)):
                raise FetchError(f"its {name}_endpoint isn't https, or http on this machine")
            found[name] = url
        return Addresses(**found)
