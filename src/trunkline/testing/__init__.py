"""Run an agent in a test, without a network and without waiting.

::

    from trunkline.testing import agent_client


    async def test_it_answers():
        async with agent_client(app) as ws:
            await ws.send_text("hello")
            assert await ws.receive_text() == "you said: hello"

The agent is served by its real host: handshake, frames, limits, keep-alive, close codes and
drain are those that a client on a network meets. Its time stands still until the test lets it
pass. Nothing but the base install is needed, and any way to run an async test will do.
"""

from trunkline.testing._agent import RunningAgent, WebSocketClient, agent_client, running
from trunkline.testing._closed import Closed
from trunkline.testing._errors import (
    AgentStartError,
    AgentTestError,
    NothingCameError,
    NotListeningError,
    RestlessError,
    UnexpectedMessageError,
    UpgradeRefusedError,
    WebSocketClosedError,
)
from trunkline.testing._http import HttpResponse

__all__ = [
    "AgentStartError",
    "AgentTestError",
    "Closed",
    "HttpResponse",
    "NotListeningError",
    "NothingCameError",
    "RestlessError",
    "RunningAgent",
    "UnexpectedMessageError",
    "UpgradeRefusedError",
    "WebSocketClient",
    "WebSocketClosedError",
    "agent_client",
    "running",
]
