"""What counts as an answer to ``GET /readiness``."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from trunkline.runtimes.interface import Address
from trunkline.runtimes.process import readiness
from trunkline.runtimes.process.appearing import Appearances
from trunkline.runtimes.process.listening import Endpoint
from trunkline.runtimes.process.readiness import is_ready, wait_ready


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


class Agent:
    """One that starts, for whoever waits for it."""

    def __init__(self) -> None:
        self.has_ended = False
        self.looked = asyncio.Event()

    def is_over(self) -> bool:
        self.looked.set()
        return self.has_ended

    async def wait(
        self, place: Endpoint, appearances: Appearances, news: asyncio.Event
    ) -> Address | None:
        return await wait_ready(
            place, appearances, news, is_over=self.is_over, waited_s=lambda: 60.0, timeout_s=5
        )


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Endpoint]:
    made = Endpoint.make(tmp_path)
    yield made
    made.remove()


@pytest.fixture
async def appearances() -> AsyncIterator[Appearances]:
    made = Appearances()
    yield made
    made.close()


async def say_yes(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.readuntil(b"\r\n\r\n")
    writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
    writer.close()


async def test_one_that_ends_is_not_waited_for(place: Endpoint, appearances: Appearances) -> None:
    agent, news = Agent(), asyncio.Event()
    waiting = asyncio.ensure_future(agent.wait(place, appearances, news))
    await agent.looked.wait()
    agent.has_ended = True
    news.set()
    assert await waiting is None


async def test_socket_that_is_there_is_the_one_to_ask(
    place: Endpoint, appearances: Appearances
) -> None:
    async with await asyncio.start_unix_server(say_yes, place.socket_path):
        found = await Agent().wait(place, appearances, asyncio.Event())
    assert found == Address(path=place.socket_path)


async def test_a_socket_is_noticed_when_it_appears(
    place: Endpoint, appearances: Appearances, monkeypatch: pytest.MonkeyPatch
) -> None:
    # It would be looked for again, but not in this test's time.
    monkeypatch.setattr(readiness, "next_delay_s", lambda _: 3600.0)
    agent = Agent()
    waiting = asyncio.ensure_future(agent.wait(place, appearances, asyncio.Event()))
    await agent.looked.wait()
    agent.looked.clear()
    (place.listens_in / "something else").touch()
    await agent.looked.wait()
    async with await asyncio.start_unix_server(say_yes, place.socket_path):
        assert await waiting == Address(path=place.socket_path)


async def test_any_number_of_files_wakes_nobody_for_ever(
    place: Endpoint, appearances: Appearances, monkeypatch: pytest.MonkeyPatch
) -> None:
    agent, looks, news = Agent(), 0, asyncio.Event()

    def look(_waited_s: float) -> float:
        nonlocal looks
        looks += 1
        (place.listens_in / f"{looks}").touch()
        return 1000

    monkeypatch.setattr(readiness, "next_delay_s", look)
    waiting = asyncio.ensure_future(agent.wait(place, appearances, news))
    while looks < 9:  # noqa: ASYNC110 - it tells nobody
        await asyncio.sleep(0.01)
    # Eight files have woken it; the ninth doesn't.
    await asyncio.sleep(0.1)
    assert looks == 9
    agent.has_ended = True
    news.set()
    await waiting
