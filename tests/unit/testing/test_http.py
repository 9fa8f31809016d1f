"""What a test does over HTTP."""

import asyncio
import json
from collections.abc import AsyncIterator

import pytest
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route

from trunkline.agentserver import InvocationAgentServerHost, get_request_context
from trunkline.testing import NothingCameError, NotListeningError, running


async def describe(request: Request) -> Response:
    context = get_request_context()
    return JSONResponse(
        {
            "body": (await request.body()).decode(),
            "type": request.headers.get("content-type"),
            "session": request.state.session_id,
            "user": context.user_id,
            "call": context.call_id,
            "mine": request.headers.get("x-mine"),
            "query": request.query_params.get("q"),
        }
    )


def agent(invoke=describe, **options) -> InvocationAgentServerHost:
    app = InvocationAgentServerHost(access_log=None, **options)
    app.invoke_handler(invoke)
    return app


@pytest.mark.parametrize(
    ("body", "sent", "kind"),
    [
        (b"\x01\x02", "\x01\x02", "application/octet-stream"),
        ("text", "text", "text/plain; charset=utf-8"),
        ({"a": [1]}, '{"a": [1]}', "application/json"),
        (b"", "", None),
    ],
)
async def test_a_body_is_sent_as_what_it_is(body: object, sent: str, kind: str | None):
    async with running(agent()) as running_agent:
        answer = await running_agent.invoke(body)
    assert answer.status_code == 200
    assert (answer.json()["body"], answer.json()["type"]) == (sent, kind)


async def test_a_content_type_of_ones_own_is_kept():
    async with running(agent()) as running_agent:
        answer = await running_agent.invoke(b"x", headers={"Content-Type": "audio/wav"})
    assert answer.json()["type"] == "audio/wav"


async def test_the_agent_learns_who_is_calling():
    async with running(agent()) as running_agent:
        answer = await running_agent.invoke(
            b"",
            session_id="s-1",
            user_id="ada",
            call_id="c1",
            headers={"x-mine": "yes"},
            query={"q": "a b&c"},
        )
    said = answer.json()
    assert (said["session"], said["user"], said["call"]) == ("s-1", "ada", "c1")
    assert (said["mine"], said["query"]) == ("yes", "a b&c")
    assert answer.headers["X-Agent-Session-Id"] == "s-1"


async def test_the_other_operations_and_the_authors_own_routes():
    async def get(request: Request) -> Response:
        return PlainTextResponse(f"got {request.state.invocation_id}")

    async def cancel(request: Request) -> Response:
        body = (await request.body()).decode()
        return PlainTextResponse(f"cancelled {request.state.invocation_id} {body}")

    async def own(request: Request) -> Response:
        return PlainTextResponse(request.method)

    app = agent(routes=[Route("/own", own, methods=["PUT"])])
    app.get_invocation_handler(get)
    app.cancel_invocation_handler(cancel)
    async with running(app) as running_agent:
        assert (await running_agent.get_invocation("i1")).text == "got i1"
        assert (await running_agent.cancel_invocation("i1", "please")).text == "cancelled i1 please"
        assert (await running_agent.request("PUT", "/own")).content == b"PUT"
        assert (await running_agent.request("GET", "/nowhere")).status_code == 404


async def ticks(request: Request) -> Response:
    async def events() -> AsyncIterator[str]:
        for number in range(3):
            yield f"data: {number}\r\n\r\n"
            await asyncio.sleep(10)

    return StreamingResponse(events(), media_type="text/event-stream")


async def test_a_stream_is_read_as_it_comes():
    async with running(agent(ticks)) as running_agent, running_agent.invoke() as answer:
        assert answer.headers["content-type"].startswith("text/event-stream")
        assert await answer.receive() == b"data: 0\r\n\r\n"
        with pytest.raises(NothingCameError, match="nothing came after the first 11 bytes"):
            await answer.receive(timeout_s=0)
        await running_agent.advance(10)
        assert await answer.receive() == b"data: 1\r\n\r\n"
        assert (await answer.read(within_s=20)).endswith(b"data: 2\r\n\r\n")
        assert await answer.receive() == b""


