"""The way out: what it lets through, and what nobody talks it into."""

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

import pytest

from trunkline.aio.tasks import TaskOwner
from trunkline.runtimes.process.sandbox.addresses import parse_networks
from trunkline.runtimes.process.sandbox.egress import EgressPolicy, EgressProxy, Resolver

LOOPBACK = parse_networks(["127.0.0.1/32"])


class Names(Resolver):
    """Answers from a list; a name with several answers changes what it stands for."""

    def __init__(self, **answers: list[str]) -> None:
        super().__init__(1)
        self.answers = answers
        self.asked: list[str] = []

    async def addresses(self, host: str, port: int) -> list[str]:
        self.asked.append(host)
        name = host.partition(".")[0]
        if name not in self.answers:
            return await super().addresses(host, port)
        found = self.answers[name]
        return [found.pop(0) if len(found) > 1 else found[0]]


class Way:
    """A proxy, and a server on loopback to reach through it."""

    def __init__(self) -> None:
        self.told: list[str] = []
        self.heads: list[bytes] = []
        self.port = 0
        self.proxy_port = 0
        self.location = ""

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        self.heads.append(head)
        where = f"Location: {self.location}\r\n" if self.location else ""
        status = "302 Found" if self.location else "200 OK"
        writer.write(f"HTTP/1.1 {status}\r\n{where}Content-Length: 2\r\n\r\nhi".encode())
        await writer.drain()
        writer.write(await reader.read())
        writer.close()
        await writer.wait_closed()

    async def ask(self, *lines: str, then: bytes = b"") -> bytes:
        reader, writer = await asyncio.open_connection("127.0.0.1", self.proxy_port)
        writer.write("".join(f"{line}\r\n" for line in (*lines, "")).encode())
        if then:
            assert b" 200 " in await reader.readuntil(b"\r\n\r\n")
            writer.write(then)
        writer.write_eof()
        answer = await reader.read()
        writer.close()
        await writer.wait_closed()
        return answer


async def open_way(stack: AsyncExitStack, policy: EgressPolicy, names: Resolver) -> Way:
    way = Way()
    server = await stack.enter_async_context(await asyncio.start_server(way.serve, "127.0.0.1", 0))
    way.port = server.sockets[0].getsockname()[1]
    tasks = TaskOwner()
    stack.push_async_callback(tasks.aclose)
    proxy = EgressProxy(policy, names, tasks=tasks, tell=way.told.append)
    listener = socket.create_server(("127.0.0.1", 0))
    listener.setblocking(False)
    way.proxy_port = listener.getsockname()[1]
    await proxy.serve(listener)
    stack.callback(names.close)
    stack.callback(proxy.close)
    return way


@pytest.fixture
async def stack() -> AsyncIterator[AsyncExitStack]:
    async with AsyncExitStack() as stack:
        yield stack


async def test_a_tunnel_carries_bytes_both_ways(stack: AsyncExitStack) -> None:
    way = await open_way(stack, EgressPolicy(private=LOOPBACK), Resolver())
    answer = await way.ask(
        f"CONNECT 127.0.0.1:{way.port} HTTP/1.1", then=b"GET /x HTTP/1.1\r\n\r\nand more"
    )
    assert answer.endswith(b"hiand more")
    assert way.heads == [b"GET /x HTTP/1.1\r\n\r\n"]
    assert way.told == []


async def test_a_plain_request_is_passed_on_without_what_is_the_proxys(
    stack: AsyncExitStack,
) -> None:
    way = await open_way(stack, EgressPolicy(private=LOOPBACK), Resolver())
    answer = await way.ask(
        f"GET http://127.0.0.1:{way.port}/x?y=1 HTTP/1.1", "Host: h", "Proxy-Authorization: secret",
        "Connection: keep-alive", "Accept: */*",
    )  # fmt: skip
    assert answer.startswith(b"HTTP/1.1 200 OK")
    assert way.heads == [
        b"GET /x?y=1 HTTP/1.1\r\nHost: h\r\nAccept: */*\r\nConnection: close\r\n\r\n"
    ]


async def test_a_private_address_is_refused_in_words(stack: AsyncExitStack) -> None:
    way = await open_way(stack, EgressPolicy(), Resolver())
    answer = await way.ask(f"CONNECT 127.0.0.1:{way.port} HTTP/1.1")
    assert answer.startswith(b"HTTP/1.1 403 Forbidden")
    assert b"127.0.0.1 isn't a public address" in answer
    assert way.told == [
        "127.0.0.1 isn't a public address; agents reach public addresses only (network outbound)"
    ]
    assert way.heads == []


async def test_a_name_that_changes_what_it_stands_for_gains_nothing(stack: AsyncExitStack) -> None:
    names = Names(good=["127.0.0.1", "127.0.0.2"], rebound=["127.0.0.2", "127.0.0.1"])
    way = await open_way(stack, EgressPolicy(private=LOOPBACK), names)
    # The first answer is looked at and connected to; there is no second question.
    assert b"hi" in await way.ask(f"GET http://good.test:{way.port}/ HTTP/1.1")
    assert names.asked == ["good.test"]
    assert b" 403 " in await way.ask(f"GET http://rebound.test:{way.port}/ HTTP/1.1")
    assert names.asked == ["good.test", "rebound.test"]


async def test_a_redirect_is_a_new_request(stack: AsyncExitStack) -> None:
    way = await open_way(stack, EgressPolicy(private=LOOPBACK), Names())
    way.location = f"http://127.0.0.2:{way.port}/secret"
    answer = await way.ask(f"GET http://127.0.0.1:{way.port}/ HTTP/1.1")
    assert b"302 Found" in answer
    assert len(way.heads) == 1
    assert b" 403 " in await way.ask(f"GET {way.location} HTTP/1.1")
    assert len(way.heads) == 1


async def test_hosts_that_are_not_listed_are_not_even_looked_up(stack: AsyncExitStack) -> None:
    names = Names()
    way = await open_way(stack, EgressPolicy(allow=("api.example.com",)), names)
    answer = await way.ask("CONNECT evil.example.com:443 HTTP/1.1")
    assert b" 403 " in answer
    assert b"TRUNKLINE_EGRESS_ALLOW" in answer
    assert names.asked == []


@pytest.mark.parametrize(
    "line",
    ["GET / HTTP/1.1", "GET https://x/ HTTP/1.1", "CONNECT :443 HTTP/1.1", "nonsense",
     "CONNECT h:99999 HTTP/1.1", "GET http:// HTTP/1.1", "GET file:///etc/passwd HTTP/1.1"],
)  # fmt: skip
async def test_what_is_no_request_to_a_proxy_is_refused(stack: AsyncExitStack, line: str) -> None:
    way = await open_way(stack, EgressPolicy(), Resolver())
    assert (await way.ask(line)).startswith(b"HTTP/1.1 400 ")


async def test_the_log_is_not_flooded(stack: AsyncExitStack) -> None:
    way = await open_way(stack, EgressPolicy(), Resolver())
    for _ in range(30):
        await way.ask("CONNECT 10.0.0.1:80 HTTP/1.1")
    assert len(way.told) == 20
    assert way.told[-1].endswith("no more such lines are written")
