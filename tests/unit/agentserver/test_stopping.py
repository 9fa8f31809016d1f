"""The times of stopping fit into the time there is."""

import logging

import pytest

from trunkline.agentserver import InvocationAgentServerHost
from trunkline.agentserver._draining import Draining
from trunkline.agentserver._stopping import Stopping
from trunkline.testing import agent_client


@pytest.mark.parametrize(
    ("limit_s", "drain_s", "grace_s", "expected"),
    [
        (0, 60, 30, (60, 30)),
        (20, 0, 9, (0, 9)),
        (20, 5, 5, (5, 5)),
        (20, 60, 9, (9, 4)),
        (20, 60, 0, (18, 0)),
        (20, 0, 30, (0, 9)),
        (20, 3, 30, (3, 7)),
        (2, 60, 30, (0.75, 0)),
    ],
)
def test_they_fit(limit_s, drain_s, grace_s, expected):
    stopping = Stopping.within(limit_s, draining=Draining(), drain_s=drain_s, grace_s=grace_s)
    assert (stopping.drain_s, stopping.grace_s) == expected


async def test_what_the_platform_says_is_heeded_and_told(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    monkeypatch.setenv("TRUNKLINE_STOP_TIMEOUT", "20")
    with caplog.at_level(logging.WARNING):
        app = InvocationAgentServerHost(drain_timeout_s=60, graceful_shutdown_timeout=9)
    assert "drain_timeout_s is 60 s" in caplog.text
    assert "WebSockets will get 9 s" in caplog.text

    async def talk(websocket):
        await websocket.receive()

    app.ws_handler(talk)
    async with agent_client(app) as ws:
        await ws.agent.drain()
        await ws.agent.advance(8.9)
        assert ws.closed is None
        await ws.agent.advance(0.1)
        assert (await ws.wait_closed()).code == 1001


def test_a_time_that_is_none_is_refused(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("TRUNKLINE_STOP_TIMEOUT", "soon")
    with pytest.raises(ValueError, match="TRUNKLINE_STOP_TIMEOUT must be a number of seconds"):
        InvocationAgentServerHost()
