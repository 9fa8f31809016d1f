"""Public keys of issuers, and what each may verify.

Fetching them is :mod:`trunkline.auth.discovery`'s.
"""

import hashlib
from collections.abc import Callable, Mapping
from typing import Any, Final, Protocol

import jwt
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ec import ECDSA, EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.padding import MGF1, PSS, PKCS1v15
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed
from cryptography.hazmat.primitives.hashes import SHA256, SHA384, SHA512

#: Asymmetric algorithms only: with a shared secret, whoever verifies could also issue. The value
#: is the kind of key an algorithm takes: ``kty``, and ``crv`` where it has one.
ALGORITHMS: Final[Mapping[str, tuple[str, str]]] = {
    "ES256": ("EC", "P-256"),
    "ES384": ("EC", "P-384"),
    "ES512": ("EC", "P-521"),
    "RS256": ("RSA", ""),
    "RS384": ("RSA", ""),
    "RS512": ("RSA", ""),
    "PS256": ("RSA", ""),
    "PS384": ("RSA", ""),
    "PS512": ("RSA", ""),
    "EdDSA": ("OKP", "Ed25519"),
}
_MIN_RSA_BITS: Final = 2048
_MAX_KEYS: Final = 128
#: What is made of a key once: it takes what was signed, and the signature.
_Check = Callable[[bytes, bytes], bool]


class PublicKey:
    """One public key, and the algorithms it may be used with."""

    def __init__(self, jwk: Mapping[str, Any]) -> None:
        """Take a JWK (RFC 7517).

        Raises:
            ValueError: If it isn't a public key to verify signatures with.
        """
        kind = (jwk.get("kty"), jwk.get("crv", ""))
        named = jwk.get("alg")
        self.algorithms = frozenset(
            name
            for name, takes in ALGORITHMS.items()
            if takes in (kind, (kind[0], "")) and named in (None, name)
        )
        self.key_id = jwk.get("kid", "")
        if not self.algorithms or not isinstance(self.key_id, str):
            raise ValueError("not a key to verify signatures with")
        if jwk.get("use", "sig") != "sig":
            raise ValueError("not for signatures")
        try:
            self._key = jwt.PyJWK(dict(jwk), algorithm=min(self.algorithms)).key
        except (jwt.PyJWTError, TypeError) as exc:
            raise ValueError("not a JWK") from exc
        if isinstance(self._key, RSAPublicKey) and self._key.key_size < _MIN_RSA_BITS:
            raise ValueError(f"an RSA key of less than {_MIN_RSA_BITS} bits")
        if hasattr(self._key, "private_bytes"):
            raise ValueError("a private key")
        self._checks = {name: _check(name, self._key) for name in self.algorithms}

    def verifies(self, algorithm: str, signed: bytes, signature: bytes) -> bool:
        """Tell whether a signature was made with this key, by an algorithm that is for it."""
        check = self._checks.get(algorithm)
        return check is not None and check(signed, signature)


#: What the number in an algorithm's name stands for: what hashes, and what says so to OpenSSL.
_HASHES: Final = {
    "256": (hashlib.sha256, SHA256()),
    "384": (hashlib.sha384, SHA384()),
    "512": (hashlib.sha512, SHA512()),
}


def _check(algorithm: str, key: Any) -> _Check:
    if algorithm == "EdDSA":
        return _quietly(lambda signed, signature: key.verify(signature, signed))
    # Hashing here and saying so, with objects that are made once, takes less than having it done.
    hashed, kind = _HASHES[algorithm[2:]]
    prehashed = Prehashed(kind)
    verify = key.verify
    if algorithm.startswith("ES"):
        return _ecdsa_check(key, hashed, ECDSA(prehashed))
    scheme = PSS(MGF1(kind), kind.digest_size) if algorithm.startswith("PS") else PKCS1v15()
    return _quietly(
        lambda signed, signature: verify(signature, hashed(signed).digest(), scheme, prehashed)
    )


def _quietly(verify: Callable[[bytes, bytes], object]) -> _Check:
    def check(signed: bytes, signature: bytes) -> bool:
        try:
            verify(signed, signature)
        except InvalidSignature:
            return False
        return True

    return check


def _ecdsa_check(key: EllipticCurvePublicKey, hashed: Any, scheme: ECDSA) -> _Check:
    """Return what checks signatures of RFC 7518 section 3.4: two numbers of the curve's size."""
    size = (key.key_size + 7) // 8
    verify = key.verify

    def check(signed: bytes, signature: bytes) -> bool:
        if len(signature) != 2 * size:
            return False
        in_der = _sequence(signature[:size], signature[size:])
        try:
            verify(in_der, hashed(signed).digest(), scheme)
        except InvalidSignature:
            return False
        return True

    return check


def _sequence(first: bytes, second: bytes) -> bytes:
    """Return two numbers as OpenSSL takes a signature: a SEQUENCE of INTEGERs in DER."""
    both = _integer(first) + _integer(second)
    if len(both) < 0x80:
        return b"0%c%b" % (len(both), both)
    return b"0\x81%c%b" % (len(both), both)


#: What is in front of an INTEGER's digits, by how many there are; of those whose highest bit would
#: make it negative, with a zero between.
_POSITIVE: Final = tuple(b"\x02%c" % size for size in range(67))
_RAISED: Final = tuple(b"\x02%c\0" % (size + 1) for size in range(67))


def _integer(number: bytes) -> bytes:
    if not number[0]:
        # As short as can be; of nothing but zeros one is left.
        number = number.lstrip(b"\0") or b"\0"
    return (_POSITIVE if number[0] < 0x80 else _RAISED)[len(number)] + number


class KeySource(Protocol):
    """The keys of one issuer."""

    generation: int
    """Changes whenever the keys do: what was verified before has to be verified again."""

    def known(self, key_id: str) -> PublicKey | None:
        """Return a key that is at hand, or None. A token without a key id has an empty one."""

    async def find(self, key_id: str) -> PublicKey | None:
        """Return a key, looking for it where keys are published if that may be done now.

        Raises:
            UnavailableError: If it isn't known, and where keys are published nobody answers.
        """

    async def renew(self) -> None:
        """Look for newer keys, if that may be done now; wait until that is over."""


class FixedKeys:
    """Keys that are at hand and never change; each token has to name its own."""

    generation = 0

    def __init__(self, jwks: Mapping[str, Any]) -> None:
        self._keys = parse_key_set(jwks)

    def known(self, key_id: str) -> PublicKey | None:
        return self._keys.get(key_id)

    async def find(self, key_id: str) -> PublicKey | None:
        return self._keys.get(key_id)

    async def renew(self) -> None:
        return None


def parse_key_set(jwks: Mapping[str, Any]) -> dict[str, PublicKey]:
    """Return the keys of a set (RFC 7517 section 5) that are of use here, by their ids.

    Raises:
        ValueError: If it isn't a key set.
    """
    listed = jwks.get("keys")
    if not isinstance(listed, list):
        raise ValueError("not a key set")
    found: dict[str, PublicKey] = {}
    for jwk in listed[:_MAX_KEYS]:
        try:
            key = PublicKey(jwk)
        except (ValueError, AttributeError):
            # Sets hold keys of other kinds and for other purposes, too.
            continue
        found.setdefault(key.key_id, key)
    return found
