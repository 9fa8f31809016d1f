"""Bounds a request's body as it is read."""

from starlette.requests import Request
from starlette.types import Message

from trunkline.protocol.errors import TooLargeError


def limited(request: Request, max_bytes: int) -> Request:
    """Return the request with a body that can't be read past ``max_bytes``.

    Raises:
        TooLargeError: At once if its length is announced, else while it is read.
    """
    error = TooLargeError(f"the request's body is over {max_bytes} bytes")
    announced = request.headers.get("content-length", "")
    if announced.isdigit() and int(announced) > max_bytes:
        raise error
    seen = 0

    async def receive() -> Message:
        nonlocal seen
        message = await request.receive()
        seen += len(message.get("body", b""))
        if seen > max_bytes:
            raise error
        return message

    return Request(request.scope, receive)
