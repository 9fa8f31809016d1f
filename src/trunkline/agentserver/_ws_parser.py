"""Our side of picows: the frame parser gets bytes and a transport as it wants to see them."""

import asyncio
import logging
from collections.abc import Callable, Iterable
from typing import Any, Final

from picows import WSAutoPingStrategy, WSListener, WSTransport
from picows.picows import WSProtocol as WSProtocol  # type: ignore[attr-defined]

from trunkline.agentserver._lean_imports import without_aiofastnet
from trunkline.agentserver._logging import LOGGER_NAME

logger = logging.getLogger(LOGGER_NAME)

#: Grows as frames need it.
_READ_BUFFER_BYTES: Final = 2048
#: What the parser is shown in place of a client's head, which was checked before.
_PLAIN_HEAD: Final = (
    b"GET / HTTP/1.1\r\nupgrade: websocket\r\nconnection: upgrade\r\n"
    b"sec-websocket-version: 13\r\nsec-websocket-key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
)


class _SocketView:
    """All of a socket that the parser needs: its number.

    The parser would set TCP options, which a Unix socket refuses and the event loop has set
    on a TCP one already.
    """

    __slots__ = ("_socket",)

    def __init__(self, socket: Any) -> None:
        self._socket = socket

    def fileno(self) -> int:
        return int(self._socket.fileno())

    def setsockopt(self, *_option: object) -> None:
        pass

    def getsockopt(self, *_option: object) -> int:
        return 0


class _TransportView:
    """A transport that leaves closing to the connection's owner."""

    __slots__ = ("_transport", "abort", "close", "get_write_buffer_size", "write")

    def __init__(self, transport: asyncio.Transport) -> None:
        self._transport = transport
        # Bound methods, not wrappers: these two are called for every message.
        self.get_write_buffer_size = transport.get_write_buffer_size
        self.write: Callable[[bytes], None] = transport.write
        # After an error the parser closes on a timer of its own. The owner closes better: it
        # waits until the peer has read why.
        self.close = _do_nothing
        self.abort = _do_nothing

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        value = self._transport.get_extra_info(name, default)
        return _SocketView(value) if name == "socket" else value

    def writelines(self, parts: Iterable[bytes | memoryview]) -> None:
        # The header among the parts lies in a buffer that the next message overwrites, and an
        # event loop may keep what it is given until later: so one copy, made here.
        self._transport.write(b"".join(parts))


class _ParserLog:
    """The logger given to the parser: it tells us that the parser has given up."""

    __slots__ = ("_on_failure",)

    def __init__(self, on_failure: Callable[[], None]) -> None:
        self._on_failure = on_failure

    def isEnabledFor(self, _level: int) -> bool:  # noqa: N802 - the logging module's name
        return False

    def debug(self, _message: str, *_args: object) -> None:
        pass

    info = warning = debug

    def error(self, message: str, *args: object) -> None:
        logger.debug(message, *args)
        self._on_failure()

    def exception(self, message: str, *args: object) -> None:
        logger.exception(message, *args)  # noqa: LOG004 - called while handling one
        self._on_failure()


def start_parser(
    transport: asyncio.Transport,
    listener: WSListener,
    *,
    max_frame_bytes: int,
    on_failure: Callable[[], None],
) -> tuple[WSProtocol, WSTransport]:
    """Return a parser that has its handshake behind it, and its sending side.

    The parser answers a handshake itself; that answer goes nowhere, since ours went out
    before. Frames are read once the parser is made the transport's protocol.

    Args:
        transport: The connection.
        listener: Gets every frame, and is told when the connection is lost.
        max_frame_bytes: A longer frame is a failure, with 1009.
        on_failure: Called when the parser found the peer at fault, just before it sends a
            close frame that says so.
    """
    view = _TransportView(transport)
    parser = WSProtocol(
        None,  # host_port: for clients
        None,  # ws_path: for clients
        False,  # is_client_side
        lambda _request: listener,
        _ParserLog(on_failure),
        True,  # disconnect_on_exception
        None,  # websocket_handshake_timeout
        False,  # enable_auto_ping: KeepAlive is fairer to slow peers
        None,
        None,
        WSAutoPingStrategy.PING_WHEN_IDLE,
        False,  # enable_auto_pong: the listener checks a ping before it answers
        max_frame_bytes,
        None,  # extra_headers
        _READ_BUFFER_BYTES,
    )
    without_aiofastnet(lambda: parser.connection_made(view))
    view.write = _drop
    parser.get_buffer(-1)[: len(_PLAIN_HEAD)] = _PLAIN_HEAD
    parser.buffer_updated(len(_PLAIN_HEAD))
    view.write = transport.write
    # Nobody asks for them again, and they stay as long as the connection.
    parser.transport.request.headers = parser.transport.response.headers = None
    return parser, parser.transport


def _drop(_data: bytes) -> None:
    pass


def _do_nothing() -> None:
    pass
