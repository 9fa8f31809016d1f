"""The development issuer: tokens for one machine, signed with a key in the state directory.

Its key is made on first use and never leaves the directory; whoever may read the file may
call as anybody, which on one's own machine is oneself.
"""

import datetime as dt
import hashlib
import json
import os
import secrets
from base64 import urlsafe_b64encode
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from jwt.algorithms import ECAlgorithm

ISSUER = "urn:trunkline:development"
ALGORITHM = "ES256"
DEFAULT_AUDIENCE = "https://ai.azure.com"
DEFAULT_LIFETIME_S = 3600
#: What a token of it says its holder may do, as grants; without it the platform's settings say.
ROLES_CLAIM = "roles"
_KEY_FILE = "issuer.pem"


class DevelopmentIssuer:
    """Issues tokens, and publishes the public key they verify with."""

    def __init__(self, key: ec.EllipticCurvePrivateKey) -> None:
        self._key = key
        self.public_jwk: dict[str, Any] = _public_jwk(key)

    @classmethod
    def open(cls, state_dir: Path) -> "DevelopmentIssuer":
        """Read the key of a state directory, making both if they aren't there.

        Any number of processes may do so at once: they all end with the same key.
        """
        path = state_dir / _KEY_FILE
        try:
            pem = path.read_bytes()
        except FileNotFoundError:
            pem = _create_key(path)
        key = load_pem_private_key(pem, password=None)
        if not isinstance(key, ec.EllipticCurvePrivateKey):
            raise TypeError(f"{path} isn't an elliptic-curve key; remove it to have one made")
        return cls(key)

    def issue(
        self,
        user: str,
        expires_in_s: int = DEFAULT_LIFETIME_S,
        *,
        audience: str = DEFAULT_AUDIENCE,
        roles: Sequence[str] | None = None,
    ) -> str:
        """Return a bearer token that says its holder is ``user``.

        Args:
            user: The caller's name; it becomes the token's subject.
            expires_in_s: Seconds until it is refused. Negative ones make an expired token.
            audience: Whom the token is for.
            roles: What the user may do, as :mod:`trunkline.auth.grants` writes it; None for what
                the platform's ``development_roles`` say.
        """
        now = dt.datetime.now(dt.UTC)
        claims: dict[str, Any] = {
            "iss": ISSUER,
            "aud": audience,
            "sub": user,
            "iat": now,
            "nbf": now,
            "exp": now + dt.timedelta(seconds=expires_in_s),
            "jti": secrets.token_hex(8),
        }
        if roles is not None:
            claims[ROLES_CLAIM] = list(roles)
        if expires_in_s <= 0:
            claims["iat"] = claims["nbf"] = claims["exp"]
        return jwt.encode(claims, self._key, ALGORITHM, headers={"kid": self.public_jwk["kid"]})

    def jwks(self) -> dict[str, Any]:
        """Return the key set to publish (RFC 7517 section 5)."""
        return {"keys": [self.public_jwk]}


def _create_key(path: Path) -> bytes:
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    pem = ec.generate_private_key(ec.SECP256R1()).private_bytes(
        Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()
    )
    draft = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(pem)
    try:
        # A link never replaces a file: of several makers one wins, the others use its key.
        os.link(draft, path)
    except FileExistsError:
        pem = path.read_bytes()
    finally:
        draft.unlink()
    return pem


def _public_jwk(key: ec.EllipticCurvePrivateKey) -> dict[str, Any]:
    jwk = ECAlgorithm(ECAlgorithm.SHA256).to_jwk(key.public_key(), as_dict=True)
    # RFC 7638 section 3: the required members only, in this order, without spaces.
    required = json.dumps(
        {name: jwk[name] for name in ("crv", "kty", "x", "y")}, separators=(",", ":")
    )
    digest = hashlib.sha256(required.encode()).digest()
    thumbprint = urlsafe_b64encode(digest).rstrip(b"=").decode()
    return {**jwk, "kid": thumbprint, "alg": ALGORITHM, "use": "sig"}
