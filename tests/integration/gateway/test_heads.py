"""Heads that are too large, too slow, or no HTTP at all."""

import asyncio
import contextlib
import logging
import random
from collections.abc import AsyncIterator

import pytest

from tests.support.gateway import NEW_PATH, Gateway, running_gateway
from tests.unit.gateway.answers import assert_refused, parse_answer
from trunkline.runtimes.interface import Address

NOBODY = Address(path="/nobody-listens-here.sock")
LIMIT = 2048
HEALTH = b"GET /healthz HTTP/1.1\r\nHost: x\r\n"
_RANDOM = random.Random(7)

GARBAGE = {
    "nothing": b"",
    "nul": b"\0" * 300,
    "a tls hello": bytes.fromhex("16030100a5010000a10303") + _RANDOM.randbytes(154),
    "an ssl2 hello": bytes.fromhex("802e0100020015000000100100800200800300800400"),
    "an http/2 preface": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0",
    "ssh": b"SSH-2.0-OpenSSH_9.6\r\n",
    "smtp": b"EHLO example.org\r\n",
    "a proxy header": b"PROXY TCP4 1.2.3.4 5.6.7.8 1 2\r\n" + HEALTH + b"\r\n",
    "http/0.9": b"GET /\r\n",
    "http/3.7": b"GET / HTTP/3.7\r\n\r\n",
    "no version": b"GET /healthz\r\nHost: x\r\n\r\n",
    "a bare colon": HEALTH + b": x\r\n\r\n",
    "a space before the colon": HEALTH + b"a : x\r\n\r\n",
    "a folded header": HEALTH + b"a: b\r\n c\r\n\r\n",
    "a nul in a header": HEALTH + b"a: b\0c\r\n\r\n",
    "a bare cr": HEALTH + b"a: b\rc\r\n\r\n",
    "a negative length": b"POST /healthz HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n",
    "an endless length": b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: "
    + b"9" * 40
    + b"\r\n\r\n",
    "two lengths": HEALTH + b"Content-Length: 1\r\nContent-Length: 2\r\n\r\nxx",
    "a length and chunks": HEALTH + b"Content-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\nxx",
    "a bad chunk": b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nZZ\r\n",
    "a url with a nul": b"GET /\0 HTTP/1.1\r\nHost: x\r\n\r\n",
    "a url without a path": b"GET ? HTTP/1.1\r\nHost: x\r\n\r\n",
    "an upgrade to nowhere": b"GET * HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\n"
    b"Upgrade: websocket\r\n\r\n",
    "an upgrade by authority": b"CONNECT x:1 HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\n"
    b"Upgrade: websocket\r\n\r\n",
    "an upgrade of http/1.0": b"GET / HTTP/1.0\r\nConnection: Upgrade\r\n"
    b"Upgrade: websocket\r\n\r\n",
    "an upgrade with a body": b"GET / HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\n"
    b"Upgrade: websocket\r\nContent-Length: 3\r\n\r\nabc",
    "connect": b"CONNECT example.org:443 HTTP/1.1\r\nHost: x\r\n\r\n",
    "a websocket frame": b"\x81\x85\0\0\0\0hello",
    "json": b'{"jsonrpc": "2.0"}\n',
    **{f"noise {n}": _RANDOM.randbytes(_RANDOM.randrange(1, 3000)) for n in range(12)},
    **{
        f"a head with noise {n}": HEALTH
        + _RANDOM.randbytes(_RANDOM.randrange(1, 200))
        + b"\r\n\r\n"
        for n in range(12)
    },
}


@contextlib.asynccontextmanager
async def gateway_for_heads(
    caplog: pytest.LogCaptureFixture, **settings: float
) -> AsyncIterator[Gateway]:
    """A gateway that must have no connection, no session and no complaint in the end."""
    async with running_gateway(NOBODY, **{"max_head_bytes": LIMIT, **settings}) as gateway:
        yield gateway
        await gateway.answers()
        assert not gateway.server.server_state.connections
        assert not gateway.sessions.held
    calm = [r.getMessage() for r in caplog.records if r.levelno >= logging.ERROR or r.exc_info]
    assert calm == []


async def send_all(gateway: Gateway, *parts: bytes) -> bytes:
    """Send parts, each once the one before has been read, and return all that comes back.

    A client that goes on after the answer would have its connection reset, answer and all.
    """
    reader, writer = await gateway.open()
    for part in parts:
        writer.write(part)
        await gateway.answers()
        if reader._buffer:  # type: ignore[attr-defined]
            break
    try:
        return await reader.read()
    finally:
        writer.transport.abort()


