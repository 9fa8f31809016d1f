"""Whether an upgrade is a WebSocket's opening handshake (RFC 6455 section 4.2.1). Pure."""

import re
from typing import Final

from trunkline.gateway.requests import UpgradeRequest
from trunkline.protocol.errors import InvalidRequestError, UpgradeRequiredError

#: Sixteen bytes in base64.
KEY: Final = re.compile(rb"[A-Za-z0-9+/]{22}==")


def check_handshake(request: UpgradeRequest) -> None:
    """Refuse an upgrade that isn't one to a WebSocket.

    Raises:
        InvalidRequestError: If it isn't a handshake.
        UpgradeRequiredError: If it is one of another version.
    """
    if request.fields.is_sound:
        return
    if request.method != "GET":
        raise InvalidRequestError("a WebSocket upgrade is a GET request")
    if request.header(b"transfer-encoding") or request.header(b"content-length") not in (None, "0"):
        # Its bytes would be read as frames.
        raise InvalidRequestError("a WebSocket upgrade has no body")
    if request.header(b"sec-websocket-version") != "13":
        raise UpgradeRequiredError("the WebSocket version must be 13")
    key = request.header(b"sec-websocket-key")
    if key is None or not KEY.fullmatch(key.encode("latin-1")):
        raise InvalidRequestError("Sec-WebSocket-Key must be 16 bytes in base64")
