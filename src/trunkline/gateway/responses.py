"""Answers written straight to a connection, before there is a request for uvicorn to answer."""

import http
import json
from collections.abc import Mapping

from trunkline.protocol import headers
from trunkline.protocol.errors import (
    MethodNotAllowedError,
    RateLimitedError,
    SessionFailingError,
    TrunklineError,
    envelope,
)

#: What nginx logs for a client that left; nobody is there to get it.
CLIENT_CLOSED_REQUEST = 499

_BY_STATUS: Mapping[int, tuple[tuple[str, str], ...]] = {
    http.HTTPStatus.UNAUTHORIZED: (("www-authenticate", 'Bearer realm="trunkline"'),),
    http.HTTPStatus.UPGRADE_REQUIRED: (("upgrade", "websocket"), ("sec-websocket-version", "13")),
    http.HTTPStatus.SERVICE_UNAVAILABLE: (("retry-after", "1"),),
}


def refusal(error: TrunklineError, *extra: tuple[str, str]) -> bytes:
    """Return a whole HTTP response with the error envelope; the connection is to be closed.

    Args:
        error: What to say.
        extra: Further headers. They must not come from the peer unchecked.
    """
    body = json.dumps(envelope(error)).encode()
    try:
        phrase = http.HTTPStatus(error.status).phrase
    except ValueError:
        phrase = ""
    lines = [
        f"HTTP/1.1 {error.status} {phrase}",
        "content-type: application/json",
        f"content-length: {len(body)}",
        "connection: close",
        *(f"{name}: {value}" for name, value in headers_for(error)),
        *(f"{name}: {value}" for name, value in extra),
    ]
    return "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + body


def headers_for(error: TrunklineError) -> list[tuple[str, str]]:
    """Return the headers an error is told with, besides its body.

    They are those its status asks for (RFC 9110 sections 10.2.1, 11.6.1 and 15.5.22), and the
    one in which clients look for what became of a session.
    """
    if error.session_code:
        return [(headers.SESSION_ERROR, error.session_code)]
    if isinstance(error, RateLimitedError | SessionFailingError):
        return [("retry-after", str(error.retry_after_s))]
    if isinstance(error, MethodNotAllowedError):
        return [("allow", ", ".join(error.allowed))]
    return list(_BY_STATUS.get(error.status, ()))
