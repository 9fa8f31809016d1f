"""Requests that two servers might read in two ways are refused, and nothing is read behind them."""

import asyncio

import pytest

from tests.integration.gateway.test_http_limits import INVOKE
from tests.integration.gateway.test_relay import echo_gateway
from tests.support.gateway import NEW_PATH, Gateway, raw_agent, running_gateway

#: What an attacker wants to be taken for a request of its own.
SMUGGLED = b"GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
#: How a client asks for HTTP/2, as Java's does in each of its requests.
H2C = ("Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: AAMAAABkAAQAAP__")


def post(*lines: str, version: str = "1.1") -> bytes:
    return (
        "\r\n".join([f"POST / HTTP/{version}", "Host: x", *lines]).encode("latin-1") + b"\r\n\r\n"
    )


def get(*lines: str) -> bytes:
    return "\r\n".join(["GET /healthz HTTP/1.1", *lines]).encode("latin-1") + b"\r\n\r\n"


HEADS = {
    "both lengths": post("Content-Length: 5", "Transfer-Encoding: chunked"),
    "both lengths, the other way round": post("Transfer-Encoding: chunked", "Content-Length: 5"),
    "two lengths": post("Content-Length: 5", "Content-Length: 6"),
    "one length twice": post("Content-Length: 5", "Content-Length: 5"),
    "a list of lengths": post("Content-Length: 5, 5"),
    "a length with a plus": post("Content-Length: +5"),
    "a negative length": post("Content-Length: -5"),
    "a length in hex": post("Content-Length: 0x5"),
    "a length in two parts": post("Content-Length: 5 5"),
    "no length": post("Content-Length:"),
    "a length over 64 bits": post("Content-Length: 18446744073709551621"),
    "identity": post("Transfer-Encoding: identity"),
    "almost chunked": post("Transfer-Encoding: xchunked"),
    "chunked not last": post("Transfer-Encoding: chunked, identity"),
    "another coding, too": post("Transfer-Encoding: gzip, chunked"),
    "chunked twice": post("Transfer-Encoding: chunked", "Transfer-Encoding: chunked"),
    "chunked, then not": post("Transfer-Encoding: chunked", "Transfer-Encoding: identity"),
    "chunked in HTTP/1.0": post("Transfer-Encoding: chunked", version="1.0"),
    "chunked behind a vertical tab": post("Transfer-Encoding: \x0bchunked"),
    "a space before the colon": post("Transfer-Encoding : chunked"),
    "a folded line": get("Host: x", "A: b", " c"),
    "a folded line with a tab": get("Host: x", "A: b", "\tc"),
    "a folded first line": get(" Host: x"),
    "bare LF": b"GET /healthz HTTP/1.1\nHost: x\n\n",
    "bare LF after a header": b"GET /healthz HTTP/1.1\r\nHost: x\nA: b\r\n\r\n",
    "bare LF at the end": b"GET /healthz HTTP/1.1\r\nHost: x\r\n\n",
    "bare CR": get("Host: x\rA: b"),
    "bare CR in a value": get("Host: x", "A: b\rc"),
    "NUL in a value": get("Host: x", "A: b\0c"),
    "NUL in a name": get("Host: x", "A\0: b"),
    "a space in a name": get("Host: x", "A B: c"),
    "no name": get("Host: x", ": b"),
    "no colon": get("Host: x", "abc"),
    "no host": get("A: b"),
    "two hosts": get("Host: x", "Host: y"),
    "a host with a space": get("Host: x y"),
    "a host and a path": get("Host: x/y"),
    "a host of somebody": get("Host: x@y"),
    "HTTP/0.9": b"GET /healthz\r\n\r\n",
    "HTTP/1.2": b"GET /healthz HTTP/1.2\r\nHost: x\r\n\r\n",
    "HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "a space behind the version": b"GET /healthz HTTP/1.1 \r\nHost: x\r\n\r\n",
    "a space in the target": b"GET /heal thz HTTP/1.1\r\nHost: x\r\n\r\n",
    "a control character in the target": b"GET /\x01 HTTP/1.1\r\nHost: x\r\n\r\n",
}