OVERSIZE = {
    "many headers": b"".join(b"x-%d: %s\r\n" % (n, b"y" * 50) for n in range(60)),
    "one value": b"x: " + b"y" * 3000 + b"\r\n",
    "one name": b"y" * 3000 + b": x\r\n",
}


@pytest.mark.parametrize("kind", OVERSIZE)
async def test_an_oversize_head_in_one_segment(caplog: pytest.LogCaptureFixture, kind: str) -> None:
    async with gateway_for_heads(caplog) as gateway:
        raw = await send_all(gateway, HEALTH + OVERSIZE[kind] + b"\r\n")
        assert_refused(raw, 431, "head_too_large", "max_head_bytes", str(LIMIT))


@pytest.mark.parametrize("kind", OVERSIZE)
async def test_an_oversize_head_in_many_segments(
    caplog: pytest.LogCaptureFixture, kind: str
) -> None:
    async with gateway_for_heads(caplog) as gateway:
        head = HEALTH + OVERSIZE[kind] + b"\r\n"
        raw = await send_all(gateway, *(head[i : i + 500] for i in range(0, len(head), 500)))
        assert_refused(raw, 431, "head_too_large", "max_head_bytes")


async def test_an_oversize_request_line(caplog: pytest.LogCaptureFixture) -> None:
    async with gateway_for_heads(caplog) as gateway:
        raw = await send_all(gateway, b"GET /" + b"a" * 3000 + b" HTTP/1.1\r\nHost: x\r\n\r\n")
        assert_refused(raw, 431, "head_too_large", "max_head_bytes")


@pytest.mark.parametrize("start", [HEALTH + b"x: ", HEALTH, b"GET /", b"GET /?"])
async def test_a_head_that_never_ends(caplog: pytest.LogCaptureFixture, start: bytes) -> None:
    async with gateway_for_heads(caplog) as gateway:
        raw = await send_all(gateway, start, *[b"a" * 1000] * 3)
        assert_refused(raw, 431, "head_too_large", "max_head_bytes")


