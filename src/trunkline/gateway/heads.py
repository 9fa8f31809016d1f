"""What of a request's head is refused although the parser takes it. Pure.

The parser (llhttp, strict) refuses the rest itself: both ``Content-Length`` and
``Transfer-Encoding``, two lengths, folded lines, bare CR and LF, bad chunks.
"""

import re
from typing import Final

from trunkline.protocol import headers
from trunkline.protocol.errors import InvalidRequestError

#: RFC 9112 section 3.2: a name or an address, and perhaps a port; or nothing.
_HOST: Final = re.compile(
    rb"(?:[A-Za-z0-9._~!$&'()*+,;=%-]*|\[[A-Za-z0-9._~:%-]+\])(?::[0-9]{0,5})?"
)
_VERSIONS = ("1.0", "1.1")
#: Who asks, for whom, and from which page. Of two, one server believes the first and another the
#: last: a proxy that adds its own behind the client's would speak for whom the client says.
_ONE_OF_EACH = frozenset(
    {b"authorization", b"origin", *(name.encode() for name in headers.USER_IDENTITY_NAMES)}
)


def wanted_upgrade(version: str, given: list[tuple[bytes, bytes]]) -> bytes | None:
    """Return what protocol a head asks to change to, in lower case, or None.

    RFC 9110 section 7.8: it takes both headers, each may stand in several lines, and HTTP/1.0 has
    none of it.

    Args:
        version: The HTTP version.
        given: Its headers: names in lower case, and values.
    """
    if version != "1.1":
        return None
    is_asked, protocol = False, None
    for name, value in given:
        if name == b"upgrade":
            protocol = value.lower() if protocol is None else protocol
        elif name == b"connection" and not is_asked:
            tokens = [token.strip() for token in value.lower().split(b",")]
            is_asked = b"upgrade" in tokens
    return protocol if is_asked else None


def check_head(version: str, given: list[tuple[bytes, bytes]]) -> None:
    """Refuse a head that another server might read in another way.

    Args:
        version: The HTTP version.
        given: Its headers: names in lower case, and values.

    Raises:
        InvalidRequestError: Saying what is wrong with it.
    """
    if version not in _VERSIONS:
        raise InvalidRequestError(f"this speaks HTTP/1.1, not HTTP/{version}")
    hosts, codings, seen = 0, [], set()
    for name, value in given:
        if name == b"host":
            hosts += 1
            if not _HOST.fullmatch(value.strip(b" \t")):
                raise InvalidRequestError("the Host header is neither a name nor an address")
        elif name == b"transfer-encoding":
            codings.append(value)
        elif name in _ONE_OF_EACH:
            if name in seen:
                raise InvalidRequestError(f"a request has one {name.decode()} header at most")
            seen.add(name)
    # RFC 9112 section 3.2. HTTP/1.0 didn't have it yet.
    if hosts > 1 or (not hosts and version == "1.1"):
        raise InvalidRequestError(f"a request has one Host header, and this one has {hosts}")
    if not codings:
        return
    # RFC 9112 sections 6.1 and 7: nobody here undoes another coding, and HTTP/1.0 has none.
    if version == "1.0" or len(codings) > 1 or codings[0].strip(b" \t").lower() != b"chunked":
        raise InvalidRequestError("Transfer-Encoding may be chunked and nothing else, in HTTP/1.1")
