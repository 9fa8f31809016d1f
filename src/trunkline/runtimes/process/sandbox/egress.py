"""The way out of a sandbox: an HTTP proxy that lets public addresses through, by name.

It takes ``CONNECT`` for TLS and WebSockets, and plain HTTP requests. Names are resolved here and
the address that was looked at is the one connected to, so a name that changes what it stands for
gains nothing; a redirect is a new request, looked at like any other.
"""

import asyncio
import contextlib
import ipaddress
import socket
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from urllib.parse import urlsplit

from trunkline.aio.tasks import TaskOwner
from trunkline.runtimes.process.sandbox.addresses import Network, refusal
from trunkline.runtimes.process.sandbox.told import Told

#: Where agents find it in their own network.
PROXY_PORT = 3128
_MAX_HEAD_BYTES = 64 * 1024
_HEAD_TIMEOUT_S = 30.0
_CONNECT_TIMEOUT_S = 20.0
_READ_BYTES = 64 * 1024
_MAX_CONNECTIONS = 256
_HOP_BY_HOP = (b"proxy-", b"connection:", b"keep-alive:")


class RefusedError(Exception):
    """The agent may not go there, or it can't be reached; ``str`` is a sentence."""

    def __init__(self, status: str, why: str) -> None:
        super().__init__(why)
        self.status = status


@dataclass(frozen=True, slots=True, kw_only=True)
class EgressPolicy:
    """Where an agent may go."""

    allow: tuple[str, ...] = ()
    """Hosts, or ``*.example.com`` for all below one. Empty: any."""
    private: tuple[Network, ...] = ()
    """Networks that may be reached although they aren't public."""

    def allows_host(self, host: str) -> bool:
        """Tell whether a host is among those that may be reached."""
        host = host.rstrip(".").lower()
        return not self.allow or any(_matches(host, pattern.lower()) for pattern in self.allow)


def _matches(host: str, pattern: str) -> bool:
    if pattern.startswith("*."):
        return host.endswith(pattern[1:])
    return host == pattern


class Resolver:
    """Looks names up, in threads of its own: agents may ask for a lot."""

    def __init__(self, threads: int = 4) -> None:
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="egress")

    async def addresses(self, host: str, port: int) -> list[str]:
        """Return what a name stands for.

        Raises:
            OSError: If nothing.
        """
        loop = asyncio.get_running_loop()
        found = await loop.run_in_executor(self._pool, _resolve, host, port)
        return list(dict.fromkeys(found))

    def close(self) -> None:
        """End the threads."""
        self._pool.shutdown(wait=False, cancel_futures=True)


def _resolve(host: str, port: int) -> list[str]:
    return [str(row[4][0]) for row in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)]


