"""Connects to an agent, or to another process of the platform, and brings an upgrade to its 101."""

import asyncio
import functools
import re
from dataclasses import dataclass
from typing import cast

from trunkline.aio.deadlines import Deadlines
from trunkline.protocol.errors import NotFoundError, UpstreamError
from trunkline.runtimes.interface import Address

_HEAD_END = b"\r\n\r\n"
_BEGINNING = b"host: agent\r\nconnection: Upgrade\r\nupgrade: websocket\r\n"
_MAX_HEAD_BYTES = 64 * 1024
_LENGTH = re.compile(rb"\r\ncontent-length:[ \t]*([0-9]{1,6})[ \t]*(?:\r\n|$)", re.IGNORECASE)


class ConnectError(UpstreamError):
    """The agent's socket refused the connection: its process has ended or is ending."""


@dataclass(frozen=True, slots=True)
class Upgraded:
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
        self._buffer += data
        end = self._buffer.find(_HEAD_END)
        is_over = len(self._buffer) > _MAX_HEAD_BYTES
        if not is_over and (end < 0 or len(self._buffer) < self._whole(end)):
            return
        self._transport.pause_reading()
        if self.head.done():
            return
        if end < 0:
            self.head.set_exception(UpstreamError("the agent's response head has no end"))
            return
        head = bytes(self._buffer[:end])
        self.head.set_result((head, bytes(self._buffer[end + len(_HEAD_END) :])))

    def _whole(self, end: int) -> int:
        head = bytes(self._buffer[:end])
        is_wanted = self._takes_refusals and head[9:12] != b"101"
        announced = _LENGTH.search(head) if is_wanted else None
        return end + len(_HEAD_END) + (int(announced[1]) if announced else 0)

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


async def _connect_agent(address: Address, answer: _Answer) -> asyncio.Transport:
    """Connect to an agent.

    Raises:
        ConnectError: If nobody listens there.
    """
    loop = asyncio.get_running_loop()
    try:
        if address.path is not None:
            return (await loop.create_unix_connection(lambda: answer, address.path))[0]
        assert address.port is not None
        return (await loop.create_connection(lambda: answer, "127.0.0.1", address.port))[0]
    except OSError as exc:
        raise ConnectError("the agent isn't listening; it may be ending") from exc


async def connect_peer(host: str, port: int) -> Connection:
    """Connect to another process of the platform, whose refusals are wanted whole.

    Raises:
        OSError: If nobody listens there.
    """
    loop = asyncio.get_running_loop()
    answer = functools.partial(_Answer, takes_refusals=True)
    return Connection(*await loop.create_connection(answer, host, port))


async def upgrade(address: Address, head: bytes, due: Deadlines) -> Upgraded:
    """Send an upgrade to an agent and wait for its 101.

    Args:
        address: Where it listens.
        head: The upgrade's head.
        due: In what time that has to be done.

    Raises:
        ConnectError: If nobody listens there.
        NotFoundError: If the agent has no WebSocket handler.
        UpstreamError: If it answers anything else, or nothing in time.
    """
    answer = _Answer(head)
    try:
        with due.limit():
            connection = Connection(await _connect_agent(address, answer), answer)
            upgraded = await connection.answer()
    except TimeoutError:
        raise UpstreamError(
            f"the agent didn't answer the upgrade in {due.delay_s:g} s (connect_timeout_s)"
        ).by_limit("connect_timeout_s") from None
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
