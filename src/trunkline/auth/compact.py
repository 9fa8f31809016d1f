"""One token in the compact form (RFC 7515 section 7.1), taken apart and not yet believed.

Nothing here is verified. What leads away from the keys that the platform's own configuration
names isn't even looked at: ``jwk``, ``jku``, ``x5u`` and ``x5c`` in a header mean nothing.
"""

import functools
from binascii import a2b_base64
from typing import Any, Final, NamedTuple

from pydantic_core import from_json

from trunkline.protocol.errors import AuthenticationError

MAX_TOKEN_CHARS: Final = 16 * 1024
#: Key ids are looked up, not interpreted; longer ones than anybody's only cost memory.
_MAX_KEY_ID_CHARS: Final = 512
#: From the alphabet of RFC 4648 section 5 to that of section 4. What isn't of the first becomes
#: what isn't of the second, so that nothing has two spellings.
_PLAIN: Final = bytes.maketrans(b"-_+/=", b"+/!!!")
#: By how much a part is short of whole groups of four characters.
_PADDING: Final = (b"", b"!", b"==", b"=")
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


def take_apart(token: bytes) -> Compact:
    """Return a token's parts.

    Raises:
        AuthenticationError: If it isn't one, or demands what isn't understood here.
    """
    if len(token) > MAX_TOKEN_CHARS:
        raise AuthenticationError(f"the token is longer than {MAX_TOKEN_CHARS} characters")
    try:
        head, body, signature = token.translate(_PLAIN).split(b".")
        algorithm, key_id = _head(head)
        claims = _object(body)
        return Compact(
            algorithm,
            key_id,
            str(claims.get("iss")),
            claims,
            token[: len(head) + 1 + len(body)],
            _bytes(signature),
        )
    # What isn't three parts, or base64, or UTF-8, or JSON.
    except ValueError:
        raise AuthenticationError(_MALFORMED) from None


# All tokens of one key have the same header.
@functools.lru_cache(maxsize=256)
def _head(part: bytes) -> tuple[str, str]:
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


def _bytes(part: bytes) -> bytes:
    return a2b_base64(part + _PADDING[len(part) % 4], strict_mode=True)


def _object(part: bytes) -> dict[str, Any]:
    # It keeps names that come again and again, and nothing of what they stand for.
    value = from_json(_bytes(part), allow_inf_nan=False, cache_strings="keys")
    if not isinstance(value, dict):
        raise ValueError("no object")
    return value
