"""What counts as an answer to ``GET /readiness``."""

import asyncio
from pathlib import Path

import pytest

from trunkline.runtimes.interface import Address
from trunkline.runtimes.process.listening import Endpoint
from trunkline.runtimes.process.readiness import find_ready, is_ready


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", True),
        (b"HTTP/1.0 200 OK\r\n\r\n{}", True),
        (b"HTTP/1.1 204 No Content\r\n\r\n", False),
        (b"HTTP/1.1 302 Found\r\nLocation: /\r\n\r\n", False),
        (b"HTTP/1.1 404 Not Found\r\n\r\n", False),
        (b"HTTP/1.1 503 Busy\r\n\r\n", False),
        (b"HTTP/1.1 200 OK\r\n", False),
        (b"SSH-2.0-200\r\n\r\n", False),
        (b"\xff" * 200_000, False),
        (b"", False),
    ],
)
async def test_only_200_is_ready(answer: bytes, expected: bool) -> None:
    asked = asyncio.get_running_loop().create_future()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.set_result(await reader.readuntil(b"\r\n\r\n"))
        writer.write(answer)
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        assert await is_ready(Address(port=port), timeout_s=10) is expected
    head = (await asked).decode()
    assert head.startswith("GET /readiness HTTP/1.1\r\nHost: ")
    assert "Connection: close" in head


async def test_silence_is_not_waited_for() -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        assert not await is_ready(Address(port=port), timeout_s=0.05)


async def test_nobody_listening_is_not_ready(tmp_path: Path) -> None:
    place = Endpoint.make(tmp_path)
    assert await find_ready(place, timeout_s=5) is None
    place.remove()


async def test_socket_that_is_there_is_the_one_to_ask(tmp_path: Path) -> None:
    place = Endpoint.make(tmp_path)
    path = place.socket_path

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
        writer.close()

    async with await asyncio.start_unix_server(serve, path):
        assert await find_ready(place, timeout_s=5) == Address(path=path)
    place.remove()
