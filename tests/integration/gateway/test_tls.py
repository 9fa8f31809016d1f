"""TLS in the gateway: WebSockets, HTTP, bounds and a certificate that changes."""

import asyncio
import contextlib
import os
import ssl
from pathlib import Path

import pytest
from websockets.exceptions import ConnectionClosed

from tests.integration.gateway.test_http_limits import INVOKE
from tests.integration.gateway.test_limits import FLOOD, counted, until
from tests.integration.gateway.test_relay import echo_gateway
from tests.support.certificates import trusting, write_certificate
from tests.support.gateway import Gateway, accept_upgrade, raw_agent, running_gateway
from trunkline.config import SettingsError
from trunkline.gateway.settings import GatewaySettings
from trunkline.platform.certificate import Certificate


async def name_shown(gateway: Gateway, context: ssl.SSLContext) -> str:
    _, writer = await asyncio.open_connection("127.0.0.1", gateway.port, ssl=context)
    shown = writer.get_extra_info("ssl_object").getpeercert()
    writer.close()
    with contextlib.suppress(OSError):
        await writer.wait_closed()
    return dict(pair for (pair,) in shown["subject"])["commonName"]


async def get(gateway: Gateway, context: ssl.SSLContext, head: bytes) -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port, ssl=context)
    writer.write(head)
    answer = await reader.read()
    writer.close()
    with contextlib.suppress(OSError):
        await writer.wait_closed()
    return answer


async def test_frames_and_requests_go_through_tls(tmp_path: Path) -> None:
    certificate, key = write_certificate(tmp_path, "one")
    async with echo_gateway(tls_certificate=certificate, tls_key=key) as gateway:
        context = trusting(certificate)
        async with gateway.connect(ssl=context, compression="deflate") as websocket:
            await websocket.send("hello")
            await websocket.send(bytes(2**20))
            assert await websocket.recv() == "hello"
            assert len(await websocket.recv()) == 2**20
        await gateway.sessions.closed.wait()
        assert gateway.sessions.ended[0]["closed_by"] == "client"
        head = b"GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
        assert b'{"status":"alive"}' in await get(gateway, context, head)
        assert (await get(gateway, context, b"rubbish\r\n\r\n")).startswith(b"HTTP/1.1 400 ")


async def test_plain_http_is_not_spoken_then(tmp_path: Path) -> None:
    certificate, key = write_certificate(tmp_path, "one")
    async with echo_gateway(tls_certificate=certificate, tls_key=key) as gateway:
        reader, writer = await gateway.open()
        writer.write(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
        got = b""
        with contextlib.suppress(ConnectionError):
            got = await reader.read()
        assert b"HTTP" not in got
        writer.close()


async def test_a_new_certificate_is_shown_and_open_connections_stay(tmp_path: Path) -> None:
    certificate, key = write_certificate(tmp_path, "one")
    old = trusting(certificate)
    async with echo_gateway(
        tls_certificate=certificate, tls_key=key, tls_reload_interval_s=0.05
    ) as gateway:
        async with gateway.connect(ssl=old) as websocket:
            assert await name_shown(gateway, old) == "one"
            write_certificate(tmp_path, "two")
            new = trusting(certificate)
            async with asyncio.timeout(10):
                while True:
                    with contextlib.suppress(ssl.SSLCertVerificationError):
                        if await name_shown(gateway, new) == "two":
                            break
                    await asyncio.sleep(0.02)
            await websocket.send("still here")
            assert await websocket.recv() == "still here"


async def test_a_pair_that_does_not_fit_is_not_taken(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    certificate, key = write_certificate(tmp_path, "one")
    context = trusting(certificate)
    shown = Certificate(certificate, key)
    other = tmp_path / "other"
    other.mkdir()
    other_certificate, other_key = write_certificate(other, "two")
    os.replace(other_certificate, certificate)
    shown.look()
    assert "isn't changed" in caplog.text
    caplog.clear()
    shown.look()
    assert caplog.text == ""
    certificate.unlink()
    shown.look()
    key.unlink()
    write_certificate(tmp_path, "three")
    with caplog.at_level("INFO"):
        shown.look()
    assert "read anew" in caplog.text
    assert context is not None
    assert other_key.exists()


def test_what_cannot_be_used_stops_the_start(tmp_path: Path) -> None:
    certificate, key = write_certificate(tmp_path, "one")
    for bad in (tmp_path / "none.pem", key):
        with pytest.raises(SettingsError, match="TRUNKLINE_GATEWAY_TLS_CERTIFICATE"):
            Certificate.of(GatewaySettings(tls_certificate=bad, tls_key=key))
    with pytest.raises(ValueError, match="tls_key needs tls_certificate"):
        GatewaySettings(tls_key=key)
    both = tmp_path / "both.pem"
    both.write_bytes(certificate.read_bytes() + key.read_bytes())
    assert Certificate.of(GatewaySettings(tls_certificate=both)) is not None
    assert Certificate.of(GatewaySettings()) is None


async def test_a_handshake_that_is_never_made_is_cut(tmp_path: Path) -> None:
    certificate, key = write_certificate(tmp_path, "one")
    async with echo_gateway(
        tls_certificate=certificate, tls_key=key, head_timeout_s=0.2
    ) as gateway:
        reader, writer = await gateway.open()
        with contextlib.suppress(ConnectionError):
            assert await asyncio.wait_for(reader.read(), 5) == b""
        writer.close()


async def test_the_bounds_hold_inside_tls(tmp_path: Path) -> None:
    certificate, key = write_certificate(tmp_path, "one")
    tls = {"tls_certificate": certificate, "tls_key": key}
    context = trusting(certificate)

    async def flood(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        if head.startswith(b"POST"):
            writer.write(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n")
        else:
            reader.feed_data(head)
            await accept_upgrade(reader, writer)
        with contextlib.suppress(ConnectionError):
            while not writer.is_closing():
                writer.write(b"4004\r\n" + FLOOD + b"\r\n" if head.startswith(b"POST") else FLOOD)
                await writer.drain()

    async with raw_agent(flood) as address:
        async with running_gateway(
            address, stalled_reader_s=0.4, close_timeout_s=0.2, **tls
        ) as gateway:
            invoke = (
                f"POST {INVOKE} HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n"
                f"Authorization: Bearer {gateway.token()}\r\n\r\n"
            )
            for number, head in enumerate((gateway.upgrade_head(), invoke.encode()), 1):
                _, writer = await asyncio.open_connection(
                    "127.0.0.1", gateway.port, ssl=context, limit=1024
                )
                writer.write(head)
                await until(lambda count=number: counted(gateway, "stalled_reader_s") == count)
                await until(lambda: not gateway.sessions.held)
                writer.transport.abort()
            assert gateway.sessions.ended[0]["code"] == 1013


async def test_a_drain_and_a_frame_limit_inside_tls(tmp_path: Path) -> None:
    certificate, key = write_certificate(tmp_path, "one")
    context = trusting(certificate)
    async with echo_gateway(
        tls_certificate=certificate, tls_key=key, max_frame_bytes=1000, drain_quiet_s=0.1
    ) as gateway:
        async with gateway.connect(ssl=context) as websocket:
            await websocket.send(bytes(1001))
            with pytest.raises(ConnectionClosed):
                await websocket.recv()
            assert websocket.close_code == 1009
        async with gateway.connect(ssl=context) as websocket:
            gateway.server.stop()
            await websocket.wait_closed()
            assert websocket.close_code == 1001
        await gateway.serving
