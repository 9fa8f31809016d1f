"""Agents that speak HTTP, and a real gateway in front of them."""

import asyncio
import contextlib
import tempfile
from collections.abc import AsyncIterator, Callable
from typing import Any

import httpx2
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from tests.support.gateway import Gateway, running_gateway
from tests.unit.gateway.answers import Answer, parse_answer
from trunkline.runtimes.interface import Address

PREFIX = "/api/projects/default/agents/echo/endpoint/protocols/invocations"
V1 = "api-version=v1"


class _AgentServer(uvicorn.Server):
    """A uvicorn that says when it serves, and leaves signals alone."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.is_ready = asyncio.Event()
        self.capture_signals = contextlib.nullcontext  # type: ignore[method-assign]

    async def startup(self, sockets: Any = None) -> None:
        await super().startup(sockets)
        self.is_ready.set()


@contextlib.asynccontextmanager
async def asgi_agent(app: Any, *, tcp: bool = False) -> AsyncIterator[Address]:
    with tempfile.TemporaryDirectory(prefix="trunkline-test-") as folder:
        where: dict[str, Any] = {"port": 0} if tcp else {"uds": f"{folder}/agent.sock"}
        server = _AgentServer(
            uvicorn.Config(app, **where, lifespan="off", ws="none", log_config=None)
        )
        serving = asyncio.create_task(server.serve())
        await server.is_ready.wait()
        port = server.servers[0].sockets[0].getsockname()[1] if tcp else None
        try:
            yield Address(port=port) if tcp else Address(path=where["uds"])
        finally:
            server.should_exit = server.force_exit = True
            await serving


@contextlib.asynccontextmanager
async def gateway_to(app: Any, *, tcp: bool = False) -> AsyncIterator[Gateway]:
    """A gateway in front of ``app`` that has to get rid of every connection and lease."""
    async with asgi_agent(app, tcp=tcp) as address, running_gateway(address) as gateway:
        yield gateway
        while gateway.sessions.held or gateway.server.server_state.connections:
            await gateway.answers()


@contextlib.asynccontextmanager
async def client_of(gateway: Gateway) -> AsyncIterator[httpx2.AsyncClient]:
    async with httpx2.AsyncClient(
        base_url=f"http://127.0.0.1:{gateway.port}",
        headers={"Authorization": f"Bearer {gateway.token()}"},
        trust_env=False,
        timeout=None,
    ) as client:
        yield client


def head(gateway: Gateway, method: str, target: str, *extra: str) -> bytes:
    lines = [f"{method} {target} HTTP/1.1", "Host: x", f"Authorization: Bearer {gateway.token()}"]
    return "\r\n".join([*lines, *extra]).encode() + b"\r\n\r\n"


async def ask(gateway: Gateway, method: str, target: str, *extra: str) -> Answer:
    reader, writer = await gateway.open()
    writer.write(head(gateway, method, target, "Connection: close", *extra))
    raw = await reader.read()
    writer.close()
    return parse_answer(raw)


def assert_enveloped(response: httpx2.Response, status: int, code: str) -> dict[str, Any]:
    assert response.status_code == status
    assert response.headers["content-type"] == "application/json"
    assert response.headers["x-request-id"]
    error: dict[str, Any] = response.json()["error"]
    assert error["code"] == code
    return error


async def mirror(request: Request) -> Response:
    """Tell a caller all that reached the agent."""
    body = await request.body()
    return JSONResponse(
        {
            "method": request.method,
            "path": request.scope["raw_path"].decode(),
            "query": request.scope["query_string"].decode(),
            "headers": [(n.decode(), v.decode()) for n, v in request.headers.raw],
            "body": body.decode("latin-1"),
        }
    )


def app_of(endpoint: Callable[[Request], Any]) -> Starlette:
    methods = ["GET", "POST", "HEAD"]
    return Starlette(routes=[Route("/{path:path}", endpoint, methods=methods)])
