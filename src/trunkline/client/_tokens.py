"""Where bearer tokens come from."""

import inspect
from collections.abc import Awaitable, Callable, Mapping

from trunkline.protocol.errors import AuthenticationError

TOKEN_VARIABLE = "TRUNKLINE_TOKEN"  # noqa: S105 - the variable's name

#: A token; or something to call for one before every request, so that it may renew itself.
TokenSource = str | Callable[[], str | Awaitable[str]]


class MissingTokenError(AuthenticationError):
    """There is no token to send."""

    def __init__(self) -> None:
        super().__init__(f"no token to send: set {TOKEN_VARIABLE}")


async def get_token(source: TokenSource | None) -> str:
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
