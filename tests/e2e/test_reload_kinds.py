"""Reloads of platforms that aren't as usual: another relay, another store, TLS, slow readers."""

import asyncio
import contextlib
import shutil
import ssl
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from tests.e2e.conftest import counting_platform
from tests.e2e.test_reload import reload
from tests.support.certificates import trusting, write_certificate
from tests.support.counting import conversations
from tests.support.platform import Platform
from tests.support.postgres import PostgresServer, running_server

#: Each kind is tried in every run with one of the two, and with the other in the long ones.
ONE = pytest.mark.parametrize("workers", ["1", pytest.param("2", marks=pytest.mark.long)])
TWO = pytest.mark.parametrize("workers", ["2", pytest.param("1", marks=pytest.mark.long)])
PYTHON = {"TRUNKLINE_GATEWAY_COMPILED_RELAY": "false"}
TEXT = "x" * 40_000


@pytest.fixture(scope="module")
def server() -> Iterator[PostgresServer]:
    with running_server() as server:
        yield server


@pytest.fixture
def database(server: PostgresServer) -> Iterator[str]:
    with server.database() as url:
        yield url


async def talk_across_reloads(platform: Platform, *, count: int, reloads: int) -> None:
    """Hold conversations across reloads, and see that nothing is missing."""
    sessions = [f"c{number % 5}" for number in range(count)]
    pace_s = max(0.05, count / 1000)
    async with conversations(platform, platform.token(), sessions, pace_s=pace_s) as talking:
        for _ in range(reloads):
            await asyncio.sleep(0.3)
            report = await reload(platform)
            assert (report["connections_moved"], report["left_behind"]) == (count, 0), report
        await asyncio.sleep(0.3)
    assert all(each.received == each.sent > 5 for each in talking)
    for session in set(sessions):
        # Each conversation has a line for its beginning and one for its end.
        events = platform.events("counter", session, tail=300)
        assert events.count("Started") == 1
        assert "by=gateway" not in events


@TWO
async def test_without_the_compiled_relay(workers: str) -> None:
    async with counting_platform(workers, **PYTHON) as platform:
        await talk_across_reloads(platform, count=20, reloads=2)


@ONE
async def test_with_a_store_that_is_postgresql(workers: str, database: str) -> None:
    async with counting_platform(workers, TRUNKLINE_STORE_URL=database) as platform:
        await talk_across_reloads(platform, count=20, reloads=2)


@pytest.mark.long
@pytest.mark.timeout(600)
@pytest.mark.parametrize("workers", ["1", "2"])
@pytest.mark.parametrize("kind", ["python", "postgresql"])
async def test_many_conversations_of_each_kind(kind: str, workers: str, database: str) -> None:
    settings = PYTHON if kind == "python" else {"TRUNKLINE_STORE_URL": database}
    async with counting_platform(workers, **settings) as platform:
        await talk_across_reloads(platform, count=300, reloads=5)


class SlowReader:
    """A client that has sent all it can, and has read next to nothing of the answers."""

    def __init__(self, websocket: ClientConnection) -> None:
        self._websocket = websocket
        self._sent = 0
        self._is_over = False
        self._sending = asyncio.create_task(self._send())

    async def _send(self) -> None:
        while not self._is_over:
            await self._websocket.send(f"{self._sent} {TEXT}")
            self._sent += 1

    async def until_stuck(self) -> None:
        """Wait until every buffer on the way is full."""
        before = -1
        while before != self._sent:
            before = self._sent
            await asyncio.sleep(0.3)

    async def finish(self, begun: int = 0) -> int:
        """Read all there is; return how much that was."""
        self._is_over = True
        number = begun
        while not (self._sending.done() and number == self._sent):
            assert await self._websocket.recv() == f"{number} {TEXT}"
            number += 1
        await self._sending
        return number