class EgressProxy:
    """One session's way out."""

    def __init__(
        self,
        policy: EgressPolicy,
        resolver: Resolver,
        *,
        tasks: TaskOwner,
        tell: Callable[[str], None],
    ) -> None:
        """Prepare.

        Args:
            policy: Where the agent may go.
            resolver: Looks names up.
            tasks: Owns what runs for it.
            tell: Takes a sentence about what was refused, for the session's log.
        """
        self._policy = policy
        self._resolver = resolver
        self._tasks = tasks
        self._told = Told(tell)
        self._server: asyncio.Server | None = None
        self._listener: socket.socket | None = None
        self._open: set[asyncio.StreamWriter] = set()
        #: Connections that the agent has opened so far.
        self.made = 0

    async def serve(self, sock: socket.socket) -> None:
        """Take connections on a socket that listens in the session's network."""
        # The server's own goes with it; this one may have to be passed on.
        self._listener = sock.dup()
        self._server = await asyncio.start_server(
            self._on_connection, sock=sock, limit=_MAX_HEAD_BYTES
        )

    @property
    def open(self) -> int:
        """How many connections there are now, both ends counted."""
        return len(self._open)

    @property
    def file(self) -> int | None:
        """The listening socket, while there is one."""
        return None if self._listener is None else self._listener.fileno()

    def close(self) -> None:
        """Stop, and end what is open. Twice is fine."""
        if self._listener is not None:
            self._listener.close()
            self._listener = None
        if self._server is not None:
            self._server.close()
            self._server = None
        for writer in list(self._open):
            writer.transport.abort()

    def _on_connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if len(self._open) >= _MAX_CONNECTIONS:
            writer.transport.abort()
            return
        self._open.add(writer)
        self.made += 1
        self._tasks.spawn(self._handle(reader, writer), name="sandbox:egress")

    async def _handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            async with asyncio.timeout(_HEAD_TIMEOUT_S):
                head = await reader.readuntil(b"\r\n\r\n")
            await self._pass_on(head, reader, writer)
        except RefusedError as error:
            text = f"trunkline: {error}\n".encode()
            writer.write(
                f"HTTP/1.1 {error.status}\r\nContent-Type: text/plain\r\n"
                f"Content-Length: {len(text)}\r\nConnection: close\r\n\r\n".encode()
                + text
            )
            self._told.say(str(error))
            with contextlib.suppress(OSError):
                await writer.drain()
        except (OSError, TimeoutError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            # The agent went away, or doesn't speak HTTP.
            pass
        finally:
            self._open.discard(writer)
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()

    async def _pass_on(
        self, head: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        host, port, first = _target(head)
        upstream_reader, upstream_writer = await self._connect(host, port)
        self._open.add(upstream_writer)
        try:
            if first:
                upstream_writer.write(first)
            else:
                writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
            async with asyncio.TaskGroup() as group:
                group.create_task(_pump(reader, upstream_writer))
                group.create_task(_pump(upstream_reader, writer))
        except* OSError:
            # One of them is gone, so the other one goes, too.
            pass
        finally:
            self._open.discard(upstream_writer)
            upstream_writer.close()
            with contextlib.suppress(OSError):
                await upstream_writer.wait_closed()

    async def _connect(
        self, host: str, port: int
    ) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        if not self._policy.allows_host(host):
            raise RefusedError(
                "403 Forbidden",
                f"{host} isn't among the hosts this version may reach (TRUNKLINE_EGRESS_ALLOW)",
            )
        error = "it has no address"
        for address in await self._reachable(host, port):
            try:
                async with asyncio.timeout(_CONNECT_TIMEOUT_S):
                    # An address, not the name: it isn't looked up again.
                    return await asyncio.open_connection(address, port)
            except TimeoutError:
                error = f"no answer in {_CONNECT_TIMEOUT_S:g} s"
            except OSError as failed:
                error = failed.strerror or str(failed)
        raise RefusedError("502 Bad Gateway", f"{host}:{port} can't be reached: {error}")

    async def _reachable(self, host: str, port: int) -> Sequence[str]:
        try:
            found = await self._resolver.addresses(host, port)
        except (OSError, UnicodeError) as error:
            raise RefusedError("502 Bad Gateway", f"{host} has no address: {error}") from None
        allowed = []
        reason = ""
        for text in found:
            why = refusal(ipaddress.ip_address(text.partition("%")[0]), self._policy.private)
            if why is None:
                allowed.append(text)
            else:
                reason = f"{host} is {text}, which {why}" if host != text else f"{host} {why}"
        if not allowed:
            raise RefusedError(
                "403 Forbidden", f"{reason}; agents reach public addresses only (network outbound)"
            )
        return allowed


def _target(head: bytes) -> tuple[str, int, bytes]:
    """Return the host, the port, and what it is to be sent first; nothing for a tunnel.

    Raises:
        RefusedError: If it isn't a request to a proxy.
    """
    line, _, fields = head.partition(b"\r\n")
    words = line.decode("latin-1").split(" ")
    refused = RefusedError(
        "400 Bad Request", "this is a proxy: it takes CONNECT host:port, and http:// addresses"
    )
    if len(words) != 3:
        raise refused
    method, target, version = words
    try:
        if method == "CONNECT":
            parts = urlsplit(f"//{target}")
            default = 443
        else:
            parts = urlsplit(target)
            default = 80
            if parts.scheme != "http":
                raise refused
        host, port = parts.hostname, parts.port or default
    except ValueError:
        raise refused from None
    if not host:
        raise refused
    if method == "CONNECT":
        return host, port, b""
    path = parts.path or "/"
    if parts.query:
        path += f"?{parts.query}"
    kept = [
        field
        for field in fields.split(b"\r\n")
        if field and not field.lower().startswith(_HOP_BY_HOP)
    ]
    first = [f"{method} {path} {version}".encode("latin-1"), *kept, b"Connection: close"]
    return host, port, b"\r\n".join(first) + b"\r\n\r\n"


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(_READ_BYTES):
        writer.write(data)
        await writer.drain()
    if writer.can_write_eof():
        writer.write_eof()
