"""Connects to an agent, or to another process of the platform, and brings an upgrade to its 101."""

import asyncio
import errno
import functools
import os
import re
import socket
from typing import Final, NamedTuple, cast

from trunkline.aio.deadlines import Deadlines
from trunkline.aio.light import LightTransport, Lookout
from trunkline.protocol.errors import NotFoundError, UpstreamError
from trunkline.runtimes.interface import Address

#: How nearly every answer begins. Others may be as good, and are looked at.
_ACCEPTED: Final = b"HTTP/1.1 101 "
_HEAD_END = b"\r\n\r\n"
_BEGINNING = b"host: agent\r\nconnection: Upgrade\r\nupgrade: websocket\r\n"
_MAX_HEAD_BYTES = 64 * 1024
#: The agent's queue of connections is full. Of a Unix socket nobody tells when it isn't any more.
_TRY_AGAIN: Final = (errno.EAGAIN, errno.EALREADY)
_FULL_QUEUE_S: Final = 0.005
_LENGTH = re.compile(rb"\r\ncontent-length:[ \t]*([0-9]{1,6})[ \t]*(?:\r\n|$)", re.IGNORECASE)


class ConnectError(UpstreamError):
    """The agent's socket refused the connection: its process has ended or is ending."""


class Upgraded(NamedTuple):
    """A connection after the answer to an upgrade.

    Attributes:
        transport: The connection; its reading is paused.
        head: The answer's head without its last empty line.
        rest: What was sent right after it; all of a refusal's body, if that was wanted.
    """

    transport: asyncio.Transport
    head: bytes
    rest: bytes

    @property
    def status(self) -> int:
        """The answer's status; 0 if it isn't HTTP."""
        version, _, rest = self.head.split(b"\r\n", 1)[0].partition(b" ")
        return int(rest[:3]) if version.startswith(b"HTTP/1.") and rest[:3].isdigit() else 0


class _Answer(asyncio.Protocol):
    """Collects the answer's head, and the body of a refusal if that is wanted, too."""

    def __init__(self, question: bytes = b"", *, takes_refusals: bool = False) -> None:
        """Prepare.

        Args:
            question: What is sent as soon as there is a connection.
            takes_refusals: Whether a refusal's body is wanted.
        """
        self._question = question
        self._takes_refusals = takes_refusals
        self._buffer = bytearray()
        self._transport: asyncio.Transport | None = None
        self.head: asyncio.Future[tuple[bytes, bytes]] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        if self._question:
            self._transport.write(self._question)

    def data_received(self, data: bytes) -> None:
        assert self._transport is not None
        came: bytes | bytearray = data
        if self._buffer:
            self._buffer += data
            came = self._buffer
        end = came.find(_HEAD_END)
        is_over = len(came) > _MAX_HEAD_BYTES
        if not is_over and (end < 0 or len(came) < self._whole(came, end)):
            # An answer that comes in one piece, as nearly all do, is never kept here.
            if came is data:
                self._buffer += data
            return
        self._transport.pause_reading()
        if self.head.done():
            return
        if end < 0:
            self.head.set_exception(UpstreamError("the agent's response head has no end"))
            return
        self.head.set_result((bytes(came[:end]), bytes(came[end + len(_HEAD_END) :])))

    def _whole(self, came: bytes | bytearray, end: int) -> int:
        whole = end + len(_HEAD_END)
        if not self._takes_refusals or came[9:12] == b"101":
            return whole
        announced = _LENGTH.search(bytes(came[:end]))
        return whole + (int(announced[1]) if announced else 0)

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.head.done():
            self.head.set_exception(
                UpstreamError("the agent closed the connection before it answered the upgrade")
            )
            # Nobody may be waiting for it any more.
            self.head.exception()


def upgrade_head(query: str, forwarded: bytes, injected: str) -> bytes:
    """Return the upgrade request the agent gets.

    Args:
        query: What the agent gets to see of the query.
        forwarded: The lines of the caller's header fields that it gets to see.
        injected: The lines of the platform's own headers, of which none is forwarded, too.
    """
    target = f"/invocations_ws?{query}" if query else "/invocations_ws"
    return b"GET %b HTTP/1.1\r\n%b%b%b\r\n" % (
        target.encode("latin-1"),
        _BEGINNING,
        forwarded,
        injected.encode("latin-1"),
    )


