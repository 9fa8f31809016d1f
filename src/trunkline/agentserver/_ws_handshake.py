"""The opening handshake in bytes (RFC 6455 section 4.2), with no I/O."""

import base64
import binascii
import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from http import HTTPStatus
from typing import Final
from urllib.parse import unquote

import httptools

_GUID: Final = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
_KEY_BYTES: Final = 16
_END: Final = b"\r\n\r\n"
#: Kept as long as their connections: one copy for all.
_KNOWN_NAMES: Final = {
    name: name
    for name in (
        b"accept", b"accept-encoding", b"accept-language", b"authorization", b"cache-control",
        b"connection", b"cookie", b"host", b"origin", b"pragma", b"sec-websocket-extensions",
        b"sec-websocket-key", b"sec-websocket-protocol", b"sec-websocket-version",
        b"traceparent", b"upgrade", b"user-agent", b"x-agent-foundry-call-id",
        b"x-agent-session-id", b"x-agent-user-id", b"x-forwarded-for", b"x-forwarded-proto",
        b"x-request-id",
    )
}  # fmt: skip
_FORBIDDEN_IN_HEADER: Final = (b"\r", b"\n", b"\0")


class BadHandshakeError(Exception):
    """The request is no WebSocket handshake we can answer with 101."""

    def __init__(self, status: HTTPStatus, message: str) -> None:
        super().__init__(message)
        self.status = status


@dataclass(frozen=True, slots=True, kw_only=True)
class UpgradeRequest:
    """A client's opening handshake."""

    path: str
    raw_path: bytes
    query: bytes
    headers: list[tuple[bytes, bytes]]
    key: bytes
    subprotocols: list[str]

    @classmethod
    def parse(cls, head: bytes) -> "UpgradeRequest":
        """Read a whole request head, which an HTTP parser has found well-formed.

        Raises:
            BadHandshakeError: If it doesn't ask for a WebSocket as RFC 6455 section 4.2.1 wants.
        """
        first, *lines = head.removesuffix(_END).split(b"\r\n")
        method, _, rest = first.partition(b" ")
        target = rest.rpartition(b" ")[0]
        headers = []
        for line in lines:
            name, _, value = line.partition(b":")
            name = name.lower()
            headers.append((_KNOWN_NAMES.get(name, name), value.strip(b" \t")))
        if method != b"GET":
            raise BadHandshakeError(HTTPStatus.METHOD_NOT_ALLOWED, "a WebSocket starts with GET")
        try:
            url = httptools.parse_url(target)
        except httptools.HttpParserInvalidURLError:
            raise BadHandshakeError(HTTPStatus.BAD_REQUEST, "the target is no URL") from None
        raw_path: bytes = url.path or b"/"
        return cls(
            path=unquote(raw_path.decode("latin-1")),
            raw_path=raw_path,
            query=url.query or b"",
            headers=headers,
            key=_checked_key(headers),
            subprotocols=[
                token.strip().decode("latin-1")
                for value in _values(headers, b"sec-websocket-protocol")
                for token in value.split(b",")
                if token.strip()
            ],
        )


def switching_protocols(
    key: bytes, subprotocol: str | None, headers: Iterable[tuple[bytes, bytes]]
) -> bytes:
    """Return the 101 response that accepts a client's key."""
    # SHA-1 is what RFC 6455 section 4.2.2 asks for; nothing secret depends on it.
    digest = hashlib.sha1(key + _GUID, usedforsecurity=False).digest()
    fields = [
        (b"upgrade", b"websocket"),
        (b"connection", b"Upgrade"),
        (b"sec-websocket-accept", base64.b64encode(digest)),
    ]
    if subprotocol:
        fields.append((b"sec-websocket-protocol", subprotocol.encode("latin-1")))
    fields.extend(headers)
    return _head(HTTPStatus.SWITCHING_PROTOCOLS, fields)


def refusal(status: int, headers: Iterable[tuple[bytes, bytes]], body: bytes) -> bytes:
    """Return the response that refuses an upgrade; the connection ends after it."""
    fields = [
        (name, value)
        for name, value in headers
        if name.lower() not in (b"connection", b"content-length", b"transfer-encoding")
    ]
    fields.append((b"content-length", str(len(body)).encode()))
    fields.append((b"connection", b"close"))
    return _head(status, fields) + body


def plain_refusal(status: HTTPStatus, message: str) -> bytes:
    """Return a refusal with a line of text in it."""
    fields = [(b"content-type", b"text/plain; charset=utf-8")]
    if status == HTTPStatus.UPGRADE_REQUIRED:
        # RFC 6455 section 4.4: say which version would be understood.
        fields.append((b"sec-websocket-version", b"13"))
    return refusal(status, fields, message.encode() + b"\n")


def _head(status: int, fields: Iterable[tuple[bytes, bytes]]) -> bytes:
    try:
        phrase = HTTPStatus(status).phrase
    except ValueError:
        phrase = ""
    lines = [b"HTTP/1.1 %d %b" % (status, phrase.encode())]
    for name, value in fields:
        if any(char in name + value for char in _FORBIDDEN_IN_HEADER):
            raise ValueError(f"header {name!r} may not hold a line break")
        lines.append(name + b": " + value)
    return b"\r\n".join(lines) + _END


def _values(headers: list[tuple[bytes, bytes]], wanted: bytes) -> list[bytes]:
    return [value for name, value in headers if name == wanted]


def _checked_key(headers: list[tuple[bytes, bytes]]) -> bytes:
    if _values(headers, b"sec-websocket-version") != [b"13"]:
        raise BadHandshakeError(
            HTTPStatus.UPGRADE_REQUIRED, "sec-websocket-version must be 13, given once"
        )
    keys = _values(headers, b"sec-websocket-key")
    if len(keys) == 1:
        try:
            if len(base64.b64decode(keys[0], validate=True)) == _KEY_BYTES:
                return keys[0]
        except binascii.Error:
            pass
    raise BadHandshakeError(
        HTTPStatus.BAD_REQUEST, "sec-websocket-key must be 16 bytes in base64, given once"
    )
