"""Heads of upgrades that are like one that was parsed before.

A client's library sends the same header fields each time, but for the key of the handshake and
the token. What the parser and the checks found in such fields holds for them with another key and
another token, if those have nothing in them that the parser would look at: so they are remembered
without both, and a head that has them costs no parsing. Anything else about it goes to the parser.
"""

import re
import string
from typing import Final, NamedTuple

from trunkline.gateway.handshake import KEY, check_handshake
from trunkline.gateway.requests import Fields, UpgradeRequest
from trunkline.protocol.errors import TrunklineError

#: A target that is a path and perhaps a query, of characters that nobody reads in two ways.
_REQUEST_LINE: Final = re.compile(
    rb"GET (/(?!/)[\w.~:@!$&'()*+,;=%/-]*)(?:\?([\w.~:@!$&'()*+,;=%/?-]*))? HTTP/1\.1(?=\r\n)"
)
#: How what is a request's own is announced, as nearly everybody writes it.
KEY_LINES: Final = (b"\r\nSec-WebSocket-Key: ", b"\r\nsec-websocket-key: ")
_TOKEN_LINES: Final = (b"\r\nAuthorization: ", b"\r\nauthorization: ")
BEARER: Final = b"Bearer "
_TOKEN_CHARACTERS: Final = string.ascii_letters.encode() + string.digits.encode() + b"-._~+/="
END: Final = b"\r\n\r\n"
KEY_NAME, TOKEN_NAME = b"sec-websocket-key", b"authorization"
_OWN: Final = frozenset({KEY_NAME, TOKEN_NAME})
#: Where else a head may have what isn't to be kept, and is another one's each time.
_SECRET: Final = frozenset({b"cookie", b"proxy-authorization", b"sec-websocket-protocol"})
_MAX_KEPT: Final = 512
_MAX_BYTES: Final = 2048


class Cut(NamedTuple):
    """A head in the parts that it is looked up by.

    Attributes:
        path: The target's path.
        query: The target's query.
        common: Its lines behind the first, in the pieces that what is its own leaves.
        own: The key, and the token if it has one, by their headers' names.
        size: Its bytes.
    """

    path: bytes
    query: bytes
    common: tuple[bytes, ...]
    own: dict[bytes, bytes]
    size: int

    def bearer_in(self, data: bytes) -> slice | None:
        """Return where its token is in the data that it was cut from; None if it has none."""
        bearer = self.own.get(TOKEN_NAME)
        if bearer is None:
            return None
        # The same bytes elsewhere in the head are as good: there is a space in them, so they aren't
        # the key's, which is another one each time.
        at = data.index(bearer)
        return slice(at, at + len(bearer))


def cut(data: bytes) -> Cut | None:
    """Return the parts of the head that the data begins with; None if it may not be looked up."""
    line, end = _REQUEST_LINE.match(data), data.find(END)
    if line is None or end < 0:
        return None
    # With the end of the line before them, and with that of the last.
    lines = data[line.end() : end + 2]
    key, token = _value(lines, KEY_LINES), _value(lines, _TOKEN_LINES)
    if key is None or not KEY.fullmatch(shown := lines[key]):
        return None
    size = end + len(END)
    path, query = line[1], line[2] or b""
    if token is None:
        common: tuple[bytes, ...] = (lines[: key.start], lines[key.stop :])
        return Cut(path, query, common, {KEY_NAME: shown}, size)
    bearer = lines[token]
    sent = bearer.removeprefix(BEARER)
    if sent == bearer or not sent or sent.translate(None, _TOKEN_CHARACTERS):
        return None
    one, other = (key, token) if key.start < token.start else (token, key)
    common = lines[: one.start], lines[one.stop : other.start], lines[other.stop :]
    return Cut(path, query, common, {KEY_NAME: shown, TOKEN_NAME: bearer}, size)


def _value(lines: bytes, names: tuple[bytes, ...]) -> slice | None:
    """Return where the value is of the first line that begins so."""
    for name in names:
        start = lines.find(name)
        if start >= 0:
            start += len(name)
            return slice(start, lines.index(b"\r\n", start))
    return None


class SeenHeads:
    """The header fields of upgrades that were parsed and found to be well formed."""

    def __init__(self) -> None:
        self._kept: dict[tuple[bytes, ...], Fields] = {}

    def find(self, head: Cut) -> UpgradeRequest | None:
        """Return what the head asks for, if one with the same fields was parsed before."""
        fields = self._kept.get(head.common)
        if fields is None:
            return None
        return UpgradeRequest(
            "GET", head.path.decode("ascii"), head.query.decode("ascii"), fields, head.own
        )

    def keep(self, head: Cut, request: UpgradeRequest) -> None:
        """Keep what was found in a head that is well formed."""
        pairs = request.fields.pairs
        own = [pair for pair in pairs if pair[0] in _OWN]
        # One of each, and as the parser sees them: then whoever has others there asks the same.
        if (
            len(own) != len(head.own)
            or dict(own) != head.own
            or sum(map(len, head.common)) > _MAX_BYTES
            or any(name in _SECRET for name, _ in pairs)
        ):
            return
        if len(self._kept) >= _MAX_KEPT:
            # The one that was kept first. What comes often is soon kept again.
            del self._kept[next(iter(self._kept))]
        self._kept[head.common] = Fields(
            [pair for pair in pairs if pair[0] not in _OWN], is_sound=_is_sound(request)
        )

    def __len__(self) -> int:
        return len(self._kept)


def _is_sound(request: UpgradeRequest) -> bool:
    # What a head is looked up by has a GET and a key that is one, as this has.
    try:
        check_handshake(request)
    except TrunklineError:
        return False
    return True