class Connection:
    """A connection to whoever is to answer an upgrade."""

    def __init__(self, transport: asyncio.Transport, answer: _Answer) -> None:
        self.transport = transport
        self._answer = answer

    async def ask(self, head: bytes) -> Upgraded:
        """Send an upgrade and wait for its answer. Whatever goes wrong closes the connection.

        Raises:
            UpstreamError: If it isn't answered.
        """
        self.transport.write(head)
        return await self.answer()

    async def answer(self) -> Upgraded:
        """Wait for the answer to what was sent. Whatever goes wrong closes the connection.

        Raises:
            UpstreamError: If there is none.
        """
        try:
            return Upgraded(self.transport, *await self._answer.head)
        except BaseException:
            self.transport.abort()
            raise


async def _connect_agent(address: Address) -> socket.SocketType:
    """Connect to an agent, in most cases without waiting for anything.

    Raises:
        ConnectError: If nobody listens there.
    """
    place: str | tuple[str, int]
    if address.path is not None:
        family, place = socket.AF_UNIX, address.path
    else:
        assert address.port is not None
        family, place = socket.AF_INET, ("127.0.0.1", address.port)
    # Not its subclass in Python: that takes longer to make than to connect.
    connected = socket.SocketType(family, socket.SOCK_STREAM)
    try:
        connected.setblocking(False)
        if family is socket.AF_INET:
            connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        error = connected.connect_ex(place)
        if error == errno.EINPROGRESS:
            # On loopback the other side has answered by the time that this is said.
            error = connected.connect_ex(place)
        while error in _TRY_AGAIN:
            await asyncio.sleep(_FULL_QUEUE_S)
            error = connected.connect_ex(place)
        if error:
            raise OSError(error, os.strerror(error))
    except OSError as exc:
        connected.close()
        raise ConnectError("the agent isn't listening; it may be ending") from exc
    except BaseException:
        connected.close()
        raise
    return connected


async def connect_peer(host: str, port: int) -> Connection:
    """Connect to another process of the platform, whose refusals are wanted whole.

    Raises:
        OSError: If nobody listens there.
    """
    loop = asyncio.get_running_loop()
    answer = functools.partial(_Answer, takes_refusals=True)
    return Connection(*await loop.create_connection(answer, host, port))


async def _transport_of(connected: socket.SocketType, answer: _Answer) -> asyncio.Transport:
    """Leave a connection to the event loop."""
    loop = asyncio.get_running_loop()
    known = socket.socket(connected.family, connected.type, fileno=connected.detach())
    return (await loop.connect_accepted_socket(lambda: answer, known))[0]


async def upgrade(
    address: Address, head: bytes, due: Deadlines, *, lookout: Lookout | None = None
) -> Upgraded:
    """Send an upgrade to an agent and wait for its 101.

    Args:
        address: Where it listens.
        head: The upgrade's head.
        due: In what time that has to be done.
        lookout: Watches the connection, if the event loop will have little to do with it.

    Raises:
        ConnectError: If nobody listens there.
        NotFoundError: If the agent has no WebSocket handler.
        UpstreamError: If it answers anything else, or nothing in time.
    """
    answer = _Answer(head)
    try:
        with due.limit():
            connected = await _connect_agent(address)
            transport: asyncio.Transport
            if lookout is None:
                transport = await _transport_of(connected, answer)
            else:
                transport = LightTransport(connected, answer, lookout)
            upgraded = await Connection(transport, answer).answer()
    except TimeoutError:
        raise UpstreamError(
            f"the agent didn't answer the upgrade in {due.delay_s:g} s (connect_timeout_s)"
        ).by_limit("connect_timeout_s") from None
    if not upgraded.head.startswith(_ACCEPTED):
        try:
            _check_status(upgraded.status)
        except BaseException:
            upgraded.transport.abort()
            raise
    return upgraded


async def tell_draining(address: Address, timeout_s: float) -> bool:
    """Tell an agent's host that the platform is about to stop; return whether it understood."""
    assert address.path is not None
    try:
        async with asyncio.timeout(timeout_s):
            reader, writer = await asyncio.open_unix_connection(address.path)
            try:
                writer.write(
                    b"POST /trunkline/draining HTTP/1.1\r\nhost: agent\r\ncontent-length: 0\r\n"
                    b"connection: close\r\n\r\n"
                )
                return b" 204 " in await reader.readline()
            finally:
                writer.close()
    except (OSError, TimeoutError, ValueError):
        # It has ended, is of another make or hangs: its connections are closed all the same.
        return False


def _check_status(status: int) -> None:
    if not status:
        raise UpstreamError("the agent's answer to the upgrade isn't HTTP")
    # Some hosts answer 403 where there is no handler; nobody else refuses an upgrade so.
    if status in (404, 403):
        raise NotFoundError(
            "the agent has no WebSocket handler; it needs a function under @app.ws_handler"
        )
    if status != 101:
        raise UpstreamError(f"the agent answered the upgrade with {status}")