async def test_a_head_that_never_ends_and_began_with_one_large_segment(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The bound holds for the first segment too, and not only once a second one comes."""
    async with gateway_for_heads(caplog, head_timeout_s=1.0) as gateway:
        raw = await send_all(gateway, HEALTH + b"x: " + b"a" * 60_000)
        assert_refused(raw, 431, "head_too_large", "max_head_bytes")


async def test_an_oversize_head_on_a_kept_alive_connection(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with gateway_for_heads(caplog) as gateway:
        reader, writer = await gateway.open()
        for _ in range(3):
            writer.write(HEALTH + b"x: " + b"y" * 1000 + b"\r\n\r\n")
            answer = parse_answer(await reader.readuntil(b"\r\n\r\n"))
            assert answer.status == 200
            await reader.readexactly(int(answer.headers["content-length"]))
        writer.write(HEALTH + OVERSIZE["one value"] + b"\r\n")
        assert_refused(await reader.read(), 431, "head_too_large", "max_head_bytes")
        writer.transport.abort()


async def test_an_oversize_head_of_an_upgrade(caplog: pytest.LogCaptureFixture) -> None:
    async with gateway_for_heads(caplog) as gateway:
        raw = await send_all(gateway, gateway.upgrade_head(NEW_PATH, "x: " + "y" * 3000))
        assert_refused(raw, 431, "head_too_large", "max_head_bytes")
        assert gateway.sessions.asked == []


async def test_a_head_just_within_the_limit(caplog: pytest.LogCaptureFixture) -> None:
    async with gateway_for_heads(caplog) as gateway:
        head = HEALTH + b"Connection: close\r\nx: "
        raw = await send_all(gateway, head + b"y" * (LIMIT - len(head) - 4) + b"\r\n\r\n")
        assert parse_answer(raw).status == 200


async def test_a_body_is_no_head(caplog: pytest.LogCaptureFixture) -> None:
    async with gateway_for_heads(caplog) as gateway:
        head = b"POST /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n"
        body = b"Content-Length: 100000\r\n\r\n" + b"x" * 100_000
        assert parse_answer(await send_all(gateway, head + body)).status == 405


async def test_trailers_are_bounded_as_heads_are(caplog: pytest.LogCaptureFixture) -> None:
    async with gateway_for_heads(caplog) as gateway:
        head = b"POST /healthz HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nx: "
        reader, writer = await gateway.open()
        writer.write(head)
        sent = 0
        with contextlib.suppress(ConnectionError):
            while not reader.at_eof() and sent < 4 * 2**20:
                writer.write(b"y" * 65536)
                await writer.drain()
                await gateway.answers()
                sent += 65536
        writer.transport.abort()
        assert sent < 4 * 2**20


@pytest.mark.parametrize("parts", [[], [b"G"], [HEALTH], [HEALTH, b"x"]])
async def test_a_slow_head(caplog: pytest.LogCaptureFixture, parts: list[bytes]) -> None:
    async with gateway_for_heads(caplog, head_timeout_s=0.15) as gateway:
        raw = await send_all(gateway, *parts)
        assert_refused(raw, 408, "head_timeout", "head_timeout_s", "0.15")


async def test_a_trickle_is_a_slow_head_too(caplog: pytest.LogCaptureFixture) -> None:
    async with gateway_for_heads(caplog, head_timeout_s=0.2, max_head_bytes=65536) as gateway:
        reader, writer = await gateway.open()
        for byte in HEALTH + b"x: " + b"y" * 50_000:
            writer.write(bytes((byte,)))
            await gateway.answers()
            if reader.at_eof() or reader._buffer:  # type: ignore[attr-defined]
                break
        assert_refused(await reader.read(), 408, "head_timeout")
        writer.transport.abort()


async def test_a_slow_head_on_a_kept_alive_connection(caplog: pytest.LogCaptureFixture) -> None:
    async with gateway_for_heads(caplog, head_timeout_s=0.15) as gateway:
        reader, writer = await gateway.open()
        writer.write(HEALTH + b"\r\n")
        answer = parse_answer(await reader.readuntil(b"\r\n\r\n"))
        await reader.readexactly(int(answer.headers["content-length"]))
        writer.write(b"GET /heal")
        assert_refused(await reader.read(), 408, "head_timeout")
        writer.transport.abort()


async def test_a_session_that_starts_slowly_is_no_slow_head(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with gateway_for_heads(caplog, head_timeout_s=0.1) as gateway:
        gateway.sessions.gate.clear()
        reader, writer = await gateway.open()
        writer.write(gateway.upgrade_head())
        # A connection opened later has run out of its time when this returns.
        silent, other = await gateway.open()
        assert_refused(await silent.read(), 408, "head_timeout")
        other.close()
        assert not reader._buffer  # type: ignore[attr-defined]
        writer.transport.abort()


@pytest.mark.parametrize(
    "kind", ["nul", "a tls hello", "ssh", "a space before the colon", "two lengths", "json"]
)
async def test_what_is_not_http_is_answered_400(
    caplog: pytest.LogCaptureFixture, kind: str
) -> None:
    async with gateway_for_heads(caplog) as gateway:
        raw = await send_all(gateway, GARBAGE[kind])
        assert_refused(raw, 400, "invalid_request", "isn't an HTTP request")


@pytest.mark.parametrize("ending", ["half-close", "silence", "abort"])
async def test_no_garbage_hangs_or_breaks_anything(
    caplog: pytest.LogCaptureFixture, ending: str
) -> None:
    caplog.set_level(logging.INFO)

    async def try_one(gateway: Gateway, garbage: bytes) -> bytes:
        reader, writer = await gateway.open()
        try:
            writer.write(garbage)
            await writer.drain()
            if ending == "abort":
                return b""
            if ending == "half-close":
                writer.write_eof()
            return await reader.read()
        except ConnectionError:
            return b""
        finally:
            writer.transport.abort()

    # uvicorn's own answers keep a connection for 5 s; silence has to end before the test does.
    async with gateway_for_heads(caplog, head_timeout_s=0.3) as gateway:
        answers = await asyncio.gather(*(try_one(gateway, raw) for raw in GARBAGE.values()))
        await gateway.answers()
        assert gateway.sessions.asked == []
    for kind, raw in zip(GARBAGE, answers, strict=True):
        assert not raw or raw.startswith(b"HTTP/1.1 "), kind
        assert b" 101 " not in raw, kind
        assert b" 500 " not in raw, kind
