"""Connects to an agent, or to another process of the platform, and brings an upgrade to its 101."""

import asyncio
import errno
import os
import re
import socket
from collections.abc import Callable
from typing import Final, NamedTuple, cast

from trunkline.aio.deadlines import Deadlines
from trunkline.aio.light import LightTransport, Lookout
from trunkline.protocol.errors import (
    NotFoundError,
    TrunklineError,
    UnavailableError,
    UpstreamError,
)
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


class Asking(asyncio.Protocol):
    """An upgrade on its way to whoever is to answer it. It tells once what came of it."""

    __slots__ = ("_buffer", "_due", "_question", "_takes_refusals", "_tell", "_transport")

    def __init__(
        self,
        tell: Callable[[Upgraded | TrunklineError], None],
        *,
        question: bytes = b"",
        due: Deadlines | None = None,
        takes_refusals: bool = False,
    ) -> None:
        """Prepare.

        Args:
            tell: Called with the answer, or with why there is none, in a callback of the loop's.
                The connection is closed if there is none.
            question: What is sent as soon as there is a connection.
            due: In what time the answer has to be there.
            takes_refusals: Whether any answer is one, whole; else only a 101 is.
        """
        self._tell: Callable[[Upgraded | TrunklineError], None] | None = tell
        self._question = question
        self._due = due
        self._takes_refusals = takes_refusals
        self._buffer: bytearray | None = None
        self._transport: asyncio.Transport | None = None
        if due is not None:
            due.add(self)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        if self._question:
            self._transport.write(self._question)

    def data_received(self, data: bytes) -> None:
        came: bytes | bytearray = data
        if self._buffer is not None:
            self._buffer += data
            came = self._buffer
        end = came.find(_HEAD_END)
        is_over = len(came) > _MAX_HEAD_BYTES
        if not is_over and (end < 0 or len(came) < self._whole(came, end)):
            # An answer that comes in one piece, as nearly all do, is never kept here.
            if self._buffer is None:
                self._buffer = bytearray(data)
            return
        transport = self._transport
        assert transport is not None
        transport.pause_reading()
        if end < 0:
            self._fail(UpstreamError("the agent's response head has no end"))
            return
        upgraded = Upgraded(transport, bytes(came[:end]), bytes(came[end + len(_HEAD_END) :]))
        is_good = self._takes_refusals or upgraded.head.startswith(_ACCEPTED)
        error = None if is_good else _refusal_of(upgraded.status)
        if error is None:
            self._end(upgraded)
        else:
            self._fail(error)

    def _whole(self, came: bytes | bytearray, end: int) -> int:
        whole = end + len(_HEAD_END)
        if not self._takes_refusals or came[9:12] == b"101":
            return whole
        announced = _LENGTH.search(bytes(came[:end]))
        return whole + (int(announced[1]) if announced else 0)

    def connection_lost(self, exc: Exception | None) -> None:
        self._end(UpstreamError("the agent closed the connection before it answered the upgrade"))

    def late(self) -> None:
        assert self._due is not None
        self._fail(
            UpstreamError(
                f"the agent didn't answer the upgrade in {self._due.delay_s:g} s "
                "(connect_timeout_s)"
            ).by_limit("connect_timeout_s")
        )

    def abort(self) -> None:
        """Close the connection, if there is one, and tell nothing. Twice is fine."""
        self._over()
        if self._transport is not None:
            self._transport.abort()

    def _over(self) -> Callable[[Upgraded | TrunklineError], None] | None:
        tell, self._tell = self._tell, None
        if self._due is not None:
            self._due.discard(self)
        return tell

    def _end(self, outcome: Upgraded | TrunklineError) -> None:
        tell = self._over()
        if tell is not None:
            tell(outcome)

    def _fail(self, error: TrunklineError) -> None:
        if self._tell is not None:
            tell = self._tell
            self.abort()
            tell(error)


def head_start(query: str, forwarded: bytes) -> bytes:
    """Return how the upgrade request begins that the agent gets; lines and an empty one follow.

    Args:
        query: What the agent gets to see of the query.
        forwarded: The lines of the caller's header fields that it gets to see.
    """
    target = f"/invocations_ws?{query}" if query else "/invocations_ws"
    return b"GET %b HTTP/1.1\r\n%b%b" % (target.encode("latin-1"), _BEGINNING, forwarded)


class Connection:
    """A connection to another process of the platform, which is to answer an upgrade."""

    def __init__(
        self, transport: asyncio.Transport, asking: Asking, answer: asyncio.Future[Upgraded]
    ) -> None:
        self.transport = transport
        self._asking = asking
        self._answer = answer

    async def ask(self, head: bytes) -> Upgraded:
        """Send an upgrade and wait for its answer. Whatever goes wrong closes the connection.

        Raises:
            UpstreamError: If it isn't answered.
        """
        self.transport.write(head)
        try:
            return await self._answer
        except BaseException:
            self._asking.abort()
            raise


