"""Where bearer tokens come from."""

import asyncio
import inspect
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Protocol

from trunkline.protocol.errors import AuthenticationError

TOKEN_VARIABLE = "TRUNKLINE_TOKEN"  # noqa: S105 - the variable's name
#: What the contract's platforms take tokens for.
SCOPE = "https://ai.azure.com/.default"
#: A token this close to its end is replaced: it has to outlive the request it goes with.
RENEW_BEFORE_S = 300.0


class AccessToken(Protocol):
    """A token and when it ends, as ``azure-core`` has it."""

    @property
    def token(self) -> str: ...
    @property
    def expires_on(self) -> int: ...


class Credential(Protocol):
    """Something that gets tokens, as every credential of ``azure-identity`` does.

    The synchronous ones and those of ``azure.identity.aio`` both fit.
    """

    def get_token(self, *scopes: str, **options: Any) -> Any: ...


#: A token; or something to call for one before every request, so that it may renew itself;
#: or a credential, whose tokens are kept until shortly before they end.
TokenSource = str | Callable[[], str | Awaitable[str]] | Credential


class MissingTokenError(AuthenticationError):
    """There is no token to send."""

    def __init__(self) -> None:
        super().__init__(f"no token to send: set {TOKEN_VARIABLE}")


class CredentialToken:
    """The present token of a credential. Concurrent calls share one request for a new one."""

    def __init__(
        self,
        credential: Credential,
        scope: str = SCOPE,
        *,
        now_s: Callable[[], float] = time.time,  # noqa: TID251 - tokens end at a wall-clock time
    ) -> None:
        self._credential = credential
        self._scope = scope
        self._now_s = now_s
        self._token = ""
        self._expires_on = 0.0
        self._renewing = asyncio.Lock()

    async def __call__(self) -> str:
        """Return a token that is good for a while yet."""
        async with self._renewing:
            if self._expires_on - self._now_s() < RENEW_BEFORE_S:
                got: AccessToken = await self._get()
                self._token, self._expires_on = got.token, float(got.expires_on)
            return self._token

    async def _get(self) -> AccessToken:
        get_token = self._credential.get_token
        if inspect.iscoroutinefunction(get_token):
            return await get_token(self._scope)  # type: ignore[no-any-return]
        # It may ask over the network, or start another program.
        got = await asyncio.to_thread(get_token, self._scope)
        return await got if inspect.isawaitable(got) else got  # type: ignore[no-any-return]


def prepared(source: TokenSource | None) -> str | Callable[[], str | Awaitable[str]] | None:
    """Return a source as a token or something to call for one."""
    if source is None or isinstance(source, str):
        return source
    if hasattr(source, "get_token"):
        return CredentialToken(source)
    return source


async def get_token(source: str | Callable[[], str | Awaitable[str]] | None) -> str:
    """Return a token to send now.

    Raises:
        MissingTokenError: If there is none.
    """
    token = source() if callable(source) else source
    if inspect.isawaitable(token):
        token = await token
    if not token:
        raise MissingTokenError
    return token.strip()


def token_from(env: Mapping[str, str]) -> str | None:
    """Return the environment's token, if it has one."""
    return env.get(TOKEN_VARIABLE) or None
