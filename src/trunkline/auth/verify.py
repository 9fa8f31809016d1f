"""Verifies bearer tokens: issuer, audience, time, key id, algorithm and signature."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import jwt

from trunkline.auth.caller import Caller
from trunkline.auth.grants import Grants
from trunkline.auth.identity import Identity
from trunkline.auth.issuer import DEFAULT_AUDIENCE, ROLES_CLAIM
from trunkline.protocol.errors import AuthenticationError

#: Asymmetric algorithms only: with a shared secret, whoever verifies could also issue.
ALLOWED_ALGORITHMS = ("ES256", "ES384", "RS256", "PS256", "EdDSA")
MAX_TOKEN_CHARS = 16 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class AuthSettings:
    """What a token has to say."""

    audience: str = DEFAULT_AUDIENCE
    """The audience a token must name. The default is the one Foundry's clients ask for."""

    leeway_s: float = 0.0
    """Seconds by which the clocks of the issuer and of this machine may differ. The development
    issuer runs on this machine, so there is nothing to allow for by default."""

    development_roles: tuple[str, ...] = ("reader", "invoker", "deployer")
    """What tokens of the development issuer allow that name no roles of their own: everything but
    other people's sessions. Each is `ROLE`, `ROLE@PROJECT` or `ROLE@PROJECT/AGENT`."""

    def __post_init__(self) -> None:
        Grants.parse(self.development_roles)
        if not self.audience:
            raise ValueError("audience must not be empty")
        if not 0 <= self.leeway_s <= 300:
            raise ValueError("leeway_s must be between 0 and 300")


class TokenVerifier:
    """Verifies tokens of the issuers it was given keys for."""

    def __init__(self, settings: AuthSettings, keys: Mapping[str, list[dict[str, Any]]]) -> None:
        """Take the keys to trust.

        Args:
            settings: What a token has to say.
            keys: For each issuer its public keys as JWKs (RFC 7517) with ``kid`` and ``alg``.
        """
        self._settings = settings
        self._development_grants = Grants.parse(settings.development_roles)
        self._keys = {
            (issuer, jwk["kid"]): jwt.PyJWK(jwk) for issuer, jwks in keys.items() for jwk in jwks
        }

    def identify(self, authorization: str | None) -> Caller:
        """Return who sends this ``Authorization`` header.

        Raises:
            AuthenticationError: If nobody can be told from it; the text says what is wrong
                with the token and never repeats any of it.
        """
        if not authorization:
            raise AuthenticationError(
                "no bearer token: send `Authorization: Bearer TOKEN`; "
                "`trunkline token` prints one for development"
            )
        scheme, _, token = authorization.partition(" ")
        token = token.strip()
        if scheme.lower() != "bearer" or not token:
            raise AuthenticationError("the Authorization header must be `Bearer TOKEN`")
        if len(token) > MAX_TOKEN_CHARS:
            raise AuthenticationError(f"the token is longer than {MAX_TOKEN_CHARS} characters")
        return self._verify(token)

    def _verify(self, token: str) -> Caller:
        try:
            header = jwt.get_unverified_header(token)
            unverified = jwt.decode(token, options={"verify_signature": False})
        except (jwt.PyJWTError, RecursionError):
            raise AuthenticationError("the token isn't a JSON Web Token") from None
        algorithm, issuer = header.get("alg"), unverified.get("iss")
        if algorithm not in ALLOWED_ALGORITHMS:
            raise AuthenticationError(
                f"the token's algorithm isn't allowed; allowed are {', '.join(ALLOWED_ALGORITHMS)}"
            )
        key = self._keys.get((str(issuer), str(header.get("kid"))))
        if key is None:
            raise AuthenticationError("the token's issuer or key id isn't known here")
        if key.algorithm_name != algorithm:
            raise AuthenticationError("the token's algorithm isn't the one its key is for")
        try:
            claims = jwt.decode(
                token,
                key,
                algorithms=[key.algorithm_name],
                audience=self._settings.audience,
                issuer=str(issuer),
                leeway=self._settings.leeway_s,
                options={"require": ["exp", "iss", "aud", "sub"]},
            )
        except jwt.PyJWTError as exc:
            raise AuthenticationError(self._reason(exc)) from None
        return Caller(
            identity=Identity(claims["iss"], claims["sub"]),
            grants=self._grants_in(claims),
            expires_at=claims["exp"],
        )

    def _grants_in(self, claims: Mapping[str, Any]) -> Grants:
        roles = claims.get(ROLES_CLAIM)
        if roles is None:
            return self._development_grants
        return Grants.parse_known(roles) if isinstance(roles, list) else Grants()

    def _reason(self, exc: jwt.PyJWTError) -> str:
        match exc:
            case jwt.ExpiredSignatureError():
                return "the token has expired; get a new one"
            case jwt.InvalidAudienceError():
                return f"the token is for another audience; it must be {self._settings.audience}"
            case jwt.ImmatureSignatureError():
                return "the token isn't valid yet; compare the clocks"
            case jwt.MissingRequiredClaimError():
                return f"the token lacks the claim `{exc.claim}`"
            case _:
                return "the token doesn't verify"
