"""Faults on demand: a network that misbehaves, in front of a platform that doesn't.

A proxy that copies bytes stands between the clients and the platform. It does to connections that
became WebSockets what was asked for, and nothing to others; the platform behind it, its limits and
its close codes are the real ones.
"""

import asyncio
import re
import socket
from collections.abc import Mapping
from dataclasses import dataclass, field

from trunkline.aio.tasks import TaskOwner
from trunkline.protocol.errors import InvalidRequestError

DEFAULT_STALL_EVERY_S = 10.0
DEFAULT_HALF_OPEN_S = 10.0
DEFAULT_SLOW_BYTES_PER_S = 4096
_CHUNK_BYTES = 64 * 1024
_MAX_HEAD_BYTES = 64 * 1024
_SWITCHED = b"HTTP/1.1 101 "
_SLOW_BUFFER_BYTES = 8 * 1024
#: A slow reader takes what it gets in steps of this length.
_STEP_S = 0.1
_DURATION = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m)?")
_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, None: 1.0}

HELP = (
    "drop=30s cuts each connection after that time; stall=2s (or stall=2s@10s) stops both "
    "directions for 2 s, every 10 s; slow-reader (or slow-reader=4096) reads that many bytes a "
    "second; half-open (or half-open=10s) lets nothing through any more after that time, and "
    "doesn't end the connection; 1001-after=60s closes each connection with 1001, as a drain does"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Faults:
    """What is to go wrong with each connection."""

    drop_after_s: float | None = None
    stall_s: float | None = None
    stall_every_s: float = DEFAULT_STALL_EVERY_S
    slow_bytes_per_s: int | None = None
    half_open_after_s: float | None = None
    close_after_s: float | None = None
    """The platform's own to do: it closes with 1001 at a connection's age."""

    @classmethod
    def parse(cls, text: str) -> "Faults":
        """Read ``drop=30s,stall=2s,slow-reader,half-open,1001-after=60s``.

        Raises:
            InvalidRequestError: If a word isn't a fault, or a value none of its values.
        """
        values: dict[str, float | int] = {}
        for part in filter(None, (part.strip() for part in text.split(","))):
            name, _, value = part.partition("=")
            match name:
                case "drop":
                    values["drop_after_s"] = _seconds(part, value)
                case "stall":
                    length, _, every = value.partition("@")
                    values["stall_s"] = _seconds(part, length)
                    if every:
                        values["stall_every_s"] = _seconds(part, every)
                case "slow-reader":
                    values["slow_bytes_per_s"] = _count(part, value)
                case "half-open":
                    values["half_open_after_s"] = (
                        _seconds(part, value) if value else DEFAULT_HALF_OPEN_S
                    )
                case "1001-after":
                    values["close_after_s"] = _seconds(part, value)
                case _:
                    raise InvalidRequestError(f"{part!r} is not a fault; {HELP}")
        return cls(**values)  # type: ignore[arg-type]

    @property
    def needs_proxy(self) -> bool:
        """Whether the network has to misbehave."""
        return any(
            value is not None
            for value in (
                self.drop_after_s, self.stall_s, self.slow_bytes_per_s, self.half_open_after_s,
            )
        )  # fmt: skip

    @property
    def settings(self) -> Mapping[str, str]:
        """What the platform is told, as its environment variables."""
        if self.close_after_s is None:
            return {}
        return {"TRUNKLINE_GATEWAY_MAX_CONNECTION_S": f"{self.close_after_s:g}"}

    def describe(self) -> list[str]:
        """Return a line for each fault."""
        lines = []
        if self.drop_after_s is not None:
            lines.append(f"each connection is cut after {self.drop_after_s:g} s (1006)")
        if self.stall_s is not None:
            lines.append(f"nothing passes for {self.stall_s:g} s, every {self.stall_every_s:g} s")
        if self.slow_bytes_per_s is not None:
            lines.append(f"the client reads {self.slow_bytes_per_s} bytes a second")
        if self.half_open_after_s is not None:
            lines.append(f"after {self.half_open_after_s:g} s nothing passes any more")
        if self.close_after_s is not None:
            lines.append(f"each connection is closed with 1001 after {self.close_after_s:g} s")
        return lines


def _seconds(part: str, value: str) -> float:
    match = _DURATION.fullmatch(value)
    seconds = float(match[1]) * _UNITS[match[2]] if match else 0.0
    if seconds <= 0:
        raise InvalidRequestError(f"{part!r} needs a time, such as 500ms, 2s or 1m; {HELP}")
    return seconds


def _count(part: str, value: str) -> int:
    if not value:
        return DEFAULT_SLOW_BYTES_PER_S
    if not value.isdecimal() or not int(value):
        raise InvalidRequestError(f"{part!r} needs a number of bytes a second; {HELP}")
    return int(value)


@dataclass(slots=True, eq=False)
class _Pair:
    """The two sides of one connection, and what is wrong between them."""

    client: asyncio.StreamWriter
    platform: asyncio.StreamWriter
    may_pass: asyncio.Event = field(default_factory=asyncio.Event)
    is_dead: bool = False

    def abort(self) -> None:
        for writer in (self.client, self.platform):
            writer.transport.abort()


class FaultyNetwork:
    """Listens where clients connect, and passes on to the platform what the faults let through."""

    def __init__(self, faults: Faults, host: str, port: int) -> None:
        """Describe it.

        Args:
            faults: What goes wrong.
            host: The platform's address.
            port: The platform's port.
        """
        self._faults = faults
        self._host = host
        self._port = port
        self._server: asyncio.Server | None = None
        self._pairs: set[_Pair] = set()
        self._tasks = TaskOwner()

    async def listen(self, host: str, port: int) -> int:
        """Begin to serve; return the port."""
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        sock = socket.create_server((host, port), family=family)
        self._server = await asyncio.start_server(self._accept, sock=sock, limit=_CHUNK_BYTES)
        return int(sock.getsockname()[1])

    async def aclose(self) -> None:
        """End every connection and stop. Twice is fine."""
        if self._server is not None:
            self._server.close()
        await self._tasks.aclose()
        for pair in list(self._pairs):
            pair.abort()

    async def _accept(
        self, client_reader: asyncio.StreamReader, client: asyncio.StreamWriter
    ) -> None:
        slow = self._faults.slow_bytes_per_s
        try:
            reader, writer = await self._reach_platform()
        except OSError:
            client.transport.abort()
            return
        pair = _Pair(client, writer)
        pair.may_pass.set()
        self._pairs.add(pair)
        owner = TaskOwner()
        try:
            writer.write(await _head(client_reader))
            up = owner.spawn(_copy(pair, client_reader, writer), name="faults:up")
            answer = await _head(reader)
            client.write(answer)
            rate = None
            # The clocks start when the conversation does: an agent may take long to come up.
            if answer.startswith(_SWITCHED):
                rate = slow
                self._begin(owner, pair)
            down = owner.spawn(_copy(pair, reader, client, rate), name="faults:down")
            await asyncio.wait((up, down))
        finally:
            await owner.aclose()
            pair.abort()
            self._pairs.discard(pair)

    async def _reach_platform(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        slow = self._faults.slow_bytes_per_s
        if slow is None:
            return await asyncio.open_connection(self._host, self._port, limit=_CHUNK_BYTES)
        # What the kernel would hold for a slow reader would hide for long that it is slow.
        sock = socket.socket(socket.AF_INET6 if ":" in self._host else socket.AF_INET)
        try:
            sock.setblocking(False)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _SLOW_BUFFER_BYTES)
            await asyncio.get_running_loop().sock_connect(sock, (self._host, self._port))
            return await asyncio.open_connection(sock=sock, limit=slow)
        except BaseException:
            sock.close()
            raise

    def _begin(self, owner: TaskOwner, pair: _Pair) -> None:
        faults = self._faults
        if faults.drop_after_s is not None:
            owner.spawn(_drop(pair, faults.drop_after_s), name="faults:drop")
        if faults.half_open_after_s is not None:
            owner.spawn(_die(pair, faults.half_open_after_s), name="faults:half-open")
        if faults.stall_s is not None:
            owner.spawn(_stall(pair, faults.stall_s, faults.stall_every_s), name="faults:stall")


async def _head(reader: asyncio.StreamReader) -> bytes:
    """Return a message's head, and what came with it."""
    head = b""
    while b"\r\n\r\n" not in head and len(head) < _MAX_HEAD_BYTES:
        chunk = await reader.read(_CHUNK_BYTES)
        if not chunk:
            break
        head += chunk
    return head


async def _copy(
    pair: _Pair,
    reader: asyncio.StreamReader,
    writer: asyncio.StreamWriter,
    bytes_per_s: int | None = None,
) -> None:
    step = _CHUNK_BYTES if bytes_per_s is None else max(int(bytes_per_s * _STEP_S), 1)
    try:
        while chunk := await reader.read(step):
            await pair.may_pass.wait()
            if pair.is_dead:
                # Read and thrown away: the sender must not notice by its buffers alone.
                continue
            writer.write(chunk)
            await writer.drain()
            if bytes_per_s is not None:
                await asyncio.sleep(len(chunk) / bytes_per_s)
        if not pair.is_dead:
            writer.write_eof()
    except OSError:
        if not pair.is_dead:
            pair.abort()


async def _drop(pair: _Pair, after_s: float) -> None:
    await asyncio.sleep(after_s)
    pair.abort()


async def _die(pair: _Pair, after_s: float) -> None:
    await asyncio.sleep(after_s)
    pair.is_dead = True


async def _stall(pair: _Pair, length_s: float, every_s: float) -> None:
    while True:
        await asyncio.sleep(every_s)
        pair.may_pass.clear()
        await asyncio.sleep(length_s)
        pair.may_pass.set()
