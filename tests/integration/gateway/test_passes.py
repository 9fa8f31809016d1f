"""Upgrades like one before them: they get to their agent at once, and by the same rules."""

import asyncio
import errno
import os
import socket
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import Any

import pytest

from tests.integration.gateway.test_refusals import NOBODY, ask, assert_log_is_calm
from tests.support.gateway import NEW_PATH, Gateway, accept_upgrade, raw_agent, running_gateway
from tests.unit.gateway.answers import assert_refused
from trunkline.auth.identity import Identity
from trunkline.auth.issuer import ISSUER
from trunkline.auth.rates import RateSettings
from trunkline.gateway import carrier, upstream
from trunkline.runtimes.interface import ExitStatus

PATH = f"{NEW_PATH}&agent_session_id=mine&colour=red"
Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


class Agent:
    """Answers upgrades, as a test likes from its fourth on."""

    def __init__(self) -> None:
        self.heads: list[bytes] = []
        self.then: Handler | None = None

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if len(self.heads) >= 3 and self.then is not None:
            await self.then(reader, writer)
            return
        self.heads.append(await accept_upgrade(reader, writer))
        await reader.read()


@asynccontextmanager
async def known(
    agent: Agent, *, rates: RateSettings | None = None, **settings: Any
) -> AsyncIterator[tuple[Gateway, bytes]]:
    """A gateway, and the head of an upgrade that it knows by now."""
    assert carrier.IS_BUILT, "the compiled relay wasn't built; make setup says why"
    async with (
        raw_agent(agent) as address,
        running_gateway(address, rates=rates, **settings) as gateway,
    ):
        head = gateway.upgrade_head(PATH)
        for number in (0, 0, 1):
            # The first is parsed. The second is the first whose fields are known, and the third the
            # second of those: then it is remembered.
            assert (await told(gateway, head)).startswith(b"HTTP/1.1 101 ")
            assert len(gateway.services.passes) == number
        assert gateway.sessions.at_once == 3
        gateway.sessions.at_once = 0
        yield gateway, head
        await gateway.sessions.all_returned.wait()
        if not gateway.serving.done():
            await gateway.answers()
        assert not gateway.server.server_state.connections


async def told(gateway: Gateway, head: bytes) -> bytes:
    """Return a 101, and leave, or all of a refusal."""
    gateway.sessions.closed.clear()
    reader, writer = await gateway.open()
    writer.write(head)
    answer = await reader.readuntil(b"\r\n\r\n")
    if answer.startswith(b"HTTP/1.1 101 "):
        writer.close()
        await gateway.sessions.closed.wait()
        return answer
    answer += await reader.read()
    writer.close()
    return answer


def fields(head: bytes) -> dict[str, str]:
    lines = head.decode().split("\r\n")[1:-2]
    found = dict(line.split(": ", 1) for line in lines)
    assert len(found) == len(lines)
    return found


async def test_its_agent_hears_what_it_heard_before() -> None:
    agent = Agent()
    async with known(agent) as (gateway, head):
        other = head.replace(b"dGhlIHNhbXBsZSBub25jZQ==", b"AAAAAAAAAAAAAAAAAAAAAA==")
        await told(gateway, head)
        await told(gateway, other)
        assert gateway.sessions.at_once == 2
    assert len({head.split(b"\r\n")[0] for head in agent.heads}) == 1
    _, _, before, same, renewed = (fields(head) for head in agent.heads)
    own = {"sec-websocket-key", "x-agent-foundry-call-id", "x-request-id", "traceparent"}
    assert own <= before.keys()
    assert {name for name in own if before[name] == same[name]} == {"sec-websocket-key"}
    assert renewed["sec-websocket-key"] == "AAAAAAAAAAAAAAAAAAAAAA=="
    for each in (same, renewed):
        assert list(each) == list(before)
        assert {n: each[n] for n in each.keys() - own} == {n: before[n] for n in each.keys() - own}


