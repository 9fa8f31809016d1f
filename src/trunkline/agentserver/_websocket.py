"""The WebSocket route: accepts, runs the agent's handler, closes, and records how it ended."""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from typing import Any, Final

from starlette.requests import HTTPConnection
from starlette.types import Message, Receive, Scope, Send
from starlette.websockets import WebSocket, WebSocketDisconnect, WebSocketState

from trunkline.agentserver._agent_websocket import websocket_for
from trunkline.agentserver._context import (
    identify_websocket,
    reset_request_context,
    set_request_context,
)
from trunkline.agentserver._draining import Draining
from trunkline.agentserver._ending import EXTENSION, ClosedBy, Ending, is_sendable
from trunkline.agentserver._failures import tell
from trunkline.agentserver._invocations import upgrade_headers
from trunkline.agentserver._logging import LOGGER_NAME, close_event
from trunkline.agentserver._middleware import ServerVersion
from trunkline.agentserver._telemetry import Telemetry
from trunkline.agentserver._tracing import Tracing
from trunkline.protocol.close import CloseCode

logger = logging.getLogger(LOGGER_NAME)

PATH: Final = "/invocations_ws"
WebSocketHandler = Callable[[WebSocket], Awaitable[None]]

_FAILED_REASON: Final = "Internal server error"
#: How Starlette's complaints about a socket that has ended begin.
_ENDED_COMPLAINTS: Final = ('Cannot call "', "WebSocket is not connected")


class WebSocketRouteApp:
    """The ASGI application behind ``/invocations_ws``."""

    def __init__(
        self,
        find_handler: Callable[[], WebSocketHandler],
        session_id: str,
        version: ServerVersion,
        tracing: Tracing,
        telemetry: Telemetry,
        draining: Draining,
    ) -> None:
        self._find_handler = find_handler
        self._session_id = session_id
        self._version = version
        self._tracing = tracing
        self._telemetry = telemetry
        self._draining = draining

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one WebSocket."""
        started = time.monotonic()
        ending = scope.get("extensions", {}).get(EXTENSION)
        if ending is None:
            # A server other than ours, a test client's for one: we see the end pass by.
            ending = Ending()
            receive, send = _observed(receive, send, ending)
        websocket = websocket_for(scope, receive, send)
        # Not the handler's object: what is looked up in it stays as long as it does.
        request = HTTPConnection(scope)
        identity, event_session, requested = identify_websocket(request, self._session_id)
        for name, value in identity.as_state().items():
            setattr(websocket.state, name, value)
        websocket.state.draining = self._draining
        token = set_request_context(identity.as_context())
        error_code: str | None = "cancelled"
        try:
            with (
                self._tracing.continued(request.headers, session_id=identity.session_id),
                self._telemetry.connection(scope, identity, ending) as observed,
            ):
                error_code = "accept_failed"
                if await self._accept(websocket, ending, event_session):
                    error_code = "cancelled"
                    try:
                        # Nothing else lies between the task and the handler: each call there
                        # costs something whenever the handler waits.
                        await self._find_handler()(websocket)
                    except BaseException as error:
                        error_code = await _failed(websocket, ending, event_session, error)
                        if error_code is not None:
                            observed.failed(error)
                        if error_code == "cancelled":
                            raise
                    else:
                        await _close(websocket, ending, CloseCode.NORMAL)
                        error_code = None
                else:
                    observed.failed(error_code)
        finally:
            if error_code is not None:
                ending.settle(CloseCode.INTERNAL_ERROR, ClosedBy.HOST)
            reset_request_context(token)
            close_event(
                session_id=event_session,
                requested_session_id=requested,
                ending=ending,
                duration_ms=int((time.monotonic() - started) * 1000),
                error_code=error_code,
            )

    async def _accept(self, websocket: WebSocket, ending: Ending, session_id: str) -> bool:
        try:
            await websocket.accept(headers=upgrade_headers(websocket.scope, self._version))
        except Exception as error:
            if _is_about_the_end(error):
                logger.info("session %s: the client left before it was accepted", session_id)
            else:
                logger.exception("accepting the WebSocket of session %s failed", session_id)
            ending.settle(CloseCode.INTERNAL_ERROR, ClosedBy.HOST)
            return False
        return True


async def _failed(
    websocket: WebSocket, ending: Ending, session_id: str, error: BaseException
) -> str | None:
    """Close after a handler that raised. Return what went wrong, in a word, or None."""
    if not isinstance(error, Exception):
        if ending.is_abandoned:
            logger.debug("session %s: the handler was cancelled, its client had left", session_id)
            _forget_cancellation()
            return None
        await _close(websocket, ending, CloseCode.INTERNAL_ERROR, _FAILED_REASON)
        return "cancelled"
    if ending.is_settled and _is_about_the_end(error):
        return None
    if isinstance(error, WebSocketDisconnect):
        await _close(websocket, ending, _normal_if_unsendable(error.code))
        return None
    tell(error)
    logger.error("the WebSocket handler of session %s failed", session_id, exc_info=error)
    await _close(websocket, ending, CloseCode.INTERNAL_ERROR, _FAILED_REASON)
    return "internal_error"


async def _close(websocket: WebSocket, ending: Ending, code: int, reason: str = "") -> None:
    """Close, unless somebody has; never fails."""
    if not ending.is_settled and websocket.application_state is WebSocketState.CONNECTED:
        try:
            await websocket.close(code, reason)
        except (OSError, RuntimeError, WebSocketDisconnect):
            logger.debug("the WebSocket was gone before it could be closed")
    ending.settle(code, ClosedBy.HANDLER)


def _is_about_the_end(error: BaseException) -> bool:
    """Tell whether an exception only says that the WebSocket has ended."""
    if isinstance(error, BaseExceptionGroup):
        return all(_is_about_the_end(inner) for inner in error.exceptions)
    if isinstance(error, RuntimeError):
        return str(error).startswith(_ENDED_COMPLAINTS)
    return isinstance(error, (WebSocketDisconnect, ConnectionError, asyncio.CancelledError)) or (
        type(error).__name__ == "ClientDisconnected"
    )


def _normal_if_unsendable(code: int | None) -> int:
    return code if code and is_sendable(code) else CloseCode.NORMAL


def _forget_cancellation() -> None:
    task = asyncio.current_task()
    if task is not None:
        task.uncancel()


def _observed(receive: Receive, send: Send, ending: Ending) -> tuple[Receive, Send]:
    async def observed_receive() -> Message:
        message = await receive()
        if message["type"] == "websocket.receive":
            ending.received_messages += 1
            ending.received_bytes += _size(message)
        elif message["type"] == "websocket.disconnect":
            ending.settle(message.get("code") or CloseCode.NORMAL, ClosedBy.CLIENT)
        return message

    async def observed_send(message: Message) -> None:
        await send(message)
        if message["type"] == "websocket.send":
            ending.sent_messages += 1
            ending.sent_bytes += _size(message)
        elif message["type"] == "websocket.close":
            code: Any = message.get("code") or CloseCode.NORMAL
            ending.settle(code, ClosedBy.HANDLER)

    return observed_receive, observed_send


def _size(message: Message) -> int:
    text = message.get("text")
    return len(message.get("bytes") or b"") if text is None else len(text.encode())