@TWO
async def test_what_waits_for_slow_readers_moves_with_them(workers: str) -> None:
    async with (
        counting_platform(workers, TRUNKLINE_GATEWAY_STALLED_READER_S="0") as platform,
        contextlib.AsyncExitStack() as stack,
    ):
        token = platform.token()
        readers = []
        for number in range(2):
            connecting = connect(
                platform.websocket_url("counter", f"s{number}"),
                additional_headers={"Authorization": f"Bearer {token}"},
                proxy=None,
                open_timeout=60,
                max_size=None,
                max_queue=1,
                compression=None,
                # It doesn't read the answers.
                ping_interval=None,
            )
            readers.append(SlowReader(await stack.enter_async_context(connecting)))
        await asyncio.gather(*(reader.until_stuck() for reader in readers))
        # The second time they come from a process that has never read anything of them.
        for _ in range(2):
            report = await reload(platform)
            assert (report["connections_moved"], report["left_behind"]) == (2, 0), report
        counts = await asyncio.gather(*(reader.finish() for reader in readers))
        # More than what the gateway keeps of it: the agents had to wait.
        assert min(counts) * len(TEXT) > 1_000_000


async def test_slow_readers_move_without_the_compiled_relay_if_they_read_at_all() -> None:
    settings = PYTHON | {"TRUNKLINE_GATEWAY_STALLED_READER_S": "0"}
    async with (
        counting_platform("1", **settings) as platform,
        connect(
            platform.websocket_url("counter", "s"),
            additional_headers={"Authorization": f"Bearer {platform.token()}"},
            proxy=None,
            open_timeout=60,
            max_size=None,
            max_queue=1,
            compression=None,
            ping_interval=None,
        ) as websocket,
    ):
        reader = SlowReader(websocket)
        await reader.until_stuck()
        reloading = asyncio.create_task(reload(platform))
        # It takes up again once the new process is ready: nothing moves before.
        read = 0
        while not reloading.done():
            assert await websocket.recv() == f"{read} {TEXT}"
            read += 1
            await asyncio.sleep(0.01)
        report = await reloading
        assert (report["connections_moved"], report["left_behind"]) == (1, 0), report
        assert await reader.finish(read) > read


@ONE
async def test_where_tls_ends_in_the_gateway_clients_are_told_to_come_again(workers: str) -> None:
    folder = Path(tempfile.mkdtemp(prefix="trunkline-test-"))
    certificate, key = write_certificate(folder, "one")
    try:
        async with counting_platform(workers) as platform:
            # Its commands don't know this authority.
            assert platform.stop() == 0
            platform.settings |= {
                "TRUNKLINE_GATEWAY_TLS_CERTIFICATE": str(certificate),
                "TRUNKLINE_GATEWAY_TLS_KEY": str(key),
            }
            platform.start()
            await _come_again(platform, trusting(certificate))
    finally:
        shutil.rmtree(folder)


async def _come_again(platform: Platform, context: ssl.SSLContext) -> None:
    url = platform.websocket_url("counter", "secret").replace("https://", "wss://")
    options: dict[str, Any] = {
        "additional_headers": {"Authorization": f"Bearer {platform.token()}"},
        "ssl": context,
        "proxy": None,
        "open_timeout": 60,
    }
    async with contextlib.AsyncExitStack() as stack:
        open_ones = [await stack.enter_async_context(connect(url, **options)) for _ in range(8)]
        ends = [asyncio.create_task(end_of(each)) for each in open_ones]
        report = await reload(platform)
        assert await asyncio.gather(*ends) == [
            (1001, "the platform is restarting; connect again with the same session id")
        ] * len(open_ones)
    counts = {name: report[name] for name in ("connections_moved", "left_behind")}
    assert counts == {"connections_moved": 0, "left_behind": 0}
    assert report["encrypted_sent_away"] == len(open_ones)
    async with connect(url, **options) as again:
        await again.send("0 again")
        assert await again.recv() == "0 again"


async def end_of(websocket: ClientConnection) -> tuple[int, str]:
    """Talk until it is closed; return how."""
    number = 0
    with contextlib.suppress(ConnectionClosed):
        while True:
            await websocket.send(str(number))
            # It answers with what it was sent, number and a blank.
            assert (await websocket.recv()).split() == [str(number)]
            number += 1
            await asyncio.sleep(0.02)
    assert websocket.close_code is not None
    return websocket.close_code, websocket.close_reason or ""