async def test_somebody_elses_is_another_one() -> None:
    agent = Agent()
    async with known(agent) as (gateway, head):
        mine, theirs = gateway.token().encode(), gateway.issuer.issue("somebody else").encode()
        start, _, rest = head.partition(b"Authorization: Bearer ")
        other = start + b"Authorization: Bearer " + theirs + b"\r\n" + rest.partition(b"\r\n")[2]
        for number in (1, 2):
            # What was remembered doesn't do for it; when it comes again, it has its own.
            await told(gateway, other)
            assert len(gateway.services.passes) == number
        assert mine != theirs
    assert len({fields(head)["x-agent-user-id"] for head in agent.heads}) == 2


@pytest.mark.parametrize("what", ["path", "query", "header"])
async def test_another_target_or_header_is_looked_at(what: str) -> None:
    async with known(Agent()) as (gateway, head):
        changes = {
            "path": (b"agents/echo/", b"agents/nope/"),
            "query": (b"session_id=mine", b"session_id=not/one"),
            "header": (b"Sec-WebSocket-Version: 13", b"Sec-WebSocket-Version: 8"),
        }
        status = {"path": 404, "query": 400, "header": 426}[what]
        answer = await ask(gateway, head.replace(*changes[what]))
        assert answer.startswith(b"HTTP/1.1 %d " % status)
        assert gateway.sessions.at_once == 0


async def test_who_was_revoked_since_stays_out() -> None:
    async with known(Agent()) as (gateway, head):
        revoked = [(Identity(ISSUER, "tester"), time.time() + 5)]
        assert gateway.services.admission.revocations.replace(revoked)
        assert_refused(await ask(gateway, head), 401, "unauthenticated", "revoked")
        assert gateway.sessions.at_once == 0


async def test_rates_hold(monkeypatch: pytest.MonkeyPatch) -> None:
    async with known(Agent(), rates=RateSettings(upgrades_per_identity=0.5)) as (gateway, head):
        rate = gateway.services.rates.upgrades_by_identity
        now = time.monotonic()
        monkeypatch.setattr(rate, "_clock", lambda: now)
        # Ten seconds' worth is five: nobody gets further, however long the three before took.
        let_in = 0
        while (answer := await told(gateway, head)).startswith(b"HTTP/1.1 101 "):
            let_in += 1
        assert_refused(answer, 429, "rate_limited", "upgrades_per_identity")
        assert 2 <= let_in <= 5
        assert gateway.sessions.at_once == let_in


@pytest.mark.parametrize("whose", ["session", "identity", "address"])
async def test_numbers_of_connections_hold(whose: str) -> None:
    setting = f"max_connections_per_{whose}"
    async with known(Agent(), **{setting: 1}) as (gateway, head):
        reader, writer = await gateway.open()
        writer.write(head)
        await reader.readuntil(b"\r\n\r\n")
        answer = await ask(gateway, head)
        assert_refused(answer, 429, "too_many_connections", setting)
        writer.close()
        await gateway.sessions.all_returned.wait()
        await gateway.answers()
        # What was refused took nothing.
        assert (await told(gateway, head)).startswith(b"HTTP/1.1 101 ")


