"""What the agent's own code raises reaches the test."""

import asyncio
import contextlib
import gc
import logging
from collections.abc import Iterator

import pytest
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.websockets import WebSocket

from trunkline.agentserver import InvocationAgentServerHost
from trunkline.testing import (
    AgentStartError,
    AgentTestError,
    WebSocketClosedError,
    agent_client,
    running,
)


class OurFaultError(Exception):
    pass


async def fail_on_demand(websocket: WebSocket) -> None:
    async for text in websocket.iter_text():
        if text == "fail":
            raise OurFaultError("as demanded")


def failing_agent(**options) -> InvocationAgentServerHost:
    app = InvocationAgentServerHost(access_log=None, **options)
    app.ws_handler(fail_on_demand)
    return app


async def test_who_waits_for_a_message_gets_the_handlers_exception():
    async with agent_client(failing_agent()) as ws:
        await ws.send_text("fail")
        with pytest.raises(OurFaultError) as caught:
            await ws.receive()
        # The line that raised is in the traceback.
        assert caught.traceback[-1].name == "fail_on_demand"
        assert ws.closed is not None
        assert (ws.closed.code, ws.closed.by) == (1011, "handler")
        assert ws.error is caught.value
        assert ws.agent.failures == [caught.value]


async def test_who_does_not_gets_it_on_leaving():
    entered = agent_client(failing_agent())
    ws = await entered.__aenter__()
    await ws.send_text("fail")
    assert (await ws.wait_closed()).code == 1011
    with pytest.raises(OurFaultError):
        await entered.__aexit__(None, None, None)


async def test_who_awaited_the_websocket_gets_it_on_leaving_the_agent():
    entered = running(failing_agent())
    ws = await (await entered.__aenter__()).connect()
    await ws.send_text("fail")
    await ws.wait_closed()
    with pytest.raises(OurFaultError):
        await entered.__aexit__(None, None, None)


async def test_several_come_as_a_group():
    entered = running(failing_agent())
    agent = await entered.__aenter__()
    for _ in range(2):
        await (await agent.connect()).send_text("fail")
    await agent.advance(0)
    with pytest.raises(ExceptionGroup) as caught:
        await entered.__aexit__(None, None, None)
    assert [type(error) for error in caught.value.exceptions] == [OurFaultError] * 2


async def test_nobody_gets_it_who_does_not_want_it():
    async with agent_client(failing_agent(), raise_exceptions=False) as ws:
        await ws.send_text("fail")
        with pytest.raises(WebSocketClosedError, match="1011") as caught:
            await ws.receive()
        assert isinstance(caught.value.__cause__, OurFaultError)
        assert isinstance(ws.error, OurFaultError)


async def test_a_tests_own_failure_is_not_hidden_by_the_agents():
    with pytest.raises(ValueError, match="the test's") as caught:  # noqa: PT012
        async with agent_client(failing_agent()) as ws:
            await ws.send_text("fail")
            await ws.wait_closed()
            raise ValueError("the test's")
    (note,) = caught.value.__notes__
    assert note.startswith("meanwhile the agent failed: OurFaultError('as demanded')")
    assert "raised in fail_on_demand()" in note


@pytest.fixture
def log() -> Iterator[logging.Logger]:
    log = logging.getLogger("azure.ai.agentserver")
    level = log.level
    yield log
    log.setLevel(level)


@pytest.mark.usefixtures("log")
@pytest.mark.parametrize("log_level", [None, "CRITICAL"])
async def test_it_does_not_depend_on_the_agents_log(log_level: str | None):
    with pytest.raises(OurFaultError):  # noqa: PT012
        async with agent_client(failing_agent(log_level=log_level)) as ws:
            await ws.send_text("fail")
            await ws.receive()


async def test_a_client_that_left_is_no_failure():
    async def talk(websocket: WebSocket) -> None:
        while True:
            await websocket.send_text(await websocket.receive_text())

    app = InvocationAgentServerHost(access_log=None)
    app.ws_handler(talk)
    async with running(app) as agent:
        async with agent.connect() as ws:
            await ws.send_text("x")
        async with agent.connect() as ws:
            await ws.drop()
        assert agent.failures == []


