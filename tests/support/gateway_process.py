"""A gateway, or the agent behind it, in a process of its own: for tests that count its memory.

``python -m tests.support.gateway_process gateway AGENT_SOCKET SETTINGS`` prints where it listens
and a token; ``... agent AGENT_SOCKET`` serves connections: it echoes frames, or sends as much as is
taken if the query has ``flood``; ``... clients PORT COUNT KIND`` reads a token as a line and opens
connections: ``deaf`` ones that never read what an agent floods them with, ``idle`` ones, or idle
ones all at once (``storm``). At each line on standard input each of those sends a frame and waits
for its echo. All of them go on until they are killed.
"""

import asyncio
import json
import re
import socket
import sys
import time
from collections import Counter
from pathlib import Path
from typing import cast

import uvloop

from tests.support.gateway import NEW_PATH, running_gateway
from trunkline.auth.rates import RateSettings
from trunkline.runtimes.interface import Address

_BLOCK = (b"\x82\x7e\x40\x00" + bytes(0x4000)) * 4


def upgrade_head(path: str, token: str) -> bytes:
    """Return an upgrade with the sample key of RFC 6455 section 1.3, which the agent answers."""
    return (
        f"GET {path} HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
        "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
        f"Authorization: Bearer {token}\r\n\r\n"
    ).encode()


class Agent(asyncio.Protocol):
    """One connection to the agent. What it echoes it only unmasks: the mask has to be zero."""

    def __init__(self) -> None:
        self._head = bytearray()
        self._is_open = False
        self._is_writable = True
        self._floods = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def pause_writing(self) -> None:
        self._is_writable = False

    def resume_writing(self) -> None:
        self._is_writable = True
        if self._floods:
            asyncio.get_running_loop().call_soon(self._flood)

    def _flood(self) -> None:
        while self._is_writable and not self._transport.is_closing():
            self._transport.write(_BLOCK)

    def data_received(self, data: bytes) -> None:
        if self._is_open:
            if not self._floods:
                # Frames of up to 125 bytes, one a read: more isn't sent to it.
                self._transport.write(data[:1] + bytes((data[1] & 0x7F,)) + data[6:])
            return
        self._head += data
        if b"\r\n\r\n" not in self._head:
            return
        self._is_open = True
        self._floods = re.match(rb"GET \S*flood", self._head) is not None
        self._transport.write(
            b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n"
        )
        if self._floods:
            self._flood()


class Client(asyncio.Protocol):
    """One connection of many."""

    def __init__(self, head: bytes, *, is_deaf: bool) -> None:
        self._head = head
        self._is_deaf = is_deaf
        self._received = bytearray()
        self._is_upgraded = False
        self.answered: asyncio.Future[int] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._transport.write(self._head)

    def data_received(self, data: bytes) -> None:
        self._received += data
        if not self._is_upgraded and b"\r\n\r\n" in self._received:
            self._is_upgraded = True
            if self._is_deaf:
                self._transport.pause_reading()
            self._tell(int(self._received.split(b" ", 2)[1]))
        elif self._is_upgraded and self._received.endswith(b"ping"):
            self._tell(1)

    def _tell(self, what: int) -> None:
        self._received.clear()
        if not self.answered.done():
            self.answered.set_result(what)

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.answered.done():
            self.answered.set_result(0)

    async def ping(self) -> int:
        self.answered = asyncio.get_running_loop().create_future()
        if self._transport.is_closing():
            return 0
        self._transport.write(b"\x82\x84\0\0\0\0ping")
        return await self.answered


async def run_clients(port: str, count: str, kind: str) -> None:
    loop = asyncio.get_running_loop()
    token = (await loop.run_in_executor(None, sys.stdin.readline)).strip()
    head = upgrade_head(NEW_PATH + ("&flood=1" if kind == "deaf" else ""), token)

    # A flood is for those who are there already; a storm comes all at once.
    room = asyncio.Semaphore(int(count) if kind == "storm" else 20)

    async def connect() -> Client:
        async with room:
            client = await open_one()
            await client.answered
        return client

    async def open_one() -> Client:
        sock = socket.socket()
        sock.setblocking(False)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
        await loop.sock_connect(sock, ("127.0.0.1", int(port)))
        _, client = await loop.create_connection(
            lambda: Client(head, is_deaf=kind == "deaf"), sock=sock
        )
        return client

    started = time.monotonic()
    clients = await asyncio.gather(*(connect() for _ in range(int(count))))
    statuses = await asyncio.gather(*(client.answered for client in clients))
    took_s = time.monotonic() - started
    answer = {"upgraded": statuses.count(101), "took_s": took_s, "answers": Counter(statuses)}
    print(json.dumps(answer), flush=True)
    while await loop.run_in_executor(None, sys.stdin.readline):
        echoes = await asyncio.gather(*(client.ping() for client in clients))
        print(json.dumps({"echoed": sum(echoes)}), flush=True)


async def serve_agent(path: str) -> None:
    loop = asyncio.get_running_loop()
    async with await loop.create_unix_server(Agent, path, backlog=4096):
        print(json.dumps({}), flush=True)
        await loop.run_in_executor(None, sys.stdin.read)


async def serve_gateway(path: str, settings: str) -> None:
    # All of them come from one address, of one identity.
    rates = RateSettings(upgrades_per_address=0, upgrades_per_identity=0)
    async with running_gateway(Address(path=path), rates=rates, **json.loads(settings)) as gateway:
        place = {"port": gateway.port, "token": gateway.token(expires_in_s=3600)}
        print(json.dumps(place), flush=True)
        # Until whoever started it has had enough.
        await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)


def resident_bytes(pid: int) -> int:
    """Return how much memory a process has."""
    found = re.search(r"VmRSS:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    assert found is not None
    return int(found[1]) * 1024


if __name__ == "__main__":
    kind, *arguments = sys.argv[1:]
    uvloop.run(
        {"agent": serve_agent, "gateway": serve_gateway, "clients": run_clients}[kind](*arguments)
    )