@pytest.mark.parametrize(
    ("raw", "status", "words"),
    [
        (b"HTTP/1.1 404 Not Found\r\n\r\n", 404, "no WebSocket handler"),
        (b"HTTP/1.1 500 Oh\r\n\r\n", 502, "answered the upgrade with 500"),
        (b"hello\r\n\r\n", 502, "isn't HTTP"),
        (b"", 502, "closed the connection"),
    ],
)
async def test_an_agent_that_does_not_upgrade(raw: bytes, status: int, words: str) -> None:
    agent = Agent()

    async def no(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(raw)
        await writer.drain()

    agent.then = no
    async with known(agent) as (gateway, head):
        code = "not_found" if status == 404 else "upstream_failed"
        answer = assert_refused(await ask(gateway, head), status, code, words)
        assert answer.headers["x-agent-session-id"] == "mine"
        assert gateway.sessions.at_once == 1


async def test_an_answer_in_pieces() -> None:
    agent, asked, is_over = Agent(), asyncio.Event(), asyncio.Event()
    writers: list[asyncio.StreamWriter] = []

    async def wait(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writers.append(writer)
        asked.set()
        await is_over.wait()

    agent.then = wait
    async with known(agent) as (gateway, head):
        reader, writer = await gateway.open()
        writer.write(head)
        await asked.wait()
        lines = [b"HTTP/1.1 101 X\r\n", b"connection: Upgrade\r\nupgrade: websocket\r\n", b"\r\n"]
        for piece in (*lines, b"\x82\x03one"):
            writers[0].write(piece)
            await gateway.answers()
        await reader.readuntil(b"\r\n\r\n")
        assert await reader.readexactly(5) == b"\x82\x03one"
        writer.close()
        is_over.set()


async def test_no_socket_for_the_agent_is_the_platforms_fault(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def none(*_: object) -> socket.socket:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    async with known(Agent()) as (gateway, head):
        for request in (head, gateway.upgrade_head()):
            # Who names a session asks at once, and the other one in a task.
            with monkeypatch.context() as patched:
                # Clients' sockets are made elsewhere.
                its_own = SimpleNamespace(**{**vars(socket), "SocketType": none})
                patched.setattr(upstream, "socket", its_own)
                answer = assert_refused(
                    await ask(gateway, request), 503, "unavailable", "Too many open files"
                )
            assert answer.headers["retry-after"]
        assert (await told(gateway, head)).startswith(b"HTTP/1.1 101 ")


@pytest.mark.parametrize("how", ["silence", "abort", "half-close", "drain"])
async def test_nothing_is_left_of_what_is_given_up(
    caplog: pytest.LogCaptureFixture, how: str
) -> None:
    agent, asked, hung_up = Agent(), asyncio.Event(), asyncio.Event()

    async def say_nothing(reader: asyncio.StreamReader, _: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        asked.set()
        await reader.read()
        hung_up.set()

    agent.then = say_nothing
    timeout_s = 0.3 if how == "silence" else 30.0
    async with known(agent, connect_timeout_s=timeout_s) as (gateway, head):
        reader, writer = await gateway.open()
        writer.write(head)
        await asked.wait()
        assert gateway.sessions.at_once == 1
        if how == "abort":
            writer.transport.abort()
        elif how == "half-close":
            writer.write_eof()
        elif how == "drain":
            gateway.server.stop()
            assert_refused(await reader.read(), 503, "unavailable", "restarting")
        else:
            assert_refused(await reader.read(), 502, "upstream_failed", "connect_timeout_s")
        await hung_up.wait()
        await gateway.sessions.all_returned.wait()
        writer.close()
        if how == "drain":
            await gateway.serving
            return
    assert_log_is_calm(caplog)


async def test_an_agent_that_has_ended_is_started_again() -> None:
    agent = Agent()
    async with known(agent) as (gateway, head):
        address, gateway.sessions.address = gateway.sessions.address, NOBODY
        asking = asyncio.create_task(told(gateway, head))
        while not (gateway.sessions.held and len(gateway.sessions.asked) == 5):
            # The fourth found nobody there, and the fifth waits for the agent's end.
            await gateway.answers()
        gateway.sessions.address = address
        gateway.sessions.exited.set_result(ExitStatus(code=1))
        assert (await asking).startswith(b"HTTP/1.1 101 ")
        assert len(gateway.services.limits.sessions) == 0


async def test_a_session_that_is_not_there_is_waited_for() -> None:
    async with known(Agent()) as (gateway, head):
        gateway.sessions.gate.clear()
        asking = asyncio.create_task(told(gateway, head))
        while len(gateway.sessions.asked) < 4:
            await gateway.answers()
        gateway.sessions.gate.set()
        assert (await asking).startswith(b"HTTP/1.1 101 ")
        assert gateway.sessions.at_once == 0
