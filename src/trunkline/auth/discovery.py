"""An issuer's keys, found by discovery, kept, and fetched again when that is due.

Known keys keep working while the provider is down. A key id nobody knows makes one request at
most every ``key_refresh_min_s``, however many ask for however many: nobody can have the platform
flood a provider. All who wait for a request wait for the same one.
"""

import asyncio
import ipaddress
import json
import logging
import re
import time
from collections.abc import Callable, Mapping
from typing import Any, Final
from urllib.parse import urlsplit

import aiohttp
from pydantic_core import from_json

from trunkline.aio.tasks import TaskOwner
from trunkline.auth.keys import PublicKey, parse_key_set
from trunkline.auth.settings import AuthSettings
from trunkline.protocol.errors import UnavailableError

_log = logging.getLogger("trunkline.auth")
_MAX_DOCUMENT_BYTES: Final = 1024 * 1024
_MAX_AGE: Final = re.compile(r"max-age=([0-9]{1,9})")
_MIN_FRESH_S: Final = 60.0


class FetchError(Exception):
    """A document couldn't be had; the text says why, for the log."""


class DiscoveredKeys:
    """The keys an issuer publishes."""

    def __init__(
        self,
        issuer: str,
        settings: AuthSettings,
        *,
        jwks_uri: str = "",
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Prepare; nothing is fetched until the first token.

        Args:
            issuer: Whose keys: a URL that discovery starts from.
            settings: How long keys are kept, and how often they are looked for.
            jwks_uri: Where the keys are, if discovery isn't to be asked.
            clock: Tells the time.
        """
        self._issuer = issuer
        self._settings = settings
        self._jwks_uri = jwks_uri
        self._clock = clock
        self._keys: dict[str, PublicKey] = {}
        self.generation = 0
        self._fetched_at = self._tried_at = -float("inf")
        self._fresh_until = -float("inf")
        self._fetching: asyncio.Task[None] | None = None
        self._tasks = TaskOwner()

    def known(self, key_id: str) -> PublicKey | None:
        now = self._clock()
        if now - self._fetched_at > self._settings.keys_max_stale_s:
            return None
        if now > self._fresh_until and self._may_try(now):
            # The caller needn't wait for it: what is known holds until it is known better.
            self._start()
        return self._named(key_id)

    def _named(self, key_id: str) -> PublicKey | None:
        if not key_id and len(self._keys) == 1:
            # OpenID Connect Core 1.0 section 10.1: with one key, a token need not name it.
            (only,) = self._keys.values()
            return only
        return self._keys.get(key_id)

    async def find(self, key_id: str) -> PublicKey | None:
        found = self.known(key_id)
        if found is not None:
            return found
        await self.renew()
        if self._clock() - self._fetched_at > self._settings.keys_max_stale_s:
            raise UnavailableError(
                "the token can't be verified at the moment: its issuer's keys can't be had; "
                "try again"
            )
        return self._named(key_id)

    async def renew(self) -> None:
        if self._fetching is None and self._may_try(self._clock()):
            self._start()
        if self._fetching is not None:
            # Shielded: whoever gives up must not end it for the others.
            await asyncio.shield(self._fetching)

    async def aclose(self) -> None:
        """Stop fetching. Twice is fine."""
        await self._tasks.aclose()

    def _may_try(self, now: float) -> bool:
        return now - self._tried_at >= self._settings.key_refresh_min_s

    def _start(self) -> None:
        if self._fetching is not None:
            return
        self._tried_at = self._clock()
        self._fetching = self._tasks.spawn(
            self._fetch(), name=f"keys:{self._issuer}", is_awaited=True
        )
        self._fetching.add_done_callback(self._ended)

    def _ended(self, _: asyncio.Task[None]) -> None:
        self._fetching = None

    async def _fetch(self) -> None:
        try:
            async with asyncio.timeout(self._settings.fetch_timeout_s):
                keys, fresh_s = await self._fetch_keys()
        except (FetchError, TimeoutError, aiohttp.ClientError, OSError, ValueError) as exc:
            _log.warning(
                "the keys of %s couldn't be fetched, those known go on: %s",
                self._issuer,
                str(exc) or type(exc).__name__,
            )
            return
        self._fetched_at = self._clock()
        self._fresh_until = self._fetched_at + fresh_s
        if keys.keys() != self._keys.keys():
            _log.info("the keys of %s have changed: there are %d", self._issuer, len(keys))
        self._keys = keys
        self.generation += 1

    async def _fetch_keys(self) -> tuple[dict[str, PublicKey], float]:
        uri = self._jwks_uri or await self._discover()
        document, max_age_s = await fetch_json(uri)
        most = self._settings.keys_max_fresh_s
        return parse_key_set(document), min(max(max_age_s or most, _MIN_FRESH_S), most)

    async def _discover(self) -> str:
        place = f"{self._issuer.rstrip('/')}/.well-known/openid-configuration"
        document, _ = await fetch_json(place)
        # OpenID Connect Discovery 1.0 section 4.3: or one provider could speak for another.
        if document.get("issuer") != self._issuer:
            raise FetchError("what is discovered there is another issuer's")
        uri = document.get("jwks_uri")
        if not isinstance(uri, str):
            raise FetchError("what is discovered there has no jwks_uri")
        return uri


async def fetch_json(url: str) -> tuple[Mapping[str, Any], float | None]:
    """Return the JSON object at a URL, and for how many seconds it is fresh, if it says so.

    Raises:
        FetchError: If it can't be had, or isn't one.
        aiohttp.ClientError: If nobody answers.
    """
    if not is_safe_url(url):
        raise FetchError("it must be https, or http on this machine")
    async with aiohttp.ClientSession(trust_env=False) as session:
        async with session.get(
            url, allow_redirects=False, headers={"accept": "application/json"}
        ) as answer:
            if answer.status != 200:
                raise FetchError(f"it answers {answer.status}")
            return await read_json(answer), _fresh_s(answer.headers.get("cache-control", ""))


async def read_json(
    answer: aiohttp.ClientResponse, *, are_claims: bool = False
) -> Mapping[str, Any]:
    """Return the JSON object an answer is.

    Args:
        answer: An answer.
        are_claims: Whether it says whose a token is: then what is odd in it is the token's fault,
            and whoever reads the claims refuses it.

    Raises:
        FetchError: If it isn't one, or is too long.
    """
    body = await answer.content.read(_MAX_DOCUMENT_BYTES + 1)
    while len(body) <= _MAX_DOCUMENT_BYTES and not answer.content.at_eof():
        body += await answer.content.read(_MAX_DOCUMENT_BYTES + 1 - len(body))
    if len(body) > _MAX_DOCUMENT_BYTES:
        raise FetchError(f"it is over {_MAX_DOCUMENT_BYTES} bytes")
    try:
        # Unlike the standard library's, it takes no half of a surrogate pair, which is no
        # character: nobody behind this could store it, hash it or send it on.
        document = json.loads(body) if are_claims else from_json(body, allow_inf_nan=False)
    except (ValueError, RecursionError):
        raise FetchError("it isn't JSON") from None
    if not isinstance(document, dict):
        raise FetchError("it isn't a JSON object")
    return document


def is_safe_url(url: str) -> bool:
    """Tell whether what is at a URL may be believed: nobody can change it on the way."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return False
    if parts.username is not None or not parts.hostname:
        return False
    return parts.scheme == "https" or (parts.scheme == "http" and _is_loopback(parts.hostname))


def _is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _fresh_s(cache_control: str) -> float | None:
    match = _MAX_AGE.search(cache_control)
    return float(match[1]) if match else None
