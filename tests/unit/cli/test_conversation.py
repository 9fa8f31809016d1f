"""When a conversation is over, and that nothing is left running then."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from trunkline.cli.conversation import Conversation
from trunkline.client import ClosedError, Message
from trunkline.protocol.errors import InvalidRequestError


class FakeConnection:
    """A connection whose other side is the test."""

    def __init__(self) -> None:
        self.sent: list[Message] = []
        self.closed_with: int | None = None
        self._incoming: asyncio.Queue[Message | ClosedError] = asyncio.Queue()

    def give(self, item: Message | ClosedError) -> None:
        self._incoming.put_nowait(item)

    async def send(self, message: Message) -> None:
        if self.closed_with is not None:
            raise ClosedError(self.closed_with, "")
        self.sent.append(message)

    async def receive(self) -> Message:
        item = await self._incoming.get()
        if isinstance(item, ClosedError):
            raise item
        return item

    async def aclose(self, code: int = 1000, reason: str = "") -> None:
        if self.closed_with is None:
            self.closed_with = code
            self.give(ClosedError(code, reason))


class Seen:
    def __init__(self) -> None:
        self.events: list[tuple[str, object]] = []

    def sent(self, message: Message) -> None:
        self.events.append(("sent", message))

    def received(self, message: Message) -> None:
        self.events.append(("received", message))

    def closed(self, code: int, _reason: str) -> None:
        self.events.append(("closed", code))


async def from_list(*messages: Message) -> AsyncIterator[Message]:
    for message in messages:
        yield message


async def forever() -> AsyncIterator[Message]:
    await asyncio.Event().wait()
    yield ""


def converse(
    source: AsyncIterator[Message], linger_s: float = 0
) -> tuple[Conversation, FakeConnection, Seen]:
    connection, seen = FakeConnection(), Seen()
    return (
        Conversation(connection, source, seen, linger_s=linger_s),  # type: ignore[arg-type]
        connection,
        seen,
    )


def running() -> set[str]:
    return {task.get_name() for task in asyncio.all_tasks()} & {"connect:send", "connect:close"}


async def test_everything_sent_and_nothing_coming() -> None:
    conversation, connection, seen = converse(from_list("a", b"b"))
    assert await conversation.run() == 1000
    assert connection.sent == ["a", b"b"]
    assert seen.events == [("sent", "a"), ("sent", b"b"), ("closed", 1000)]
    assert not running()


async def test_the_agent_may_end_it() -> None:
    conversation, connection, seen = converse(forever())
    connection.give("hello")
    connection.give(ClosedError(4001, "enough"))
    assert await conversation.run() == 4001
    assert seen.events == [("received", "hello"), ("closed", 4001)]
    assert not running()


async def test_so_may_the_user() -> None:
    conversation, connection, _ = converse(forever())
    task = asyncio.create_task(conversation.run())
    await asyncio.sleep(0)
    conversation.close_soon()
    assert await task == 1000
    assert connection.closed_with == 1000


async def test_sending_to_a_closed_connection_is_no_failure() -> None:
    conversation, connection, _ = converse(from_list("a"))
    connection.closed_with = 1001
    connection.give(ClosedError(1001, ""))
    assert await conversation.run() == 1001


async def test_a_source_that_fails_closes_first() -> None:
    async def broken() -> AsyncIterator[Message]:
        yield "a"
        raise InvalidRequestError("not text")

    conversation, connection, seen = converse(broken())
    with pytest.raises(InvalidRequestError, match="not text"):
        await conversation.run()
    assert connection.closed_with == 1000
    assert seen.events[-1] == ("closed", 1000)


async def test_cancelling_leaves_nothing_running() -> None:
    conversation, connection, _ = converse(forever())
    task = asyncio.create_task(conversation.run())
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert running()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert not running()
    assert connection.closed_with is None
