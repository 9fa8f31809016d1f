"""The client's WebSocket, against a stand-in for a platform."""

import asyncio

import pytest

from tests.integration.cli.conftest import FakePlatform
from trunkline import client
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


async def test_connect_needs_no_project(
    platform: FakePlatform, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TRUNKLINE_ENDPOINT", platform.url)
    monkeypatch.setenv("TRUNKLINE_TOKEN", "token")
    async with client.connect("echo", session_id="mine") as talk:
        assert talk.session_id == "mine"
        await talk.send("hello")
        assert await talk.receive() == "HELLO"
    assert talk.close_code == 1000


async def test_connect_takes_an_address(platform: FakePlatform) -> None:
    address = f"{platform.url}/agents/echo/endpoint/protocols/invocations_ws?api-version=v1"
    address = address.replace("http:", "ws:")
    async with client.connect(f"{address}&agent_session_id=there", token="token") as talk:
        assert talk.session_id == "there"


async def test_connect_closes_what_it_opened_when_it_is_refused(platform: FakePlatform) -> None:
    with pytest.raises(RefusedError):
        async with client.connect("nobody", endpoint=platform.url, token="token"):
            pass


async def test_a_conversation_comes_back_to_its_session(platform: FakePlatform) -> None:
    losses: list[int] = []
    backoff = client.Backoff(first_s=0.01)
    async with client.connect(
        "leaver", endpoint=platform.url, token="token", session_id="mine", backoff=backoff
    ) as talk:
        resumed = asyncio.Event()
        talk.on_loss = lambda error: losses.append(error.close_code)
        talk.on_resume = resumed.set
        await talk.send("restart")
        async with asyncio.TaskGroup() as tasks:
            receiving = tasks.create_task(talk.receive())
            await resumed.wait()
            await talk.send("again")
        assert receiving.result() == "again"
        assert talk.session_id == "mine"
        assert talk.connections == 2
    assert losses == [1001]


class Tap:
    def __init__(self) -> None:
        self.seen: list[tuple[object, ...]] = []
        self.ended = asyncio.Event()

    def opened(self, session_id: str) -> None:
        self.seen.append(("opened", session_id))

    def sent(self, opcode: int, payload: bytes, *, is_final: bool) -> None:
        self.seen.append(("sent", opcode, payload, is_final))

    def received(self, opcode: int, payload: bytes, *, is_final: bool) -> None:
        self.seen.append(("received", opcode, payload, is_final))

    def lost(self, code: int, reason: str) -> None:
        self.seen.append(("lost", code, reason))
        self.ended.set()


async def test_a_tap_is_told_of_every_frame(platform: FakePlatform) -> None:
    tap = Tap()
    async with project(platform) as demo, demo.connect("echo", tap=tap) as talk:
        await talk.send("hello")
        assert await talk.receive() == "HELLO"
        await talk.send(b"\x01\x02")
        assert await talk.receive() == b"\x01\x02"
    assert tap.seen == [
        ("opened", "s-ws"),
        ("sent", 1, b"hello", True),
        ("received", 1, b"HELLO", True),
        ("sent", 2, b"\x01\x02", True),
        ("received", 2, b"\x01\x02", True),
        ("sent", 8, b"\x03\xe8", True),
        ("received", 8, b"\x03\xe8", True),
        ("lost", 1000, ""),
    ]


async def test_a_tap_has_the_frames_nobody_read(platform: FakePlatform) -> None:
    tap = Tap()
    async with project(platform) as demo, demo.connect("closer", tap=tap):
        await tap.ended.wait()
    assert ("received", 1, b"bye", True) in tap.seen
    assert ("lost", 4001, "enough") in tap.seen
