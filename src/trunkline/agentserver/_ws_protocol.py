"""The application's half of a WebSocket: ASGI, as uvicorn's servers speak it."""

import asyncio
import logging
from collections.abc import Coroutine
from http import HTTPStatus
from typing import Any, Final

from picows import WSMsgType
from uvicorn.config import Config
from uvicorn.protocols.utils import ClientDisconnected, get_local_addr, get_remote_addr
from uvicorn.server import ServerState

from trunkline.agentserver import _ws_handshake as handshake
from trunkline.agentserver._ending import EXTENSION, ClosedBy, is_sendable
from trunkline.agentserver._logging import LOGGER_NAME
from trunkline.agentserver._ws_settings import WebSocketSettings
from trunkline.agentserver._ws_wire import MESSAGE_OVERHEAD_BYTES, Phase, WireConnection
from trunkline.protocol.close import CloseCode

logger = logging.getLogger(LOGGER_NAME)

_TEXT: Final = WSMsgType.TEXT
_BINARY: Final = WSMsgType.BINARY
#: After so many messages sent in a row the others on the event loop get their turn.
_SENDS_PER_TURN: Final = 64


class WebSocketConnection(WireConnection):
    """One WebSocket, from its opening handshake to the end of its TCP connection.

    uvicorn creates it, and hands it the head of the upgrade request. The head is kept until
    the application accepts or refuses; until then nothing is read from the network.
    """

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        *,
        settings: WebSocketSettings,
    ) -> None:
        super().__init__(server_state, settings)
        self._app = config.loaded_app
        self._app_state = app_state
        self._request: handshake.UpgradeRequest = None  # type: ignore[assignment]
        self._refusal: tuple[int, list[tuple[bytes, bytes]], bytearray] | None = None
        self._sends = 0

    def data_received(self, data: bytes) -> None:
        """Take the head; whatever a peer sends after the end is dropped."""
        if self._phase is not Phase.HEAD:
            return
        self._phase = Phase.CONNECTING
        self.transport.pause_reading()
        try:
            self._request = handshake.UpgradeRequest.parse(data)
        except handshake.BadHandshakeError as error:
            self._refuse(handshake.plain_refusal(error.status, str(error)))
            return
        self._inbox.put_nowait({"type": "websocket.connect"})
        self._spawn(self._run())

    def shutdown(self) -> None:
        """Say goodbye, since the server is going away."""
        reason = "the agent is shutting down"
        if self._phase is Phase.OPEN:
            self._close(CloseCode.GOING_AWAY, reason, ClosedBy.DRAIN)
        elif self._phase is Phase.CONNECTING:
            self._refuse(handshake.plain_refusal(HTTPStatus.SERVICE_UNAVAILABLE, reason))

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        self._task = self._loop.create_task(work, name="websocket")
        self._server_state.tasks.add(self._task)
        self._task.add_done_callback(self._server_state.tasks.discard)

    async def _run(self) -> None:
        is_failed = True
        try:
            await self._app(self._scope(), self.receive, self.send)
            is_failed = False
        except ClientDisconnected:
            is_failed = False
        except Exception:
            logger.exception("the WebSocket application failed")
        finally:
            self._handler_noticed()
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

    def _scope(self) -> dict[str, Any]:
        request = self._request
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
        message = await self._inbox.get()
        if message["type"] == "websocket.receive":
            payload = message.get("text")
            size = len(message["bytes"] if payload is None else payload)
            self._queued_bytes -= size + MESSAGE_OVERHEAD_BYTES
            if self._is_read_paused and self._queued_bytes * 2 < self._settings.max_queued_bytes:
                self._is_read_paused = False
                self.transport.resume_reading()
        elif message["type"] == "websocket.disconnect":
            self._handler_noticed()
            self._inbox.put_nowait(message)
        return message

    async def send(self, message: dict[str, Any]) -> None:
        """Take an ASGI event; return once the network can take more.

        Raises:
            ClientDisconnected: If the connection has ended.
        """
        if message["type"] != "websocket.send":
            self._control(message)
            return
        if not self._is_writable.is_set():
            await self._is_writable.wait()
        if self._phase is not Phase.OPEN or self._ws is None:
            self._raise_ended("websocket.send")
            return
        text = message.get("text")
        if text is not None:
            self._ws.send(_TEXT, text)
        else:
            self._ws.send(_BINARY, message["bytes"])
        # While the peer reads as fast as we write nothing here ever waits, and a loop of sends
        # would keep everybody else from running.
        self._sends += 1
        if self._sends >= _SENDS_PER_TURN:
            self._sends = 0
            await asyncio.sleep(0)

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
                    self._request.key, message.get("subprotocol"), message.get("headers", ())
                )
            )
            self.open(self._request.key)
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

    def _raise_ended(self, kind: str) -> None:
        if self._phase is Phase.CONNECTING:
            raise RuntimeError(f"{kind!r} came before the WebSocket was accepted")
        raise ClientDisconnected
