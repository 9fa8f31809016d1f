"""One token in the compact form (RFC 7515 section 7.1), taken apart and not yet believed.

Nothing here is verified. What leads away from the keys that the platform's own configuration
names isn't even looked at: ``jwk``, ``jku``, ``x5u`` and ``x5c`` in a header mean nothing.
"""

import binascii
import functools
import json
import re
from typing import Any, Final, NamedTuple, NoReturn

from trunkline.protocol.errors import AuthenticationError

MAX_TOKEN_CHARS: Final = 16 * 1024
#: Key ids are looked up, not interpreted; longer ones than anybody's only cost memory.
_MAX_KEY_ID_CHARS: Final = 512
_TOKEN: Final = re.compile(r"[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+")
#: Of bytes, which is eight times as fast as of text.
_PLAIN: Final = bytes.maketrans(b"-_", b"+/")
_MALFORMED: Final = "the token isn't a JSON Web Token"


class Compact(NamedTuple):
    """A token taken apart.

    Attributes:
        algorithm: The algorithm it says it is signed with.
        key_id: The key it says it is signed with.
        issuer: Who it says it comes from.
        claims: What it says.
        signed: What its signature is over.
        signature: Its signature.
    """

    algorithm: str
    key_id: str
    issuer: str
    claims: dict[str, Any]
    signed: bytes
    signature: bytes


def take_apart(token: str) -> Compact:
    """Return a token's parts.

    Raises:
        AuthenticationError: If it isn't one, or demands what isn't understood here.
    """
    if len(token) > MAX_TOKEN_CHARS:
        raise AuthenticationError(f"the token is longer than {MAX_TOKEN_CHARS} characters")
    if not _TOKEN.fullmatch(token):
        raise AuthenticationError(_MALFORMED)
    signed, _, signature = token.rpartition(".")
    head, _, body = signed.partition(".")
    algorithm, key_id = _head(head)
    claims = _object(body)
    return Compact(
        algorithm,
        key_id,
        str(claims.get("iss")),
        claims,
        signed.encode("ascii"),
        _bytes(signature),
    )


# All tokens of one key have the same header.
@functools.lru_cache(maxsize=256)
def _head(part: str) -> tuple[str, str]:
    header = _object(part)
    if "crit" in header or "b64" in header:
        # RFC 7515 section 4.1.11: who doesn't understand what it names must refuse.
        raise AuthenticationError("the token has critical headers, and none is understood here")
    key_id = header.get("kid")
    if not isinstance(key_id, str) or len(key_id) > _MAX_KEY_ID_CHARS:
        key_id = ""
    return str(header.get("alg")), key_id


def is_compact(token: str) -> bool:
    """Tell whether a token looks like one in the compact form."""
    return token.count(".") == 2


def _bytes(part: str) -> bytes:
    try:
        padded = part.encode("ascii").translate(_PLAIN) + b"=" * (-len(part) % 4)
        return binascii.a2b_base64(padded, strict_mode=True)
    except binascii.Error:
        raise AuthenticationError(_MALFORMED) from None


def _object(part: str) -> dict[str, Any]:
    try:
        value = _DECODER.decode(_bytes(part).decode())
    except (ValueError, RecursionError):
        raise AuthenticationError(_MALFORMED) from None
    if not isinstance(value, dict):
        raise AuthenticationError(_MALFORMED)
    return value


def _no_constant(name: str) -> NoReturn:
    raise ValueError(name)


_DECODER: Final = json.JSONDecoder(parse_constant=_no_constant)