async def test_a_background_task_that_failed_is_one():
    async def talk(websocket: WebSocket) -> None:
        async def work() -> None:
            raise OurFaultError("in the background")

        task = asyncio.get_running_loop().create_task(work())
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(1):
                await websocket.receive()
        del task
        gc.collect()

    app = InvocationAgentServerHost(access_log=None)
    app.ws_handler(talk)
    with pytest.raises(OurFaultError, match="in the background"):
        async with agent_client(app) as ws:
            await ws.wait_closed(within_s=1)


# HTTP


async def test_an_invoke_handlers_exception_is_raised_by_invoke():
    app = InvocationAgentServerHost(access_log=None)

    @app.invoke_handler
    async def invoke(request: Request) -> Response:
        raise OurFaultError("500")

    async with running(app) as agent:
        with pytest.raises(OurFaultError):
            await agent.invoke(b"")
    async with running(app, raise_exceptions=False) as agent:
        response = await agent.invoke(b"")
        assert response.status_code == 500
        assert response.json()["error"]["code"] == "internal_error"
        assert "500" not in response.json()["error"]["message"]
        assert isinstance(response.error, OurFaultError)


async def test_a_stream_that_breaks_off_raises_what_broke_it():
    app = InvocationAgentServerHost(access_log=None)

    @app.invoke_handler
    async def invoke(request: Request) -> Response:
        async def parts():
            yield b"one"
            await asyncio.sleep(1)
            raise OurFaultError("midway")

        return StreamingResponse(parts())

    async with running(app) as agent:
        async with agent.invoke(b"") as response:
            assert await response.receive() == b"one"
            with pytest.raises(OurFaultError, match="midway"):
                await response.receive(within_s=1)
    async with running(app, raise_exceptions=False) as agent:
        async with agent.invoke(b"", within_s=1) as response:
            assert await response.receive() == b"one"
            with pytest.raises(AgentTestError, match="broke off after 3 bytes"):
                await response.receive(within_s=1)


# Beginning and end


async def test_a_startup_that_fails_is_told():
    @contextlib.asynccontextmanager
    async def lifespan(app):
        raise OurFaultError("no database")
        yield

    app = InvocationAgentServerHost(lifespan=lifespan)
    with pytest.raises(AgentStartError, match="startup failed: OurFaultError") as caught:
        await running(app).__aenter__()
    assert isinstance(caught.value.__cause__, OurFaultError)


async def test_a_startup_that_does_not_end_is_told():
    @contextlib.asynccontextmanager
    async def lifespan(app):
        await asyncio.Event().wait()
        yield

    app = InvocationAgentServerHost(lifespan=lifespan)
    with pytest.raises(AgentStartError, match=r"doesn't end\n.*lifespan\(\), test_failures\.py"):
        await running(app, timeout_s=0.05).__aenter__()


async def test_a_shutdown_handler_that_fails_is_told():
    app = failing_agent()

    @app.shutdown_handler
    async def end() -> None:
        raise OurFaultError("at the end")

    with pytest.raises(OurFaultError, match="at the end"):
        async with agent_client(app):
            pass


async def test_a_pre_shutdown_callback_that_fails_is_told():
    app = failing_agent()

    def callback() -> None:
        raise OurFaultError("before the end")

    app.register_pre_shutdown_callback(callback)
    with pytest.raises(OurFaultError, match="before the end"):
        async with running(app) as agent:
            await agent.drain()


async def test_only_an_agent_host_can_be_run():
    with pytest.raises(TypeError, match="an InvocationAgentServerHost is wanted, not object"):
        await running(object()).__aenter__()  # type: ignore[arg-type]


@pytest.mark.parametrize("options", [{"timeout_s": -1}, {"within_s": float("nan")}])
async def test_times_that_make_no_sense_are_refused(options: dict[str, float]):
    with pytest.raises(ValueError, match="must be a finite, non-negative number of seconds"):
        await running(failing_agent(), **options).__aenter__()
