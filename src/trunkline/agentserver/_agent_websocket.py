"""The WebSocket that handlers get from our own server: Starlette's, by a shorter way."""

from collections.abc import AsyncIterator
from typing import Final, NoReturn

from picows import WSMsgType
from starlette.types import Receive, Scope, Send
from starlette.websockets import WebSocket, WebSocketDisconnect, WebSocketState

from trunkline.agentserver._ws_inbox import Inbox, Item
from trunkline.agentserver._ws_protocol import WebSocketConnection

_CONNECTED: Final = WebSocketState.CONNECTED
_TEXT: Final = WSMsgType.TEXT
_BINARY: Final = WSMsgType.BINARY


class AgentWebSocket(WebSocket):
    """Does what Starlette's WebSocket does, without a dictionary and four calls per message.

    Only messages of an open WebSocket take the short way. Everything else, and every
    complaint, is Starlette's.
    """

    def __init__(self, scope: Scope, connection: WebSocketConnection) -> None:
        super().__init__(scope, connection.receive, connection.send)  # type: ignore[arg-type]
        self._send_now = connection.send_now
        self._inbox: Inbox = connection.inbox
        self._noticed = connection.handler_noticed

    async def receive_text(self) -> str:
        """Return the next message; see Starlette's."""
        if self.client_state is not _CONNECTED or self.application_state is not _CONNECTED:
            return await super().receive_text()
        inbox = self._inbox
        while (item := inbox.take()) is None:
            await inbox.arrival()
        if isinstance(item, str):
            return item
        return self._not_a_message("text", item)

    async def receive_bytes(self) -> bytes:
        """Return the next message; see Starlette's."""
        if self.client_state is not _CONNECTED or self.application_state is not _CONNECTED:
            return await super().receive_bytes()
        inbox = self._inbox
        while (item := inbox.take()) is None:
            await inbox.arrival()
        if isinstance(item, bytes):
            return item
        return self._not_a_message("bytes", item)

    async def iter_text(self) -> AsyncIterator[str]:
        """Yield messages until the client leaves; see Starlette's."""
        inbox = self._inbox
        try:
            while True:
                if self.client_state is not _CONNECTED or self.application_state is not _CONNECTED:
                    item: Item | None = await super().receive_text()
                else:
                    while (item := inbox.take()) is None:
                        await inbox.arrival()
                yield item if isinstance(item, str) else self._not_a_message("text", item)
        except WebSocketDisconnect:
            pass

    async def iter_bytes(self) -> AsyncIterator[bytes]:
        """Yield messages until the client leaves; see Starlette's."""
        inbox = self._inbox
        try:
            while True:
                if self.client_state is not _CONNECTED or self.application_state is not _CONNECTED:
                    item: Item | None = await super().receive_bytes()
                else:
                    while (item := inbox.take()) is None:
                        await inbox.arrival()
                yield item if isinstance(item, bytes) else self._not_a_message("bytes", item)
        except WebSocketDisconnect:
            pass

    async def send_text(self, data: str) -> None:
        """Send a message, and wait if the client is slow."""
        if self.application_state is _CONNECTED and self._send_now(_TEXT, data.encode()):
            return
        await super().send_text(data)

    async def send_bytes(self, data: bytes) -> None:
        """Send a message, and wait if the client is slow."""
        if self.application_state is _CONNECTED and self._send_now(_BINARY, data):
            return
        await super().send_bytes(data)

    def _not_a_message(self, wanted: str, item: Item | None) -> NoReturn:
        if not isinstance(item, dict):
            # What Starlette does with a message of the other kind.
            raise KeyError(wanted)
        self._noticed()
        self.client_state = WebSocketState.DISCONNECTED
        raise WebSocketDisconnect(item["code"], item.get("reason"))


def websocket_for(scope: Scope, receive: Receive, send: Send) -> WebSocket:
    """Return the short way where nothing lies between the handler and our server."""
    connection: object = getattr(receive, "__self__", None)
    is_direct = getattr(send, "__self__", None) is connection
    if is_direct and isinstance(connection, WebSocketConnection):
        return AgentWebSocket(scope, connection)
    return WebSocket(scope, receive, send)
