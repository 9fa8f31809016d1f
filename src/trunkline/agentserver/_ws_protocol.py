"""The application's half of a WebSocket: ASGI, as uvicorn's servers speak it."""

import logging
from collections.abc import Coroutine
from http import HTTPStatus
from typing import Any, Final, NoReturn

from picows import WSMsgType
from uvicorn.config import Config
from uvicorn.protocols.utils import ClientDisconnected, get_local_addr, get_remote_addr
from uvicorn.server import ServerState

from trunkline.agentserver import _ws_handshake as handshake
from trunkline.agentserver._draining import Draining
from trunkline.agentserver._ending import EXTENSION, ClosedBy, is_sendable
from trunkline.agentserver._logging import LOGGER_NAME
from trunkline.agentserver._ws_link import Phase
from trunkline.agentserver._ws_settings import WebSocketSettings
from trunkline.agentserver._ws_wire import WireConnection
from trunkline.protocol.close import CloseCode

logger = logging.getLogger(LOGGER_NAME)

_TEXT: Final = WSMsgType.TEXT
_BINARY: Final = WSMsgType.BINARY
_STOPPING: Final = "the agent is shutting down"
_RECEIVE: Final = "websocket.receive"


class WebSocketConnection(WireConnection):
    """One WebSocket, from its opening handshake to the end of its TCP connection.

    uvicorn creates it, and hands it the head of the upgrade request. The head is kept until
    the application accepts or refuses; until then nothing is read from the network.
    """

    __slots__ = ("_app", "_app_state", "_draining", "_key", "_refusal")

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        *,
        settings: WebSocketSettings,
        draining: Draining,
    ) -> None:
        super().__init__(server_state, settings)
        self._app = config.loaded_app
        self._app_state = app_state
        self._draining = draining
        self._key = b""
        self._refusal: tuple[int, list[tuple[bytes, bytes]], bytearray] | None = None

    def data_received(self, data: bytes) -> None:
        """Take the head, and what comes later while there is no parser."""
        if self._phase is not Phase.HEAD:
            super().data_received(data)
            return
        self._phase = Phase.CONNECTING
        self.transport.pause_reading()
        try:
            request = handshake.UpgradeRequest.parse(data)
        except handshake.BadHandshakeError as error:
            self._refuse(handshake.plain_refusal(error.status, str(error)))
            return
        if self._draining.is_set():
            self._refuse(handshake.plain_refusal(HTTPStatus.SERVICE_UNAVAILABLE, _STOPPING))
            return
        self._key = request.key
        self.inbox.put_event({"type": "websocket.connect"})
        self._spawn(self._run(self._scope(request)))

    def shutdown(self) -> None:
        """Say goodbye, since the server is going away."""
        if self._phase is Phase.OPEN:
            self._close(CloseCode.GOING_AWAY, _STOPPING, ClosedBy.DRAIN)
        elif self._phase is Phase.CONNECTING:
            self._refuse(handshake.plain_refusal(HTTPStatus.SERVICE_UNAVAILABLE, _STOPPING))

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        self._task = self._loop.create_task(work, name="websocket")
        self._server_state.tasks.add(self._task)
        self._task.add_done_callback(self._server_state.tasks.discard)

    async def _run(self, scope: dict[str, Any]) -> None:
        is_failed = True
        find = getattr(self._app, "find_websocket_app", None)
        app = self._app if find is None else find(scope)
        try:
            await app(scope, self.receive, self.send)
            is_failed = False
        except ClientDisconnected:
            is_failed = False
        except Exception:
            logger.exception("the WebSocket application failed")
        finally:
            self.handler_noticed()
            self._conclude(is_failed=is_failed)

    def _conclude(self, *, is_failed: bool) -> None:
        if self._phase is Phase.OPEN:
            if is_failed:
                self._close(CloseCode.INTERNAL_ERROR, "Internal server error", ClosedBy.HANDLER)
            else:
                self._close(CloseCode.NORMAL, "", ClosedBy.HANDLER)
        elif self._phase is Phase.CONNECTING:
            self._refuse(
                handshake.plain_refusal(HTTPStatus.INTERNAL_SERVER_ERROR, "Internal server error")
            )

    def _scope(self, request: handshake.UpgradeRequest) -> dict[str, Any]:
        return {
            "type": "websocket",
            "asgi": {"version": "3.0", "spec_version": "2.4"},
            "http_version": "1.1",
            "scheme": "ws",
            "server": get_local_addr(self.transport),
            "client": get_remote_addr(self.transport),
            "root_path": "",
            "path": request.path,
            "raw_path": request.raw_path,
            "query_string": request.query,
            "headers": request.headers,
            "subprotocols": request.subprotocols,
            "state": self._app_state.copy(),
            "extensions": {"websocket.http.response": {}, EXTENSION: self._ending},
        }

    async def receive(self) -> dict[str, Any]:
        """Return the next ASGI event.

        Several tasks may wait at once; the end is told to each of them. Cancelling is safe.
        """
        while (item := self.inbox.take()) is None:
            await self.inbox.arrival()
        if isinstance(item, str):
            return {"type": _RECEIVE, "text": item}
        if isinstance(item, bytes):
            return {"type": _RECEIVE, "bytes": item}
        if item["type"] == "websocket.disconnect":
            self.handler_noticed()
        return item

    async def send(self, message: dict[str, Any]) -> None:
        """Take an ASGI event; return once the network can take more.

        Raises:
            ClientDisconnected: If the connection has ended.
        """
        if message["type"] != "websocket.send":
            self._control(message)
            return
        text = message.get("text")
        kind, payload = (_BINARY, message["bytes"]) if text is None else (_TEXT, text.encode())
        while not self.send_now(kind, payload):
            if self._phase is not Phase.OPEN:
                self._raise_ended("websocket.send")
            await self.until_sendable()

    def _control(self, message: dict[str, Any]) -> None:
        kind = message["type"]
        if self._phase is Phase.CONNECTING:
            self._answer_upgrade(kind, message)
        elif self._phase is Phase.OPEN and kind == "websocket.close":
            code = message.get("code", CloseCode.NORMAL)
            if not is_sendable(code):
                raise ValueError(f"{code} may not be sent as a close code")
            self._close(code, message.get("reason") or "", ClosedBy.HANDLER)
        else:
            self._raise_ended(kind)

    def _answer_upgrade(self, kind: str, message: dict[str, Any]) -> None:
        if kind == "websocket.accept":
            if self.transport.is_closing():
                raise ClientDisconnected
            self.transport.write(
                handshake.switching_protocols(
                    self._key, message.get("subprotocol"), message.get("headers", ())
                )
            )
            self.open()
        elif kind == "websocket.close":
            self._refuse(handshake.refusal(HTTPStatus.FORBIDDEN, (), b""))
        elif kind == "websocket.http.response.start" and self._refusal is None:
            self._refusal = message["status"], list(message.get("headers", ())), bytearray()
        elif kind == "websocket.http.response.body" and self._refusal is not None:
            status, headers, body = self._refusal
            body += message.get("body", b"")
            if not message.get("more_body", False):
                self._refuse(handshake.refusal(status, headers, bytes(body)))
        else:
            raise RuntimeError(f"{kind!r} came before the WebSocket was accepted or refused")

    def _refuse(self, response: bytes) -> None:
        self.transport.write(response)
        self._end(CloseCode.ABNORMAL, "", ClosedBy.HOST)
        self.transport.close()

    def _raise_ended(self, kind: str) -> NoReturn:
        if self._phase is Phase.CONNECTING:
            raise RuntimeError(f"{kind!r} came before the WebSocket was accepted")
        self.handler_noticed()
        raise ClientDisconnected
