"""The agent's time, and its event loop on the test's."""

import asyncio
import contextlib
import threading
from collections.abc import AsyncIterator

import pytest
from starlette.websockets import WebSocket

from trunkline.agentserver import InvocationAgentServerHost
from trunkline.testing import NothingCameError, RestlessError, agent_client, running


def agent(handler, **options) -> InvocationAgentServerHost:
    app = InvocationAgentServerHost(access_log=None, **options)
    app.ws_handler(handler)
    return app


async def test_time_stands_still_until_it_is_advanced():
    async def talk(websocket: WebSocket) -> None:
        await asyncio.sleep(5)
        await websocket.send_text("at last")
        await websocket.receive()

    async with agent_client(agent(talk)) as ws:
        await ws.agent.advance(4.999)
        with pytest.raises(NothingCameError, match=r"next timer is due in 0\.001 s"):
            await ws.receive(timeout_s=0)
        await ws.agent.advance(0.001)
        assert await ws.receive(timeout_s=0) == "at last"
        assert ws.agent.elapsed_s == pytest.approx(5.0)


async def test_each_timer_sees_the_time_it_was_due_at_and_all_in_their_order():
    seen: list[tuple[str, float]] = []

    async def talk(websocket: WebSocket) -> None:
        loop = asyncio.get_running_loop()
        began = loop.time()

        async def note(name: str, after_s: float, again_s: float) -> None:
            await asyncio.sleep(after_s)
            seen.append((name, loop.time() - began))
            await asyncio.sleep(again_s)
            seen.append((name, loop.time() - began))

        async with asyncio.TaskGroup() as group:
            group.create_task(note("a", 3, 4))
            group.create_task(note("b", 5, 1))
        loop.call_later(0.25, seen.append, ("later", 0.25))
        await websocket.receive()

    async with agent_client(agent(talk)) as ws:
        await ws.agent.advance(100)
    assert [name for name, _ in seen] == ["a", "b", "b", "a", "later"]
    assert [when for _, when in seen] == pytest.approx([3, 5, 6, 7, 0.25])


async def test_timeouts_of_the_agent_follow_its_time():
    async def talk(websocket: WebSocket) -> None:
        try:
            async with asyncio.timeout(20):
                await websocket.receive_text()
        except TimeoutError:
            await websocket.send_text("are you there?")
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(asyncio.get_running_loop().create_future(), 10)
        await websocket.send_text("goodbye")

    async with agent_client(agent(talk)) as ws:
        await ws.agent.advance(20)
        assert await ws.receive_text() == "are you there?"
        await ws.agent.advance(10)
        assert await ws.receive_text() == "goodbye"
        assert (await ws.wait_closed()).code == 1000


async def test_within_lets_just_as_much_time_pass_as_it_takes():
    async def talk(websocket: WebSocket) -> None:
        for number in range(3):
            await asyncio.sleep(2)
            await websocket.send_text(str(number))

    async with agent_client(agent(talk)) as ws:
        assert await ws.receive_text(within_s=60) == "0"
        assert ws.agent.elapsed_s == pytest.approx(2)
        with pytest.raises(NothingCameError, match=r"within 0 s and 1\.5 s of its time"):
            await ws.receive_text(timeout_s=0, within_s=1.5)
        assert ws.agent.elapsed_s == pytest.approx(3.5)
        assert await ws.receive_text(within_s=0.5) == "1"


async def test_within_may_be_given_once_for_all():
    async def talk(websocket: WebSocket) -> None:
        for word in ("slowly", "but", "surely"):
            await asyncio.sleep(1)
            await websocket.send_text(word)

    async with agent_client(agent(talk), within_s=1) as ws:
        assert [message async for message in ws] == ["slowly", "but", "surely"]


async def test_a_day_of_timers_is_over_at_once():
    ticks = 0

    async def talk(websocket: WebSocket) -> None:
        nonlocal ticks
        while True:
            await asyncio.sleep(60)
            ticks += 1

    async with agent_client(agent(talk)) as ws:
        await ws.agent.advance(24 * 60 * 60)
        assert ticks == 24 * 60
        # And the client answered each of the host's pings meanwhile.
        assert ws.pings == 24 * 60 * 2
        assert ws.closed is None


async def test_work_in_threads_is_waited_for_before_time_goes_on():
    gate = threading.Event()

    async def talk(websocket: WebSocket) -> None:
        try:
            # Would be over before the thread is, if time went on meanwhile.
            async with asyncio.timeout(1):
                await asyncio.to_thread(gate.wait)
            await websocket.send_text("done")
        except TimeoutError:
            await websocket.send_text("too late")
        await websocket.receive()

    async with agent_client(agent(talk)) as ws:
        advancing = asyncio.ensure_future(ws.agent.advance(10))
        asyncio.get_running_loop().call_later(0.05, gate.set)
        await advancing
        assert await ws.receive_text() == "done"


async def test_two_may_let_time_pass_at_once():
    async def talk(websocket: WebSocket) -> None:
        await asyncio.sleep(2)
        await websocket.send_text("two")
        await websocket.receive()

    async with running(agent(talk)) as running_agent:
        one, other = await running_agent.connect(), await running_agent.connect()
        both = await asyncio.gather(one.receive(within_s=5), other.receive(within_s=5))
        assert both == ["two", "two"]
        assert running_agent.elapsed_s == pytest.approx(2)
        await asyncio.gather(running_agent.advance(3), running_agent.advance(4))
        assert running_agent.elapsed_s == pytest.approx(6)


