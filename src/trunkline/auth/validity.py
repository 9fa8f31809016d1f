"""Whether what a token says holds here and at the moment. Pure."""

from collections.abc import Mapping
from typing import Any, Final

from trunkline.auth.providers import Provider
from trunkline.protocol.errors import AuthenticationError

#: Far behind any date. Numbers in JSON may be infinite once they are read, and of any length.
_MAX_DATE: Final = 2.0**53
_NUMBERS: Final = (int, float)


def check_claims(claims: Mapping[str, Any], provider: Provider, now: float) -> tuple[float, float]:
    """Return when a token ends and when it was issued, in Unix seconds.

    Args:
        claims: What it says.
        provider: Whose it is.
        now: The time, in Unix seconds.

    Raises:
        AuthenticationError: If it doesn't hold.
    """
    get = claims.get
    expires_at, issued_at, starts_at = get("exp"), get("iat"), get("nbf")
    if expires_at is None:
        raise AuthenticationError("the token lacks the claim `exp`")
    # One by one, not in a loop: this is run for every token that is new.
    if type(expires_at) not in _NUMBERS or not -_MAX_DATE < expires_at < _MAX_DATE:
        raise _not_a_date("exp")
    if expires_at + provider.leeway_s <= now:
        raise AuthenticationError("the token has expired; get a new one")
    latest = now + provider.leeway_s
    if issued_at is None:
        issued_at = 0
    elif type(issued_at) not in _NUMBERS or not -_MAX_DATE < issued_at < _MAX_DATE:
        raise _not_a_date("iat")
    if starts_at is None:
        starts_at = issued_at
    elif type(starts_at) not in _NUMBERS or not -_MAX_DATE < starts_at < _MAX_DATE:
        raise _not_a_date("nbf")
    if issued_at > latest or starts_at > latest:
        raise AuthenticationError("the token isn't valid yet; compare the clocks")
    audience = get("aud")
    if type(audience) is not str or audience not in provider.audiences:
        _check_audiences(audience, provider)
    if provider.fixed_claims:
        _check_fixed(claims, provider)
    return float(expires_at), float(issued_at)


def _not_a_date(name: str) -> AuthenticationError:
    return AuthenticationError(f"the token's claim `{name}` isn't a number of seconds")


def _check_audiences(audience: Any, provider: Provider) -> None:
    if audience is None:
        raise AuthenticationError("the token lacks the claim `aud`")
    named = audience if isinstance(audience, list) else ()
    if not any(isinstance(each, str) and each in provider.audiences for each in named):
        raise AuthenticationError(
            "the token is for another audience; it must be "
            f"{' or '.join(sorted(provider.audiences))}"
        )


def _check_fixed(claims: Mapping[str, Any], provider: Provider) -> None:
    for name, value in provider.fixed_claims.items():
        if claims.get(name) != value:
            raise AuthenticationError(f"the token's claim `{name}` doesn't fit its issuer")