async def test_a_stream_is_read_by_lines():
    async with running(agent(ticks), within_s=10) as running_agent:
        async with running_agent.invoke() as answer:
            lines = [line async for line in answer.lines()]
    assert lines == ["data: 0", "", "data: 1", "", "data: 2", ""]


async def test_letters_that_are_cut_in_two_come_whole():
    async def invoke(request: Request) -> Response:
        async def parts() -> AsyncIterator[bytes]:
            data = "ä\nö".encode()
            for byte in data:
                yield bytes([byte])
                await asyncio.sleep(0.01)

        return StreamingResponse(parts())

    async with running(agent(invoke), within_s=1) as running_agent:
        async with running_agent.invoke() as answer:
            assert [line async for line in answer.lines()] == ["ä", "ö"]


async def test_event_streams_are_kept_alive_in_the_agents_time(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("SSE_KEEPALIVE_INTERVAL", "4")
    async with running(agent(ticks)) as running_agent, running_agent.invoke() as answer:
        await answer.receive()
        await running_agent.advance(9)
        assert (await answer.receive()).startswith(b":")


async def test_hanging_up_ends_a_stream():
    ended = asyncio.Event()

    async def invoke(request: Request) -> Response:
        async def events() -> AsyncIterator[str]:
            try:
                while True:
                    yield "x"
                    await asyncio.sleep(1)
            finally:
                ended.set()

        return StreamingResponse(events())

    async with running(agent(invoke)) as running_agent:
        async with running_agent.invoke() as answer:
            assert await answer.receive() == b"x"
        await running_agent.advance(1)
        assert ended.is_set()


async def test_an_answer_that_does_not_come_is_said_to_be_missing():
    async def invoke(request: Request) -> Response:
        await asyncio.sleep(60)
        return Response()

    async with running(agent(invoke), timeout_s=0.5) as running_agent:
        with pytest.raises(
            NothingCameError, match=r"POST /invocations was not answered(.|\n)*due in 60 s"
        ):
            await running_agent.invoke()
        assert (await running_agent.invoke(within_s=60)).status_code == 200


async def test_a_request_over_the_host_limits_is_refused_by_the_host():
    async with running(agent()) as running_agent:
        answer = await running_agent.invoke(b"", headers={"x-large": "x" * 70_000})
        assert answer.status_code == 431


async def test_a_large_body_goes_both_ways():
    async def invoke(request: Request) -> Response:
        return Response(await request.body())

    body = bytes(range(256)) * 20_000
    async with running(agent(invoke)) as running_agent:
        assert (await running_agent.invoke(body)).content == body


async def test_an_agent_that_has_stopped_takes_no_calls():
    async with running(agent()) as running_agent:
        await running_agent.stop()
        with pytest.raises(NotListeningError, match="the agent has stopped"):
            await running_agent.invoke()


async def test_draining_refuses_new_calls_and_lets_open_ones_end():
    async def invoke(request: Request) -> Response:
        await asyncio.sleep(5)
        return PlainTextResponse("done")

    app = agent(invoke, drain_timeout_s=30)
    async with running(app) as running_agent:
        async with running_agent.request("GET", "/readiness") as answer:
            assert json.loads(await answer.read()) == {"status": "healthy"}
        call = asyncio.ensure_future(_text(running_agent))
        await running_agent.advance(0)
        await running_agent.drain()
        ready = await running_agent.request("GET", "/readiness")
        assert (ready.status_code, ready.json()) == (503, {"status": "draining"})
        assert (await running_agent.invoke()).status_code == 503
        await running_agent.advance(5)
        assert await call == "done"


async def _text(running_agent) -> str:
    return (await running_agent.invoke()).text
