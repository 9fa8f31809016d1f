"""Connects to an agent and brings a WebSocket upgrade to its 101."""

import asyncio
from dataclasses import dataclass
from typing import cast

from trunkline.gateway.reach import ConnectError
from trunkline.protocol import headers
from trunkline.protocol.errors import NotFoundError, UpstreamError
from trunkline.runtimes.interface import Address

_HEAD_END = b"\r\n\r\n"
_MAX_HEAD_BYTES = 64 * 1024


@dataclass(frozen=True, slots=True)
class Upgraded:
    """An agent's connection after its 101.

    Attributes:
        transport: The connection; its reading is paused.
        head: The 101's head without its last empty line.
        rest: What the agent sent right after it.
    """

    transport: asyncio.Transport
    head: bytes
    rest: bytes


class _Answer(asyncio.Protocol):
    """Collects the agent's response head."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._transport: asyncio.Transport | None = None
        self.head: asyncio.Future[tuple[bytes, bytes]] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        assert self._transport is not None
        self._buffer += data
        end = self._buffer.find(_HEAD_END)
        if end < 0 and len(self._buffer) <= _MAX_HEAD_BYTES:
            return
        self._transport.pause_reading()
        if self.head.done():
            return
        if end < 0:
            self.head.set_exception(UpstreamError("the agent's response head has no end"))
            return
        head = bytes(self._buffer[:end])
        self.head.set_result((head, bytes(self._buffer[end + len(_HEAD_END) :])))

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.head.done():
            self.head.set_exception(
                UpstreamError("the agent closed the connection before it answered the upgrade")
            )
            # Nobody may be waiting for it any more.
            self.head.exception()


def upgrade_head(
    query: str, request: list[tuple[bytes, bytes]], injected: list[tuple[str, str]]
) -> bytes:
    """Return the upgrade request the agent gets.

    Args:
        query: What the agent gets to see of the query.
        request: The caller's headers, names in lower case.
        injected: The platform's own headers; a caller's of the same name are dropped.
    """
    ours = {name for name, _ in injected}
    lines = [
        f"GET /invocations_ws{'?' + query if query else ''} HTTP/1.1".encode("latin-1"),
        b"host: agent",
        b"connection: Upgrade",
        b"upgrade: websocket",
    ]
    for raw_name, value in request:
        name = raw_name.decode("latin-1")
        forwarded = headers.reaches_agent(name) or name in headers.WEBSOCKET_HANDSHAKE
        if forwarded and name not in ours and name != "content-length":
            lines.append(raw_name + b": " + value)
    lines += [f"{name}: {value}".encode("latin-1") for name, value in injected]
    return b"\r\n".join(lines) + _HEAD_END


async def upgrade(address: Address, head: bytes, timeout_s: float) -> Upgraded:
    """Send an upgrade to an agent and wait for its 101.

    Raises:
        ConnectError: If nobody listens there.
        NotFoundError: If the agent has no WebSocket handler.
        UpstreamError: If it answers anything else, or nothing in time.
    """
    loop = asyncio.get_running_loop()
    transport: asyncio.Transport | None = None
    try:
        async with asyncio.timeout(timeout_s):
            try:
                if address.path is not None:
                    transport, answer = await loop.create_unix_connection(_Answer, address.path)
                else:
                    assert address.port is not None
                    transport, answer = await loop.create_connection(
                        _Answer, "127.0.0.1", address.port
                    )
            except OSError as exc:
                raise ConnectError("the agent isn't listening; it may be ending") from exc
            transport.write(head)
            response, rest = await answer.head
        _check_status(response)
    except TimeoutError:
        _abort(transport)
        raise UpstreamError(
            f"the agent didn't answer the upgrade in {timeout_s:g} s (connect_timeout_s)"
        ) from None
    except BaseException:
        _abort(transport)
        raise
    return Upgraded(transport, response, rest)


def _abort(transport: asyncio.Transport | None) -> None:
    if transport is not None:
        transport.abort()


def _check_status(response: bytes) -> None:
    status_line = response.split(b"\r\n", 1)[0]
    version, _, rest = status_line.partition(b" ")
    status = rest[:3]
    if not version.startswith(b"HTTP/1.") or not status.isdigit():
        raise UpstreamError("the agent's answer to the upgrade isn't HTTP")
    # Some hosts answer 403 where there is no handler; nobody else refuses an upgrade so.
    if status in (b"404", b"403"):
        raise NotFoundError(
            "the agent has no WebSocket handler; it needs a function under @app.ws_handler"
        )
    if status != b"101":
        raise UpstreamError(f"the agent answered the upgrade with {status.decode()}")
