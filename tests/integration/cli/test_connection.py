"""The client's WebSocket, against a stand-in for a platform."""

import asyncio

import pytest

from tests.integration.cli.conftest import FakePlatform
from trunkline.client import BadAnswerError, ClosedError, Project, RefusedError, UnreachableError


def project(platform: FakePlatform) -> Project:
    return Project(platform.url, "token")


async def test_a_conversation(platform: FakePlatform) -> None:
    async with project(platform) as demo, demo.connect("echo", session_id="mine") as talk:
        assert talk.session_id == "mine"
        await talk.send("hello")
        await talk.send(b"\x00" * 100_000)
        assert await talk.receive() == "HELLO"
        assert await talk.receive() == b"\x00" * 100_000
    assert talk.close_code == 1000
    await talk.aclose()
    with pytest.raises(ClosedError):
        await talk.send("too late")


async def test_iteration_ends_with_an_error_if_the_code_says_so(platform: FakePlatform) -> None:
    async with project(platform) as demo:
        talk = aiter(await demo.connect("closer"))
        assert await anext(talk) == "bye"
        with pytest.raises(ClosedError, match="closed with 4001") as raised:
            await anext(talk)
    assert (raised.value.close_code, raised.value.reason) == (4001, "enough")


async def test_receiving_can_be_cancelled(platform: FakePlatform) -> None:
    async with project(platform) as demo, demo.connect("echo") as talk:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.01):
                await talk.receive()
        await talk.send("still there")
        assert await talk.receive() == "STILL THERE"


async def test_a_refused_upgrade_is_typed(platform: FakePlatform) -> None:
    async with project(platform) as demo:
        with pytest.raises(RefusedError, match="no agent 'nobody'") as raised:
            await demo.connect("nobody")
        assert (raised.value.status, raised.value.code) == (404, "agent_not_found")
        with pytest.raises(RefusedError) as raised:
            await demo.connect("broken")
        assert (raised.value.session_id, raised.value.agent) == ("s-broken", "broken")


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (b"SSH-2.0-OpenSSH_9\r\n", BadAnswerError),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi", RefusedError),
        (
            b"HTTP/1.1 307 Temporary Redirect\r\nLocation: ws://127.0.0.1:1/\r\n"
            b"Content-Length: 0\r\n\r\n",
            RefusedError,
        ),
        (b"", (BadAnswerError, UnreachableError)),
    ],
)
async def test_something_else_listens(
    answer: bytes, error: type[Exception] | tuple[type[Exception], ...]
) -> None:
    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(answer)
        writer.close()

    server = await asyncio.start_server(handle, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with server, Project(f"http://127.0.0.1:{port}", "token") as demo:
        with pytest.raises(error):
            await demo.connect("echo")