BODIES = {
    "no digits": b"zz\r\n12345\r\n0\r\n\r\n",
    "a prefix": b"0x5\r\n12345\r\n0\r\n\r\n",
    "a sign": b"-1\r\n\r\n",
    "over 64 bits": b"10000000000000005\r\n12345\r\n0\r\n\r\n",
    "bare LF after the size": b"5\n12345\r\n0\r\n\r\n",
    "bare LF after the data": b"5\r\n12345\n0\r\n\r\n",
    "more data than announced": b"5\r\n1234567\r\n0\r\n\r\n",
    "bare LF in an extension": b"5;a\nb\r\n12345\r\n0\r\n\r\n",
    "a space behind the size": b"5 \r\n12345\r\n0\r\n\r\n",
    "a length as a trailer": b"5\r\n12345\r\n0\r\nContent-Length: 5\r\n\r\n",
}


async def all_of(gateway: Gateway, data: bytes) -> bytes:
    reader, writer = await gateway.open()
    writer.write(data)
    answer = await reader.read()
    writer.close()
    return answer


@pytest.mark.parametrize("name", HEADS)
async def test_a_head_that_can_be_read_in_two_ways_is_400(name: str) -> None:
    async with echo_gateway() as gateway:
        answer = await all_of(gateway, HEADS[name] + b"0\r\n\r\n" + SMUGGLED)
        assert answer.startswith(b"HTTP/1.1 400 ")
        assert b"connection: close" in answer
        assert answer.count(b"HTTP/1.1 ") == 1
        assert b"trunkline_upgrades" not in answer


@pytest.mark.parametrize("name", HEADS)
async def test_it_is_so_also_behind_another_request(name: str) -> None:
    async with echo_gateway() as gateway:
        good = b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"
        reader, writer = await gateway.open()
        writer.write(good)
        await reader.readuntil(b'{"status":"alive"}')
        writer.write(HEADS[name] + b"0\r\n\r\n" + SMUGGLED)
        answer = await reader.read()
        assert answer.startswith(b"HTTP/1.1 400 ")
        assert answer.count(b"HTTP/1.1 ") == 1
        writer.close()


