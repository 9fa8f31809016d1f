"""What a test does with a WebSocket: send, receive, close, and look how it ended."""

import json
from collections.abc import AsyncIterator, Callable
from typing import Any, Final

from starlette.datastructures import Headers

from trunkline.agentserver._ending import ClosedBy, is_sendable
from trunkline.protocol.close import MAX_REASON_BYTES, CloseCode
from trunkline.testing._bench import Bench
from trunkline.testing._closed import Closed
from trunkline.testing._errors import (
    NothingCameError,
    RestlessError,
    UnexpectedMessageError,
    UpgradeRefusedError,
    WebSocketClosedError,
)
from trunkline.testing._frames import Opcode
from trunkline.testing._server import Exchange
from trunkline.testing._websocket_wire import WebSocketWire

_SHOWN: Final = 60
#: After these an `async for` just ends.
_GOOD_ENDS: Final = (CloseCode.NORMAL, CloseCode.GOING_AWAY)
#: How long a client that leaves waits for the agent's close frame, in the agent's time.
_LEAVE_WITHIN_S: Final = 10.0


class ClientSocket:
    """A WebSocket to the agent, from the client's side.

    Pings are answered, messages are taken in before they are asked for, and a close frame is
    answered, as any WebSocket client does. Waiting never lasts: ``timeout_s`` is real time,
    ``within_s`` is the agent's time that may pass meanwhile; both default to what
    :func:`running` was given.
    """

    def __init__(self, bench: Bench, wire: WebSocketWire, exchange: Exchange) -> None:
        self._bench = bench
        self._wire = wire
        self._exchange = exchange

    @property
    def headers(self) -> Headers:
        """The headers of the agent's 101."""
        return self._wire.answer.headers

    @property
    def closed(self) -> Closed | None:
        """How the WebSocket ended, or None while it is open."""
        wire, ending = self._wire, self._exchange.ending
        if not wire.has_ended:
            return None
        info = wire.close_info
        if info is None:
            return Closed(CloseCode.ABNORMAL, "", ending.closed_by or ClosedBy.NETWORK)
        by = ending.closed_by or (ClosedBy.CLIENT if wire.is_ours else ClosedBy.HOST)
        return Closed(info.code, info.reason, str(by))

    @property
    def error(self) -> BaseException | None:
        """What the agent's handler raised, if it did."""
        return self._exchange.errors[0] if self._exchange.errors else None

    @property
    def pings(self) -> int:
        """How many pings the agent's keep-alive has sent."""
        return self._wire.pings

    @property
    def answers_pings(self) -> bool:
        """Whether pings are answered. Set it to False for a client that has fallen silent."""
        return self._wire.answers_pings

    @answers_pings.setter
    def answers_pings(self, value: bool) -> None:
        self._wire.answers_pings = value

    # To the agent

    async def send_text(self, text: str) -> None:
        """Send a text message. It is on its way then; the agent may not have taken it yet.

        Raises:
            WebSocketClosedError: If the WebSocket has ended.
            NothingCameError: If the agent takes nothing, and too much waits for it already.
        """
        if not isinstance(text, str):
            raise TypeError(f"send_text takes a str, not {type(text).__name__}")
        await self._send(Opcode.TEXT, text.encode())

    async def send_bytes(self, data: bytes | bytearray | memoryview) -> None:
        """Send a binary message; see :meth:`send_text`."""
        if not isinstance(data, (bytes, bytearray, memoryview)):
            raise TypeError(f"send_bytes takes bytes, not {type(data).__name__}")
        await self._send(Opcode.BINARY, bytes(data))

    async def send_json(self, value: Any) -> None:
        """Send a value as JSON in a text message; see :meth:`send_text`."""
        await self.send_text(json.dumps(value))

    async def ping(self, *, timeout_s: float | None = None, within_s: float | None = None) -> None:
        """Send a ping, and return when the agent's host has answered it.

        Raises:
            WebSocketClosedError: If the WebSocket has ended.
            NothingCameError: If no answer came.
        """
        due = len(self._wire.pongs) + 1
        await self._send(Opcode.PING, b"%d" % due)
        await self._wait(
            lambda: len(self._wire.pongs) >= due or self._wire.has_ended,
            "no pong came",
            timeout_s,
            within_s,
        )
        if len(self._wire.pongs) < due:
            self._raise_ended("no pong came")

    # From the agent

    async def receive(
        self, *, timeout_s: float | None = None, within_s: float | None = None
    ) -> str | bytes:
        """Return the agent's next message.

        Raises:
            WebSocketClosedError: If there is none, and the WebSocket has ended.
            NothingCameError: If none comes; the text says what the agent does instead.
        """
        wire = self._wire
        await self._wait(
            lambda: bool(wire.unread) or wire.has_ended, "no message came", timeout_s, within_s
        )
        if wire.unread:
            return wire.take()
        self._raise_ended("no message came")
        raise AssertionError("unreachable")

    async def receive_text(
        self, *, timeout_s: float | None = None, within_s: float | None = None
    ) -> str:
        """Return the agent's next message, which must be text; see :meth:`receive`.

        Raises:
            UnexpectedMessageError: If it is a binary one.
        """
        message = await self.receive(timeout_s=timeout_s, within_s=within_s)
        if not isinstance(message, str):
            raise UnexpectedMessageError(f"expected a text message, and {_shown(message)} came")
        return message

    async def receive_bytes(
        self, *, timeout_s: float | None = None, within_s: float | None = None
    ) -> bytes:
        """Return the agent's next message, which must be binary; see :meth:`receive`.

        Raises:
            UnexpectedMessageError: If it is text.
        """
        message = await self.receive(timeout_s=timeout_s, within_s=within_s)
        if not isinstance(message, bytes):
            raise UnexpectedMessageError(f"expected a binary message, and {_shown(message)} came")
        return message

    async def receive_json(
        self, *, timeout_s: float | None = None, within_s: float | None = None
    ) -> Any:
        """Return the value in the agent's next message, text or binary; see :meth:`receive`.

        Raises:
            UnexpectedMessageError: If it isn't JSON.
        """
        message = await self.receive(timeout_s=timeout_s, within_s=within_s)
        try:
            return json.loads(message)
        except ValueError as error:
            raise UnexpectedMessageError(
                f"expected JSON, and {_shown(message)} came ({error})"
            ) from None

    async def __aiter__(self) -> AsyncIterator[str | bytes]:
        """Yield the agent's messages until it closes with 1000 or 1001.

        Raises:
            WebSocketClosedError: If it ends in another way.
            NothingCameError: If no further message comes, nor the end.
        """
        while True:
            try:
                message = await self.receive()
            except WebSocketClosedError as error:
                if error.closed.code in _GOOD_ENDS:
                    return
                raise
            yield message

    # The end

    async def wait_closed(
        self, *, timeout_s: float | None = None, within_s: float | None = None
    ) -> Closed:
        """Wait until the WebSocket has ended; return how. Messages that wait stay readable.

        Raises:
            NothingCameError: If it doesn't end.
        """
        await self._wait(
            lambda: self._wire.has_ended, "the agent did not close", timeout_s, within_s
        )
        await self._bench.guest.settle()
        closed = self.closed
        assert closed is not None
        return closed

    async def close(
        self,
        code: int = CloseCode.NORMAL,
        reason: str = "",
        *,
        timeout_s: float | None = None,
        within_s: float | None = None,
    ) -> Closed:
        """Close, unless that has happened; return how the WebSocket ended.

        When this returns the agent knows of it, and its handler has done what it does about it
        without letting time pass.

        Raises:
            ValueError: If a close frame can't say that.
            NothingCameError: If the agent doesn't answer.
        """
        if not is_sendable(code):
            raise ValueError(f"{code} may not be sent as a close code")
        if len(reason.encode()) > MAX_REASON_BYTES:
            raise ValueError(f"a close reason has at most {MAX_REASON_BYTES} bytes")
        self._wire.close(code, reason)
        await self._wait(
            lambda: self._wire.is_over, "the agent did not answer the close", timeout_s, within_s
        )
        return await self.wait_closed()

    async def drop(self) -> None:
        """Lose the connection, as when a network breaks: no close frame is sent."""
        self._wire.transport.abort()
        await self._bench.guest.settle()

    async def leave(self) -> None:
        """Close, and if the agent doesn't answer, leave all the same."""
        wire = self._wire
        if not wire.is_over:
            wire.pause(is_paused=False)
            wire.close(CloseCode.NORMAL, "")
            try:
                await self._wait(lambda: wire.is_over, "", 0.0, _LEAVE_WITHIN_S)
            except (NothingCameError, RestlessError):
                self.abandon()
        self._bench.raise_failure(self._exchange)

    def abandon(self) -> None:
        """End the connection at once: the test has failed."""
        self._wire.transport.abort()

    # A slow client

    def pause_reading(self) -> None:
        """Read nothing more: no messages, no pings, no close frame; the agent has to wait."""
        self._wire.pause(is_paused=True)

    def resume_reading(self) -> None:
        """Read again."""
        self._wire.pause(is_paused=False)

    async def _send(self, opcode: Opcode, payload: bytes) -> None:
        wire = self._wire
        if not wire.is_open:
            self._raise_ended("nothing can be sent any more")
        wire.send(opcode, payload)
        await self._wait(
            lambda: not wire.is_congested or wire.has_ended,
            f"the agent took nothing ({wire.transport.get_write_buffer_size()} bytes wait for it)",
            None,
            None,
        )

    async def _wait(
        self,
        is_there: Callable[[], bool],
        what: str,
        timeout_s: float | None,
        within_s: float | None,
    ) -> None:
        await self._bench.wait(
            is_there,
            timeout_s=timeout_s,
            within_s=within_s,
            tell=lambda: [what, *self._facts()],
            exchange=self._exchange,
        )

    def _facts(self) -> list[str]:
        wire, ending = self._wire, self._exchange.ending
        last = f", the last of them {_shown(wire.last)}" if wire.last is not None else ""
        facts = [
            f"messages to the agent: {ending.received_messages}, from it: {wire.received}{last}"
        ]
        if wire.is_paused:
            facts.append("the test has paused reading")
        return facts

    def _raise_ended(self, what: str) -> None:
        """Raise the agent's own exception if that was the end, else one that tells of the end."""
        self._bench.raise_failure(self._exchange)
        closed = self.closed
        assert closed is not None
        fault = f"; {self._wire.fault}" if self._wire.fault else ""
        raise WebSocketClosedError(
            f"{what}: the WebSocket was closed with {closed}{fault}", closed
        ) from self.error


def check_upgraded(wire: WebSocketWire) -> None:
    """Refuse anything but a 101.

    Raises:
        UpgradeRefusedError: If the agent answered with something else.
    """
    answer = wire.answer
    if not wire.is_open and wire.close_info is None:
        raise UpgradeRefusedError(answer.status_code, dict(answer.headers), b"".join(answer.parts))


def _shown(message: str | bytes) -> str:
    kind = "the text" if isinstance(message, str) else f"{len(message)} bytes:"
    text = repr(message[:_SHOWN]) + ("…" if len(message) > _SHOWN else "")
    return f"{kind} {text}"
