"""Gives every answer a request id, so that a person and the log can speak of the same one."""

import asyncio
import logging

from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from trunkline.gateway.requests import marks_in
from trunkline.protocol import headers

_log = logging.getLogger("trunkline.http")


class RequestIds:
    """ASGI middleware that sets ``x-request-id`` where the application hasn't."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request_id = marks_in(scope).request_id

        async def send_with_id(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).setdefault(headers.REQUEST_ID, request_id)
            await send(message)

        try:
            await self._app(scope, receive, send_with_id)
        except asyncio.CancelledError:
            # The platform is stopping and this took too long. uvicorn closes the connection.
            _log.warning("cut at the end: %s %s", scope["method"], scope["path"])
