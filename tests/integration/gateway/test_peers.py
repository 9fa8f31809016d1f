"""What another process of the platform gets to know of an HTTP request that is passed on to it."""

import datetime as dt

import httpx2
import pytest
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from tests.integration.gateway.http_agents import app_of, asgi_agent, mirror
from tests.support.gateway import running_gateway
from trunkline.gateway.peers import Peers
from trunkline.platform.guard import Guard
from trunkline.protocol.ids import AgentName, NodeId, ProjectName, SessionId, SessionKey
from trunkline.sessions.elsewhere import SessionElsewhereError
from trunkline.store.records import NodeRecord

NODE = NodeId("n1")
KEY = SessionKey(ProjectName("default"), AgentName("echo"), SessionId("s"))


class Nodes:
    """The one other process there is."""

    def __init__(self, port: int) -> None:
        url = f"http://127.0.0.1:{port}"
        self._record = NodeRecord(node=NODE, heartbeat_at=dt.datetime.now(dt.UTC), url=url)

    async def find_node(self, node: NodeId) -> NodeRecord | None:
        return self._record if node == NODE else None


@pytest.mark.parametrize("trusted", [(), ("192.0.2.0/24",)])
async def test_whom_a_request_is_from_is_told_by_the_process_it_came_to(
    trusted: tuple[str, ...],
) -> None:
    async with (
        asgi_agent(app_of(mirror), tcp=True) as other,
        running_gateway(other, trusted_proxies=trusted) as gateway,
    ):
        assert other.port is not None
        peers = Peers(Nodes(other.port), connect_timeout_s=5)

        async def pass_on(request: Request) -> Response:
            return await peers.forward(request, SessionElsewhereError(KEY, NODE))

        guarded = Starlette(
            routes=[Route("/api/x", pass_on)],
            middleware=[Middleware(Guard, services=gateway.services)],
        )
        transport = httpx2.ASGITransport(guarded, client=("192.0.2.7", 1))
        async with httpx2.AsyncClient(transport=transport, base_url="http://x") as client:
            answer = await client.get(
                "/api/x",
                headers=[("x-forwarded-for", "10.9.8.7"), ("x-forwarded-for", "203.0.113.1")],
            )
        told = [value for name, value in answer.json()["headers"] if name == "x-forwarded-for"]
        # The other process trusts this one: what anybody made up must not reach it.
        assert told == (["203.0.113.1"] if trusted else ["192.0.2.7"])
