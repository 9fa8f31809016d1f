"""Opaque tokens: their provider is asked what they are (RFC 7662).

What it says is remembered for a moment, good and bad alike, so a client that comes again and a
token that is tried again cost no request. How many are asked about at once is bounded, and so is
how many wait for their turn.
"""

import asyncio
import hashlib
import logging
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import Any, Final

import aiohttp

from trunkline.auth.caller import Caller
from trunkline.auth.compact import MAX_TOKEN_CHARS, is_compact
from trunkline.auth.discovery import FetchError, read_json
from trunkline.auth.providers import Introspection, Provider
from trunkline.auth.settings import AuthSettings
from trunkline.auth.validity import check_claims
from trunkline.protocol.errors import AuthenticationError, TrunklineError, UnavailableError

_log = logging.getLogger("trunkline.auth")
_AT_ONCE: Final = 8
_WAITING: Final = 64
#: How long an answer holds: also the longest a token goes on that was revoked at its provider.
_REMEMBERED_S: Final = 30.0
_MAX_REMEMBERED: Final = 10_000


class IntrospectedTokens:
    """The opaque tokens of one provider."""

    def __init__(
        self,
        provider: Provider,
        place: Introspection,
        settings: AuthSettings,
        *,
        clock: Callable[[], float] = time.time,  # noqa: TID251 - what is said is wall-clock time
    ) -> None:
        self._provider = provider
        self._place = place
        self._timeout_s = settings.fetch_timeout_s
        self._clock = clock
        self._known: OrderedDict[bytes, tuple[Caller | TrunklineError, float]] = OrderedDict()
        self._asking: dict[bytes, asyncio.Future[Caller | TrunklineError]] = {}
        self._turns = asyncio.Semaphore(_AT_ONCE)

    def is_theirs(self, token: str) -> bool:
        return not is_compact(token)

    async def identify(self, token: str) -> Caller:
        if len(token) > MAX_TOKEN_CHARS:
            raise AuthenticationError(f"the token is longer than {MAX_TOKEN_CHARS} characters")
        digest = hashlib.sha256(token.encode("utf-8", "surrogateescape")).digest()
        outcome = self._recall(digest)
        if outcome is None:
            outcome = await self._ask_once(token, digest)
        if isinstance(outcome, TrunklineError):
            # A new one each time: an exception that is raised again keeps growing.
            raise type(outcome)(str(outcome))
        return outcome

    def _recall(self, digest: bytes) -> Caller | TrunklineError | None:
        found = self._known.get(digest)
        if found is None:
            return None
        if found[1] <= self._clock():
            del self._known[digest]
            return None
        return found[0]

    async def _ask_once(self, token: str, digest: bytes) -> Caller | TrunklineError:
        asking = self._asking.get(digest)
        if asking is not None:
            return await asyncio.shield(asking)
        if len(self._asking) >= _AT_ONCE + _WAITING:
            raise UnavailableError("too many tokens are being looked into at once; try again")
        asking = self._asking[digest] = asyncio.get_running_loop().create_future()
        outcome: Caller | TrunklineError = UnavailableError("the request was given up; try again")
        try:
            async with self._turns:
                outcome = await self._ask(token, digest)
        finally:
            del self._asking[digest]
            asking.set_result(outcome)
        return outcome

    async def _ask(self, token: str, digest: bytes) -> Caller | TrunklineError:
        try:
            async with asyncio.timeout(self._timeout_s):
                claims = await self._post(token)
        except (FetchError, TimeoutError, aiohttp.ClientError, OSError) as exc:
            _log.warning(
                "%s can't be asked about tokens: %s",
                self._provider.issuer,
                str(exc) or type(exc).__name__,
            )
            return UnavailableError(
                "the token can't be verified at the moment: its provider doesn't answer; try again"
            )
        outcome: Caller | TrunklineError
        now = self._clock()
        until = now + _REMEMBERED_S
        try:
            outcome = self._caller(claims, digest, now)
            until = min(until, outcome.expires_at)
        except TrunklineError as exc:
            outcome = exc
        self._known[digest] = (outcome, until)
        if len(self._known) > _MAX_REMEMBERED:
            self._known.popitem(last=False)
        return outcome

    async def _post(self, token: str) -> Mapping[str, Any]:
        place = self._place
        async with aiohttp.ClientSession(trust_env=False) as session:
            async with session.post(
                place.endpoint,
                data={"token": token, "token_type_hint": "access_token"},
                headers={
                    "accept": "application/json",
                    "authorization": aiohttp.encode_basic_auth(
                        place.client_id, place.client_secret
                    ),
                },
                allow_redirects=False,
            ) as answer:
                if answer.status != 200:
                    raise FetchError(f"it answers {answer.status}")
                return await read_json(answer, are_claims=True)

    def _caller(self, claims: Mapping[str, Any], digest: bytes, now: float) -> Caller:
        provider = self._provider
        if claims.get("active") is not True:
            raise AuthenticationError("the token's provider doesn't know it, or it has ended")
        if claims.get("iss", provider.issuer) != provider.issuer:
            raise AuthenticationError("the token is of another issuer")
        expires_at, issued_at = check_claims(claims, provider, now)
        return Caller(
            identity=provider.claims.identity_of(claims, provider.identity_issuer),
            grants=provider.claims.grants_of(claims),
            expires_at=expires_at + provider.leeway_s,
            issued_at=issued_at,
            credential=f"token:{digest[:8].hex()}",
        )
