import asyncio

import pytest

from trunkline.agentserver._ws_inbox import MESSAGE_OVERHEAD_BYTES, Inbox

END = {"type": "websocket.disconnect", "code": 1000}


class FakeTransport:
    def __init__(self):
        self.is_reading = True

    def pause_reading(self):
        self.is_reading = False

    def resume_reading(self):
        self.is_reading = True


@pytest.fixture
async def transport():
    return FakeTransport()


@pytest.fixture
async def inbox(transport):
    return Inbox(asyncio.get_running_loop(), transport, 10_000)


async def get(inbox):
    while (item := inbox.take()) is None:
        await inbox.arrival()
    return item


async def turn():
    await asyncio.sleep(0)
    await asyncio.sleep(0)


async def test_messages_come_out_in_order_whether_somebody_waited_or_not(inbox):
    waiting = asyncio.ensure_future(get(inbox))
    await turn()
    for message in ("a", b"b", "c"):
        inbox.put(message)
    assert await waiting == "a"
    assert [await get(inbox), await get(inbox)] == [b"b", "c"]
    assert inbox.take() is None


async def test_an_empty_message_is_a_message(inbox):
    waiting = asyncio.ensure_future(get(inbox))
    await turn()
    inbox.put("")
    assert await waiting == ""
    inbox.put(b"")
    assert await get(inbox) == b""


async def test_what_is_there_is_taken_without_a_wait(inbox):
    inbox.put("a")
    assert inbox.take() == "a"


async def test_cancelling_loses_nothing(inbox):
    waiting = asyncio.ensure_future(get(inbox))
    await turn()
    inbox.put("a")
    # Woken, and cancelled before it could run.
    waiting.cancel()
    await turn()
    assert waiting.cancelled()
    inbox.put("b")
    assert [await get(inbox), await get(inbox)] == ["a", "b"]


async def test_a_cancelled_wait_leaves_room_for_the_next(inbox):
    first = asyncio.ensure_future(get(inbox))
    await turn()
    first.cancel()
    await turn()
    second = asyncio.ensure_future(get(inbox))
    await turn()
    inbox.put("a")
    assert await second == "a"


async def test_several_wait_and_one_gets_each(inbox):
    waiting = [asyncio.ensure_future(get(inbox)) for _ in range(3)]
    await turn()
    for message in "abc":
        inbox.put(message)
    assert sorted(await asyncio.gather(*waiting)) == ["a", "b", "c"]


async def test_of_several_one_that_is_cancelled_takes_nothing_along(inbox):
    first, second = (asyncio.ensure_future(get(inbox)) for _ in range(2))
    await turn()
    inbox.put("a")
    first.cancel()
    assert await asyncio.wait_for(second, 5) == "a"


async def test_the_end_is_told_to_everyone_and_again(inbox):
    waiting = [asyncio.ensure_future(get(inbox)) for _ in range(3)]
    await turn()
    inbox.end(END)
    assert await asyncio.gather(*waiting) == [END] * 3
    assert await get(inbox) == END


async def test_messages_before_the_end_come_before_it(inbox):
    inbox.put("a")
    inbox.end(END)
    assert [await get(inbox), await get(inbox), await get(inbox)] == ["a", END, END]


async def test_reading_stops_when_too_much_waits_and_goes_on_when_half_is_gone(inbox, transport):
    size = 1_000 - MESSAGE_OVERHEAD_BYTES
    for _ in range(10):
        inbox.put(bytes(size))
    assert transport.is_reading
    inbox.put(bytes(size))
    assert not transport.is_reading
    assert inbox.is_reading_paused
    for _ in range(6):
        await get(inbox)
    assert not transport.is_reading
    await get(inbox)
    assert transport.is_reading


async def test_empty_messages_fill_it_too(inbox, transport):
    for _ in range(10_000 // MESSAGE_OVERHEAD_BYTES + 1):
        inbox.put("")
    assert not transport.is_reading


async def test_a_reader_with_plenty_lets_the_others_run(inbox):
    for number in range(500):
        inbox.put(str(number))
    others_turns = 0

    async def other():
        nonlocal others_turns
        while True:
            others_turns += 1
            await asyncio.sleep(0)

    task = asyncio.ensure_future(other())
    assert [await get(inbox) for _ in range(500)] == [str(number) for number in range(500)]
    task.cancel()
    assert others_turns >= 500 // 64