def _telling(answer: asyncio.Future[Upgraded]) -> Callable[[Upgraded | TrunklineError], None]:
    """Return what tells a future what came of an upgrade."""

    def tell(outcome: Upgraded | TrunklineError) -> None:
        if isinstance(outcome, Upgraded):
            if answer.done():
                outcome.transport.abort()
            else:
                answer.set_result(outcome)
        elif not answer.done():
            answer.set_exception(outcome)
            # Nobody may be waiting for it any more.
            answer.exception()

    return tell


_Place = str | tuple[str, int]


def _socket_for(address: Address) -> tuple[socket.SocketType, _Place]:
    """Return a socket, and where it is to be connected to.

    Raises:
        UnavailableError: If the system has none.
    """
    place: _Place
    if address.path is not None:
        family, place = socket.AF_UNIX, address.path
    else:
        assert address.port is not None
        family, place = socket.AF_INET, ("127.0.0.1", address.port)
    # Not its subclass in Python: that takes longer to make than to connect.
    try:
        connected = socket.SocketType(family, socket.SOCK_STREAM)
    except OSError as exc:
        # It isn't the agent's doing: this process has as many descriptors as it may, or the system.
        raise UnavailableError(
            f"the platform can't connect to the agent at the moment ({exc.strerror}); try again"
        ) from exc
    connected.setblocking(False)
    if family is socket.AF_INET:
        connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return connected, place


def _connect(connected: socket.SocketType, place: _Place) -> int:
    """Connect a socket, or try again to; return the number of the system's error, or 0."""
    error = connected.connect_ex(place)
    if error == errno.EINPROGRESS:
        # On loopback the other side has answered by the time that this is said.
        error = connected.connect_ex(place)
    return error


async def _connect_agent(address: Address, late: asyncio.Future[Upgraded]) -> socket.SocketType:
    """Connect to an agent, in most cases without waiting for anything.

    Args:
        address: Where it listens.
        late: Has an exception when it takes too long.

    Raises:
        ConnectError: If nobody listens there.
        UpstreamError: If it takes too long.
        UnavailableError: If the system has no socket for it.
    """
    connected, place = _socket_for(address)
    try:
        while (error := _connect(connected, place)) in _TRY_AGAIN:
            await asyncio.wait((late,), timeout=_FULL_QUEUE_S)
            if late.done():
                late.result()
        if error:
            raise ConnectError("the agent isn't listening; it may be ending") from OSError(
                error, os.strerror(error)
            )
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
    answer: asyncio.Future[Upgraded] = loop.create_future()
    asking = Asking(_telling(answer), takes_refusals=True)
    transport, _ = await loop.create_connection(lambda: asking, host, port)
    return Connection(transport, asking, answer)


async def _leave_to_loop(connected: socket.SocketType, asking: Asking) -> None:
    """Leave a connection to the event loop."""
    loop = asyncio.get_running_loop()
    known = socket.socket(connected.family, connected.type, fileno=connected.detach())
    await loop.connect_accepted_socket(lambda: asking, known)


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
        UnavailableError: If the system has no socket for it.
    """
    answer: asyncio.Future[Upgraded] = asyncio.get_running_loop().create_future()
    asking = Asking(_telling(answer), question=head, due=due)
    try:
        connected = await _connect_agent(address, answer)
        if lookout is None:
            await _leave_to_loop(connected, asking)
        else:
            LightTransport(connected, asking, lookout)
        return await answer
    except BaseException:
        asking.abort()
        raise


def ask_now(
    address: Address,
    head: bytes,
    due: Deadlines,
    lookout: Lookout,
    tell: Callable[[Upgraded | TrunklineError], None],
) -> Asking | None:
    """Send an upgrade to an agent, if that can be done without waiting; else return None.

    Args:
        address: Where it listens.
        head: The upgrade's head.
        due: In what time its answer has to be there.
        lookout: Watches the connection.
        tell: Called with what `upgrade` returns or raises, but not before this returns.

    Raises:
        UnavailableError: If the system has no socket for it.
    """
    connected, place = _socket_for(address)
    if _connect(connected, place):
        connected.close()
        return None
    asking = Asking(tell, question=head, due=due)
    LightTransport(connected, asking, lookout)
    return asking


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


def _refusal_of(status: int) -> TrunklineError | None:
    """Return what an agent's answer to an upgrade means, if it isn't 101."""
    if not status:
        return UpstreamError("the agent's answer to the upgrade isn't HTTP")
    # Some hosts answer 403 where there is no handler; nobody else refuses an upgrade so.
    if status in (404, 403):
        return NotFoundError(
            "the agent has no WebSocket handler; it needs a function under @app.ws_handler"
        )
    if status != 101:
        return UpstreamError(f"the agent answered the upgrade with {status}")
    return None
