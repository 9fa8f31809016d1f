import asyncio
import threading

from starlette.testclient import TestClient

from trunkline.agentserver import InvocationAgentServerHost
from trunkline.agentserver._draining import Draining


async def test_waiting_ends_when_it_is_set():
    draining = Draining()
    waiting = [asyncio.ensure_future(draining.wait()) for _ in range(2)]
    await asyncio.sleep(0)
    assert not draining.is_set()
    draining.set()
    await asyncio.gather(*waiting)
    assert draining.is_set()
    await draining.wait()


async def test_another_thread_may_set_it():
    draining = Draining()
    waiting = asyncio.ensure_future(draining.wait())
    await asyncio.sleep(0)
    thread = threading.Thread(target=draining.set)
    thread.start()
    await asyncio.wait_for(waiting, 5)
    thread.join()


async def test_a_cancelled_wait_is_forgotten():
    draining = Draining()
    waiting = asyncio.ensure_future(draining.wait())
    await asyncio.sleep(0)
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)
    draining.set()
    await asyncio.sleep(0)
    assert not draining._waiters


def test_readiness_and_new_invocations_are_refused_meanwhile():
    app = InvocationAgentServerHost()

    @app.invoke_handler
    async def invoke(request):
        raise AssertionError("not to be called")

    client = TestClient(app)
    assert client.get("/readiness").status_code == 200
    app.draining.set()
    answer = client.get("/readiness")
    assert (answer.status_code, answer.json()) == (503, {"status": "draining"})
    answer = client.post("/invocations")
    assert (answer.status_code, answer.json()["error"]["code"]) == (503, "shutting_down")
    app.draining.clear()
    assert client.get("/readiness").status_code == 200


def test_a_websocket_handler_can_know():
    app = InvocationAgentServerHost()

    @app.ws_handler
    async def talk(websocket):
        assert websocket.state.draining is app.draining
        await websocket.state.draining.wait()
        await websocket.send_text("so long")

    with TestClient(app).websocket_connect("/invocations_ws") as websocket:
        app.draining.set()
        assert websocket.receive_text() == "so long"
