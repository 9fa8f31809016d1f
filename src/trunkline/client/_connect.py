"""The WebSocket to one session of an agent."""

import functools
from collections.abc import AsyncIterator, Awaitable, Callable, Generator
from types import TracebackType
from typing import Any, Generic, Protocol, Self, TypeVar

import websockets
from websockets.asyncio.client import ClientConnection, connect
from websockets.frames import Frame, Opcode
from websockets.http11 import Response
from websockets.protocol import State

from trunkline.client._endpoint import Endpoint
from trunkline.client._errors import BadAnswerError, RefusedError, UnreachableError
from trunkline.client._frames import FrameTap
from trunkline.client._http import USER_AGENT
from trunkline.protocol import headers
from trunkline.protocol.close import CloseCode, explain
from trunkline.protocol.errors import InvalidRequestError, TrunklineError
from trunkline.protocol.ids import SESSION_ID_RULE, is_session_id

Message = str | bytes

#: A session may have to be started, its environment unpacked first.
CONNECT_TIMEOUT_S = 120.0
#: The contract's frame limit is 1 MiB; a message may be made of several frames.
MAX_MESSAGE_BYTES = 16 * 1024 * 1024
CLOSE_TIMEOUT_S = 5.0
PING_INTERVAL_S = 30.0
#: An agent that computes for long between two awaits answers no ping meanwhile.
PING_TIMEOUT_S = 60.0

#: A look into an enumeration costs more than all else that is done for a frame.
_TEXT, _BINARY, _OPEN = Opcode.TEXT, Opcode.BINARY, State.OPEN
ENDED_WELL = frozenset({CloseCode.NORMAL, CloseCode.NO_STATUS})


class ClosedError(TrunklineError):
    """The connection is closed.

    Attributes:
        close_code: The code it was closed with; 1006 if the TCP connection just ended.
        reason: The text that came with the code.
    """

    code = "connection_closed"

    def __init__(self, close_code: int, reason: str) -> None:
        said = f" ({reason})" if reason else ""
        super().__init__(f"closed with {close_code}: {explain(close_code)}{said}")
        self.close_code = close_code
        self.reason = reason


class _Socket(ClientConnection):
    """A connection that tells of its frames."""

    def __init__(self, *positional: Any, tap: FrameTap, **named: Any) -> None:
        super().__init__(*positional, **named)
        self._tap = tap

    def process_event(self, event: Any) -> None:
        # Called for every frame; the call's own work must not wait for the tap's.
        if type(event) is Frame:
            data = event.data
            if type(data) is not bytes:
                data = bytes(data)
            self._tap.received(event.opcode, data, is_final=event.fin)
        elif isinstance(event, Response) and event.status_code == 101:
            self._tap.opened(event.headers.get(headers.SESSION_ID, ""))
        ClientConnection.process_event(self, event)

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        if self.close_code is not None and self.response is not None:
            self._tap.lost(self.close_code, self.close_reason or "")

    def will_send(self, message: Message) -> None:
        if self.protocol.state is _OPEN:
            if isinstance(message, str):
                self._tap.sent(_TEXT, message.encode(), is_final=True)
            else:
                self._tap.sent(_BINARY, message, is_final=True)

    def will_close(self, code: int, reason: str) -> None:
        if self.state is State.OPEN:
            self._tap.sent(Opcode.CLOSE, code.to_bytes(2) + reason.encode(), is_final=True)


