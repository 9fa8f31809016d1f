"""An agent's own WebSocket routes, which talk to the server without the host between them."""

import pytest
from starlette.responses import JSONResponse
from starlette.routing import WebSocketRoute
from websockets.exceptions import ConnectionClosed, InvalidStatus

from tests.integration.agentserver.conftest import serve


async def refuse(websocket):
    await websocket.close()


async def deny(websocket):
    await websocket.send_denial_response(JSONResponse({"no": 1}, 418, headers={"x-why": "tea"}))


async def fail_early(websocket):
    raise ValueError("secret")


async def say_nothing(websocket):
    pass


async def send_early(websocket):
    await websocket._send({"type": "websocket.send", "text": "x"})


def serving(endpoint):
    return serve(routes=[WebSocketRoute("/own", endpoint)])


@pytest.mark.parametrize(
    ("endpoint", "status"),
    [(refuse, 403), (deny, 418), (fail_early, 500), (say_nothing, 500), (send_early, 500)],
)
async def test_an_upgrade_that_is_not_accepted(endpoint, status):
    async with serving(endpoint) as host:
        with pytest.raises(InvalidStatus) as caught:
            await host.connect("/own")
    response = caught.value.response
    assert response.status_code == status
    assert b"secret" not in response.body
    if status == 418:
        assert response.headers["x-why"] == "tea"
        assert response.body == b'{"no":1}'


async def test_a_subprotocol_can_be_agreed():
    async def endpoint(websocket):
        await websocket.accept(subprotocol=websocket.scope["subprotocols"][1])
        await websocket.send_text("hello")

    async with serving(endpoint) as host:
        async with host.connect("/own", subprotocols=["a", "b"]) as client:
            assert client.subprotocol == "b"
            assert await client.recv() == "hello"
            await client.wait_closed()
            assert client.close_code == 1000


@pytest.mark.parametrize("code", [1005, 999, 5000])
async def test_a_code_that_may_not_be_sent_is_the_agents_failure(code):
    async def endpoint(websocket):
        await websocket.accept()
        await websocket.close(code)

    async with serving(endpoint) as host, host.connect("/own") as client:
        with pytest.raises(ConnectionClosed):
            await client.recv()
        assert client.close_code == 1011


async def test_a_failure_after_accepting_is_1011():
    async def endpoint(websocket):
        await websocket.accept()
        raise ValueError("secret")

    async with serving(endpoint) as host, host.connect("/own") as client:
        await client.wait_closed()
        assert (client.close_code, client.close_reason) == (1011, "Internal server error")


async def test_what_comes_behind_a_body_is_no_header():
    async def handler(request):
        names = [name for name in request.headers if name.startswith("x-mine")]
        return JSONResponse([names, (await request.body()).decode()])

    async with serve() as host:
        host.app.invoke_handler(handler)
        answer = await host.http(
            b"POST /invocations HTTP/1.1\r\nHost: x\r\nConnection: close\r\nx-mine-1: a\r\n"
            b"Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nx-mine-2: b\r\n\r\n"
        )
    assert answer.endswith(b'[["x-mine-1"],"hello"]')