@pytest.mark.parametrize("name", BODIES)
async def test_a_body_that_is_no_body_ends_the_connection(name: str) -> None:
    got: list[bytes] = []

    async def take(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        got.append(await reader.read())

    async with raw_agent(take) as address, running_gateway(address) as gateway:
        head = (
            f"POST {INVOKE} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {gateway.token()}\r\n"
            "Transfer-Encoding: chunked\r\n\r\n"
        )
        answer = await all_of(gateway, head.encode() + BODIES[name] + SMUGGLED)
        assert b"HTTP/1.1 2" not in answer
        assert b"trunkline_upgrades" not in answer
        await gateway.sessions.all_returned.wait()
        # What the agent got of it has no end, so it can't take it for whole.
        assert not any(part.endswith(b"0\r\n\r\n") for part in got)
        assert not any(b"/metrics" in part for part in got)


async def test_what_comes_behind_a_body_is_no_header() -> None:
    got: list[bytes] = []

    async def take(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        got.append(await reader.readuntil(b"0\r\n\r\n"))
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n")

    async with raw_agent(take) as address, running_gateway(address) as gateway:
        head = f"POST {INVOKE} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n"
        head += "Transfer-Encoding: chunked\r\n"
        who = f"Authorization: Bearer {gateway.token()}\r\n"
        body = "\r\n5\r\nhello\r\n0\r\n"
        # In one read with the head, so that it would be there before anybody looks.
        answer = await all_of(gateway, f"{head}{body}{who}\r\n".encode())
        assert answer.startswith(b"HTTP/1.1 401 ")
        assert not got
        said = (
            "x-ms-user-identity: olga\r\nx-agent-user-id: olga\r\nx-client-name: olga\r\n"
            "traceparent: olga\r\nauthorization: Bearer olga\r\nhost: olga\r\n"
        )
        answer = await all_of(gateway, f"{head}{who}{body}{said}\r\n".encode())
        assert answer.startswith(b"HTTP/1.1 200 ")
        assert b"hello" in got[0]
        assert b"olga" not in got[0]


async def test_pipelined_requests_are_answered_in_their_order() -> None:
    async with echo_gateway() as gateway:
        one = b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"
        two = f"POST /none HTTP/1.1\r\nHost: x\r\nContent-Length: {len(one)}\r\n\r\n".encode() + one
        three = b"GET /readyz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
        answer = await all_of(gateway, one + two + three)
        statuses = [part[:3] for part in answer.split(b"HTTP/1.1 ")[1:]]
        assert statuses == [b"200", b"404", b"200"]
        assert answer.endswith(b'{"status":"ready"}')


@pytest.mark.parametrize("body", ["Content-Length: 5", "Transfer-Encoding: chunked"])
async def test_an_upgrade_with_a_body_is_refused(body: str) -> None:
    async with echo_gateway() as gateway:
        answer = await all_of(gateway, gateway.upgrade_head(NEW_PATH, body) + b"12345")
        assert answer.startswith(b"HTTP/1.1 400 ")
        assert not gateway.sessions.asked


@pytest.mark.parametrize("method", ["POST", "PUT", "HEAD", "OPTIONS", "DELETE"])
async def test_only_a_get_upgrades(method: str) -> None:
    async with echo_gateway() as gateway:
        answer = await all_of(gateway, gateway.upgrade_head().replace(b"GET", method.encode(), 1))
        assert answer.startswith(b"HTTP/1.1 400 ")
        assert not gateway.sessions.asked


async def test_another_protocol_is_not_upgraded_to() -> None:
    async with echo_gateway() as gateway:
        answer = await all_of(gateway, get("Host: x", *H2C) + SMUGGLED)
        assert answer.startswith(b"HTTP/1.1 200 ")
        assert b"101" not in answer.split(b"\r\n")[0]
        # It is a request as any other: the one behind it has an answer of its own, in its place.
        assert answer.count(b"HTTP/1.1 200 ") == 2
        assert b"trunkline_upgrades" in answer.split(b"HTTP/1.1 200 ")[2]


#: A body that is a request, and how it is announced and written.
BODIES_OF_UPGRADES = {
    "length": (f"Content-Length: {len(SMUGGLED)}", SMUGGLED),
    "chunks": (
        "Transfer-Encoding: chunked",
        b"%x\r\n%b\r\n0\r\nX-Trailer: 1\r\n\r\n" % (len(SMUGGLED), SMUGGLED),
    ),
}


@pytest.mark.parametrize("is_late", [False, True])
@pytest.mark.parametrize("kind", BODIES_OF_UPGRADES)
async def test_the_body_of_a_request_for_another_protocol_is_its_body(
    kind: str, is_late: bool
) -> None:
    got: list[bytes] = []

    async def take(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        end = b"0\r\n\r\n" if b"chunked" in head.lower() else SMUGGLED
        got.append(await reader.readuntil(end))
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\nconnection: close\r\n\r\nagent")

    announced, body = BODIES_OF_UPGRADES[kind]
    async with raw_agent(take) as address, running_gateway(address) as gateway:
        lines = [
            f"POST {INVOKE} HTTP/1.1",
            "Host: x",
            f"Authorization: Bearer {gateway.token()}",
            *H2C,
            announced,
        ]
        reader, writer = await gateway.open()
        writer.write("\r\n".join(lines).encode() + b"\r\n\r\n")
        if is_late:
            await gateway.answers()
        writer.write(body + get("Host: x", "Connection: close"))
        answer = await reader.read()
        writer.close()
        # One for the request, one for what is behind its body, and none for what is in its body.
        assert [part[:3] for part in answer.split(b"HTTP/1.1 ")[1:]] == [b"200", b"200"]
        assert b"agent" in answer
        assert answer.endswith(b'{"status":"alive"}')
        assert SMUGGLED in got[0]