async def test_an_agent_that_never_rests_is_named():
    is_over = False

    async def talk(websocket: WebSocket) -> None:
        while not is_over:  # noqa: ASYNC110 - that is what it is about
            await asyncio.sleep(0)

    async with running(agent(talk), timeout_s=0.2) as running_agent:
        await running_agent.connect()
        with pytest.raises(RestlessError, match=r"talk\(\), test_time\.py line \d+: await asyncio"):
            await running_agent.advance(1)
        is_over = True


async def test_real_time_passes_by_itself_and_can_be_advanced_on_top():
    async def talk(websocket: WebSocket) -> None:
        await asyncio.sleep(0.01)
        await websocket.send_text("by itself")
        await asyncio.sleep(3600)
        await websocket.send_text("by hand")
        await websocket.receive()

    async with agent_client(agent(talk), real_time=True) as ws:
        assert await ws.receive() == "by itself"
        await ws.agent.advance(3600)
        assert await ws.receive() == "by hand"


async def test_test_and_agent_share_what_asyncio_has_to_share():
    told, asked = asyncio.Event(), asyncio.Event()
    queue: asyncio.Queue[str] = asyncio.Queue()

    async def talk(websocket: WebSocket) -> None:
        told.set()
        await asked.wait()
        await websocket.send_text(await queue.get())
        await websocket.receive()

    async with agent_client(agent(talk)) as ws:
        await told.wait()
        asked.set()
        queue.put_nowait("from the test")
        assert await ws.receive() == "from the test"


async def test_the_agent_may_use_sockets_threads_and_processes():
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"from the test's loop\n")
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]

    async def talk(websocket: WebSocket) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        await websocket.send_text((await reader.readline()).decode())
        writer.close()
        await writer.wait_closed()
        await websocket.send_text(await asyncio.to_thread(lambda: "from a thread"))
        process = await asyncio.create_subprocess_exec(
            "echo", "from a process", stdout=asyncio.subprocess.PIPE
        )
        out, _ = await process.communicate()
        await websocket.send_bytes(out)

    async with server, agent_client(agent(talk), timeout_s=20) as ws:
        assert await ws.receive() == "from the test's loop\n"
        assert await ws.receive() == "from a thread"
        assert await ws.receive() == b"from a process\n"


async def test_the_agent_sees_its_own_loop_and_the_test_keeps_its_own():
    loops = []

    async def talk(websocket: WebSocket) -> None:
        loops.append(asyncio.get_running_loop())
        task = asyncio.current_task()
        assert task is not None
        assert task.get_loop() is loops[0]

    ours = asyncio.current_task()
    async with agent_client(agent(talk)) as ws:
        await ws.wait_closed()
        assert asyncio.current_task() is ours
    assert loops[0] is not asyncio.get_running_loop()
    assert loops[0].is_closed()


def test_an_agent_can_not_be_used_on_another_loop():
    app = agent(_listen)
    entered = running(app)
    first, second = asyncio.new_event_loop(), asyncio.new_event_loop()
    try:
        running_agent = first.run_until_complete(entered.__aenter__())

        async def elsewhere() -> None:
            await running_agent.advance(1)

        with pytest.raises(RuntimeError, match="on another event loop"):
            second.run_until_complete(elsewhere())
        first.run_until_complete(entered.__aexit__(None, None, None))
    finally:
        first.close()
        second.close()


async def _listen(websocket: WebSocket) -> None:
    async for _ in websocket.iter_text():
        pass


@pytest.mark.parametrize("seconds", [-1, float("nan"), float("inf")])
async def test_no_other_time_can_be_advanced(seconds: float):
    async with running(agent(_listen)) as running_agent:
        with pytest.raises(ValueError, match="seconds must be a finite, non-negative number"):
            await running_agent.advance(seconds)


async def test_timers_too_close_for_asyncio_to_tell_apart_do_not_stop_time():
    async def talk(websocket: WebSocket) -> None:
        loop = asyncio.get_running_loop()
        for number in range(1, 50):
            # Just beside a moment that time is moved to.
            event = asyncio.Event()
            loop.call_at(loop.time() + 1 + number * 1e-10, event.set)
            await event.wait()
        await websocket.send_text("through")

    async with agent_client(agent(talk)) as ws:
        await ws.agent.advance(60)
        assert await ws.receive(timeout_s=0) == "through"


async def test_what_the_agent_leaves_running_is_ended():
    ended = []

    async def forever() -> AsyncIterator[int]:
        try:
            while True:
                await asyncio.sleep(1)
                yield 1
        finally:
            ended.append("generator")

    left: set[asyncio.Task[None]] = set()

    async def talk(websocket: WebSocket) -> None:
        async def work() -> None:
            try:
                async for _ in forever():
                    pass
            finally:
                ended.append("task")

        left.add(asyncio.get_running_loop().create_task(work()))
        await websocket.receive()

    async with agent_client(agent(talk)) as ws:
        await ws.agent.advance(3)
    assert sorted(ended) == ["generator", "task"]
    assert all(task.done() for task in left)
