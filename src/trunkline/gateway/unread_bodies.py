"""Bodies that the parser doesn't read: of requests that ask for a protocol nobody here speaks.

The parser (httptools) takes what follows a head with ``Upgrade`` for the other protocol's, also if
the head announces a body. Where nothing is changed to, that is the body still (RFC 9110 section
7.8), as Java's HTTP client sends it with each POST; taken for a request of its own it would be
whatever its sender likes (request smuggling).
"""

from typing import Any, Final

import httptools

_FRAMING: Final = (b"content-length", b"transfer-encoding")


def framing_of(given: list[tuple[bytes, bytes]]) -> bytes | None:
    """Return the line of a head that says where its body ends; None if it has no body.

    Args:
        given: Its headers, which `heads.check_head` lets pass: names in lower case, and values.
    """
    for name, value in given:
        if name in _FRAMING and value.strip(b" \t0"):
            return name + b": " + value
    return None


class _BehindHead:
    """Tells a protocol what a parser finds, once the head is over that the parser begins with."""

    def __init__(self, protocol: Any) -> None:
        self.on_body = protocol.on_body
        self.on_message_complete = protocol.on_message_complete
        self._protocol = protocol
        self.is_in_head = True

    def on_message_begin(self) -> None:
        if not self.is_in_head:
            self._protocol.on_message_begin()

    def on_url(self, url: bytes) -> None:
        if not self.is_in_head:
            self._protocol.on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        if not self.is_in_head:
            self._protocol.on_header(name, value)

    def on_headers_complete(self) -> None:
        if not self.is_in_head:
            self._protocol.on_headers_complete()


def parser_of_body(protocol: Any, framing: bytes) -> httptools.HttpRequestParser:
    """Return a parser for what follows a head: its body, and the requests behind that.

    Args:
        protocol: Is told what the parser finds.
        framing: What `framing_of` returned of the head.
    """
    behind = _BehindHead(protocol)
    parser = httptools.HttpRequestParser(behind)
    parser.feed_data(b"POST / HTTP/1.1\r\n%b\r\n\r\n" % framing)
    behind.is_in_head = False
    return parser