class Connection:
    """One WebSocket connection to one session.

    One task may send and another receive at the same time; each side takes one at a time.
    Received messages wait in a short queue, and when it is full the agent has to wait.
    """

    def __init__(self, socket: ClientConnection, session_id: str) -> None:
        self._socket = socket
        #: Give it to ``connect()`` to come back to this session.
        self.session_id = session_id

    @property
    def close_code(self) -> int | None:
        """The code the connection was closed with; None while it is open."""
        return self._socket.close_code

    @property
    def close_reason(self) -> str:
        """The text that came with the close code."""
        return self._socket.close_reason or ""

    async def send(self, message: Message) -> None:
        """Send one message as one frame: text if it is ``str``, else binary.

        Waits while the agent takes nothing more. Cancelling may close the connection, as
        a frame can't be sent by half.

        Raises:
            ClosedError: If the connection is closed.
        """
        if isinstance(self._socket, _Socket):
            self._socket.will_send(message)
        try:
            await self._socket.send(message)
        except websockets.ConnectionClosed:
            raise self._closed() from None

    async def receive(self) -> Message:
        """Return the next message. Cancelling is safe: no message is lost.

        Raises:
            ClosedError: If the connection is closed and everything received was returned.
        """
        try:
            return await self._socket.recv()
        except websockets.ConnectionClosed:
            raise self._closed() from None

    async def __aiter__(self) -> AsyncIterator[Message]:
        """Yield messages until the conversation ends.

        Raises:
            ClosedError: If it ended otherwise than by 1000, or by a close without a code.
        """
        while True:
            try:
                message = await self.receive()
            except ClosedError as exc:
                if exc.close_code in ENDED_WELL:
                    return
                raise
            yield message

    async def aclose(self, code: int = CloseCode.NORMAL, reason: str = "") -> None:
        """Close, waiting a few seconds for the other side to agree. Twice is fine."""
        if isinstance(self._socket, _Socket):
            self._socket.will_close(code, reason)
        await self._socket.close(code, reason)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.aclose()

    def _closed(self) -> ClosedError:
        return ClosedError(self.close_code or CloseCode.ABNORMAL, self.close_reason)


class _Closable(Protocol):
    async def aclose(self) -> None: ...


C = TypeVar("C", bound=_Closable)


class Connecting(Generic[C]):
    """A connection to be: await it, or enter it with ``async with``."""

    def __init__(self, dial: Callable[[], Awaitable[C]]) -> None:
        self._dial = dial
        self._connection: C | None = None

    def __await__(self) -> Generator[None, None, C]:
        return self._dial().__await__()

    async def __aenter__(self) -> C:
        self._connection = await self._dial()
        return self._connection

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        assert self._connection is not None
        await self._connection.aclose()


class _Dial(connect):
    # A redirect would take the token to wherever it points.
    def process_redirect(self, exc: Exception) -> Exception | str:
        return exc


async def dial(
    endpoint: Endpoint,
    agent: str,
    session_id: str | None,
    authorization: dict[str, str],
    tap: FrameTap | None = None,
) -> Connection:
    """Open a connection; see :meth:`trunkline.client.Project.connect`."""
    query = {}
    if session_id is not None:
        if not is_session_id(session_id):
            raise InvalidRequestError(
                f"{session_id!r} can't be a session's id: it takes {SESSION_ID_RULE}"
            )
        query[headers.QUERY_SESSION_ID] = session_id
    factory: Any = functools.partial(_Socket, tap=tap) if tap is not None else None
    opening = _Dial(
        endpoint.websocket_url(agent, query),
        additional_headers=authorization,
        user_agent_header=USER_AGENT,
        # Frames are relayed as they are, and audio doesn't get smaller.
        compression=None,
        proxy=None if endpoint.is_loopback else True,
        # Both bounds are on the whole handshake, of which a cold session's start is a part.
        open_timeout=CONNECT_TIMEOUT_S,
        close_timeout=CLOSE_TIMEOUT_S,
        ping_interval=PING_INTERVAL_S,
        ping_timeout=PING_TIMEOUT_S,
        max_size=MAX_MESSAGE_BYTES,
        create_connection=factory,
    )
    try:
        socket = await opening
    except websockets.InvalidStatus as exc:
        answer = exc.response
        header = {name.lower(): value for name, value in answer.headers.raw_items()}
        refused = RefusedError.from_answer(answer.status_code, header, bytes(answer.body or b""))
        refused.agent = agent
        raise refused from exc
    except (websockets.InvalidHandshake, EOFError) as exc:
        raise BadAnswerError(f"{endpoint.base} doesn't answer like a platform: {exc}") from exc
    except TimeoutError as exc:
        reason = f"no answer to the upgrade in {CONNECT_TIMEOUT_S:.0f} s"
        raise UnreachableError(endpoint.base, reason, is_connected=True) from exc
    except ConnectionResetError as exc:
        raise UnreachableError(endpoint.base, str(exc), is_connected=True) from exc
    except OSError as exc:
        reason = "" if isinstance(exc, ConnectionRefusedError) else (exc.strerror or str(exc))
        raise UnreachableError(endpoint.base, reason) from exc
    assert socket.response is not None
    given = socket.response.headers.get(headers.SESSION_ID) or session_id or ""
    return Connection(socket, given)
